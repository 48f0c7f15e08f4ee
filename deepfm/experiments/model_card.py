"""Model card of a registered version: training data, metrics, intended use and limits.

Based on M. Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

import math
from collections.abc import Sequence

import jinja2
from matplotlib.figure import Figure

from deepfm import html as pages
from deepfm.dataset.manifest import Manifest
from deepfm.metrics.binary import Metrics
from deepfm.metrics.slices import SliceMetrics
from deepfm.settings.model import ModelSettings
from deepfm.training.result import TrainingResult

_ROWS = (
    ("impressions", lambda metrics: _impressions(metrics)),
    ("CTR", lambda metrics: f"{metrics.ctr:.5f}"),
    ("logloss", lambda metrics: f"{metrics.logloss:.5f}"),
    ("logloss of predicting the CTR", lambda metrics: f"{metrics.ctr_logloss:.5f}"),
    ("normalised entropy", lambda metrics: f"{metrics.normalised_entropy:.5f}"),
    ("AUC", lambda metrics: f"{metrics.auc:.5f}"),
    ("GAUC", lambda metrics: "" if metrics.gauc is None else f"{metrics.gauc:.5f}"),
    ("mean probability / CTR", lambda metrics: f"{metrics.calibration:.4f}"),
    ("expected calibration error", lambda metrics: f"{metrics.ece:.5f}"),
)
_INTENDED_USE = (
    "Click probabilities of impressions of this log, for ranking, bidding and forecasting, on days similar "
    "to the training days. Differences that the fields of the log do not contain are not modelled."
)
_LIMITS = (
    "Values that did not occur in the training days, such as new advertisers, are all treated alike.",
    "A click is not a purchase. The training data contains only impressions that earlier systems showed.",
    "The metrics are those of the test days. Later days can differ: monitor the daily drift report.",
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
{% for field, value, metrics in slices %}
| {{ field | cell }} | {{ value | cell }} | {{ metrics | join(" | ") }} |
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
{% for field, value, metrics in slices %}
<tr><td>{{ field }}</td><td class="text"><code>{{ value }}</code></td>
{% for metric in metrics %}<td>{{ metric }}</td>{% endfor %}</tr>
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
    """Render the result of `content` as Markdown."""
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)
    environment.filters["cell"] = _cell
    return environment.from_string(_MARKDOWN).render(card)


def html(card: dict, plots: dict[str, Figure]) -> str:
    """Render the result of `content` as an HTML page with plots, by file name."""
    pictures = [(file, pages.image_data_uri(figure)) for file, figure in plots.items()]
    return pages.render_page(
        card["title"], _HTML, pictures=pictures, **{k: v for k, v in card.items() if k != "title"}
    )


def _cell(text: str) -> str:
    """Escape a value from the data, so that it neither ends a cell nor is read as Markdown or HTML."""
    return "".join(f"\\{c}" if c in r"\`*_[]|<>#&" else c for c in text)


def content(
    name: str,
    settings: ModelSettings,
    manifest: Manifest,
    result: TrainingResult,
    slices: Sequence[tuple[str, str, SliceMetrics]] = (),
) -> dict:
    """Content of the card; `slices`: see slice_names.named_slices."""
    log = manifest.input
    kinds = [field.kind for field in manifest.fields]
    facts = [
        ("Model", f"{settings.model}, {result.num_weights:,} weights, {sum(manifest.num_ids):,} ids"),
        ("Fields", ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))),
        ("Log", log.url),
        *((f"Days of {part}", " to ".join(dict.fromkeys(days))) for part, days in log.days.items()),
        *((f"Impressions of {name}", f"{part.num_rows:,}") for name, part in manifest.splits.items()),
        ("Dataset", manifest.digest),
        ("Epochs", f"{len(result.history.epochs)}, epoch {result.history.best} is kept"),
        ("Seed", str(settings.training.seed)),
    ]
    return {
        "title": f"Model {name}",
        "facts": facts,
        "metrics": [(row, text(result.valid), text(result.test)) for row, text in _ROWS],
        "slices": [(field, value, _slice_cells(metrics)) for field, value, metrics in slices],
        "intended_use": _INTENDED_USE,
        "limits": _LIMITS,
    }


def _impressions(metrics: Metrics) -> str:
    """Number of impressions; of weighted rows their number and the sum of their weights."""
    rows = f"{metrics.num_rows:,}"
    return rows if metrics.weight is None else f"{rows} rows, weight {metrics.weight:,.0f}"


def _slice_cells(metrics: SliceMetrics) -> tuple[str, ...]:
    values = (metrics.ctr, metrics.logloss, metrics.auc, metrics.calibration)
    return f"{metrics.num_rows:,}", *("" if math.isnan(value) else f"{value:.4f}" for value in values)
