"""The model card of a registered version: what it learnt from, how good it is, what it is not for.

After M. Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

import math
from collections.abc import Sequence

import jinja2
from matplotlib.figure import Figure

from deepfm import html as pages
from deepfm.dataset.manifest import Manifest
from deepfm.metrics.slices import SliceMetrics
from deepfm.settings.model import ModelSettings
from deepfm.training.result import TrainingResult

_ROWS = (
    ("impressions", lambda metrics: f"{metrics.num_rows:,}"),
    ("CTR", lambda metrics: f"{metrics.ctr:.5f}"),
    ("logloss", lambda metrics: f"{metrics.logloss:.5f}"),
    ("logloss of always the CTR", lambda metrics: f"{metrics.ctr_logloss:.5f}"),
    ("normalised entropy", lambda metrics: f"{metrics.normalised_entropy:.5f}"),
    ("AUC", lambda metrics: f"{metrics.auc:.5f}"),
    ("GAUC", lambda metrics: "" if metrics.gauc is None else f"{metrics.gauc:.5f}"),
    ("mean probability / CTR", lambda metrics: f"{metrics.calibration:.4f}"),
    ("expected calibration error", lambda metrics: f"{metrics.ece:.5f}"),
)
_INTENDED_USE = (
    "Probabilities that an impression of this log is clicked: to rank, to bid, to forecast, on days like "
    "those it learnt from. Differences between people that the log's fields do not show are not in them."
)
_LIMITS = (
    "What was not in the training days is one value to it: a new advertiser, a new user, a new word.",
    "A click is not a purchase, and what was never shown was never clicked: it knows only what earlier "
    "systems chose to show.",
    "It was measured on the days named above, the next ones may differ: watch the nightly report.",
)
_MARKDOWN = """# {{ title }}

{% for name, text in facts %}
- {{ name }}: {{ text }}
{% endfor %}

| | validation | test |
|---|---:|---:|
{% for name, valid, test in metrics %}
| {{ name }} | {{ valid }} | {{ test }} |
{% endfor %}

{% if slices %}
## By value, test rows

| field | value | impressions | CTR | logloss | AUC | mean probability / CTR |
|---|---|---:|---:|---:|---:|---:|
{% for field, value, figures in slices %}
| {{ field | cell }} | {{ value | cell }} | {{ figures | join(" | ") }} |
{% endfor %}

{% endif %}
## Intended use

{{ intended_use }}

## Limits

{% for limit in limits %}
- {{ limit }}
{% endfor %}
"""
_HTML = """
<table>
{% for name, text in facts %}<tr><td>{{ name }}</td><td class="text">{{ text }}</td></tr>{% endfor %}
</table>
<table>
<tr><th></th><th>validation</th><th>test</th></tr>
{% for name, valid, test in metrics %}<tr><td>{{ name }}</td><td>{{ valid }}</td><td>{{ test }}</td></tr>
{% endfor %}
</table>
{% if slices %}<h2>By value, test rows</h2>
<table>
<tr><th>field</th><th class="text">value</th><th>impressions</th><th>CTR</th><th>logloss</th><th>AUC</th>
<th>mean probability / CTR</th></tr>
{% for field, value, figures in slices %}
<tr><td>{{ field }}</td><td class="text"><code>{{ value }}</code></td>
{% for figure in figures %}<td>{{ figure }}</td>{% endfor %}</tr>
{% endfor %}
</table>{% endif %}
<h2>Intended use</h2>
<p>{{ intended_use }}</p>
<h2>Limits</h2>
<ul>{% for limit in limits %}<li>{{ limit }}</li>{% endfor %}</ul>
<h2>Curves</h2>
{% for name, picture in pictures %}<img alt="{{ name }}" src="{{ picture }}">{% endfor %}
"""


def markdown(card: dict) -> str:
    """What `content` says, as text."""
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)
    environment.filters["cell"] = _cell
    return environment.from_string(_MARKDOWN).render(card)


def html(card: dict, drawn: dict[str, Figure]) -> str:
    """What `content` says, as a page, with the pictures of registry.figures."""
    pictures = [(file, pages.image_data_uri(figure)) for file, figure in drawn.items()]
    return pages.render_page(
        card["title"], _HTML, pictures=pictures, **{k: v for k, v in card.items() if k != "title"}
    )


def _cell(text: str) -> str:
    """What came as data must neither end a cell nor be read as Markdown or HTML."""
    return "".join(f"\\{c}" if c in r"\`*_[]|<>#&" else c for c in text)


def content(
    name: str,
    settings: ModelSettings,
    manifest: Manifest,
    result: TrainingResult,
    slices: Sequence[tuple[str, str, SliceMetrics]] = (),
) -> dict:
    """What the card says; `slices`: see registry.slices."""
    log = manifest.input
    kinds = [field.kind for field in manifest.fields]
    facts = [
        ("Model", f"{settings.model}, {result.num_weights:,} weights, {sum(manifest.num_ids):,} ids"),
        ("Fields", ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))),
        ("Log", log.url),
        *((f"Days of {part}", " to ".join(dict.fromkeys(days))) for part, days in log.days.items()),
        *((f"Impressions of {part}", f"{found.num_rows:,}") for part, found in manifest.splits.items()),
        ("Dataset", manifest.digest),
        ("Epochs", f"{len(result.history.epochs)}, of which {result.history.best} is kept"),
        ("Seed", str(settings.training.seed)),
    ]
    return {
        "title": f"Model {name}",
        "facts": facts,
        "metrics": [(row, text(result.valid), text(result.test)) for row, text in _ROWS],
        "slices": [(field, value, _slice_figures(found)) for field, value, found in slices],
        "intended_use": _INTENDED_USE,
        "limits": _LIMITS,
    }


def _slice_figures(found: SliceMetrics) -> tuple[str, ...]:
    figures = (found.ctr, found.logloss, found.auc, found.calibration)
    return f"{found.num_rows:,}", *("" if math.isnan(figure) else f"{figure:.4f}" for figure in figures)
