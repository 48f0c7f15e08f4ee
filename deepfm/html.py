"""Self-contained HTML pages: images are embedded, and nothing is loaded or executed."""

import base64
import io
import math

import jinja2
from matplotlib.figure import Figure

# The policy prevents a browser from loading or executing anything, even if a log value were not escaped.
_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
body { font: 15px/1.4 sans-serif; max-width: 68em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .5em 0 1.5em }
th, td { padding: .15em .7em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
th:first-child, td:first-child, .text { text-align: left; overflow-wrap: anywhere; min-width: 5.5em }
.warning { background: #fff1d6; padding: .3em .8em }
.field { display: flex; flex-wrap: wrap; gap: 2em; align-items: flex-start }
img { max-width: 100% }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% block body %}{% endblock %}
</body>
</html>
"""


def render_page(title: str, body: str, **values) -> str:
    """Render a jinja2 template as the body of a page. Values are escaped, because they may be untrusted."""
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.ChainableUndefined,
        loader=jinja2.DictLoader(
            {
                "frame": _FRAME,
                "page": "{% extends 'frame' %}{% block body %}" + body + "{% endblock %}",
            }
        ),
    )
    environment.filters |= {"thousands": _thousands, "percent": _percent, "digits": _digits}
    return environment.get_template("page").render(title=title, **values)


def image_data_uri(figure: Figure) -> str:
    """Encode a figure as a PNG data URI."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _is_none(number: float | jinja2.Undefined | None) -> bool:
    return number is None or isinstance(number, jinja2.Undefined) or math.isnan(number)


def _thousands(number: int | None) -> str:
    return "" if _is_none(number) else f"{number:,}"


def _percent(share: float | jinja2.Undefined) -> str:
    return "" if _is_none(share) else f"{share:.2%}"


def _digits(number: float | None) -> str:
    return "" if _is_none(number) else f"{number:.4g}"
