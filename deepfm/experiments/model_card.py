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
#: Models whose loglosses differ by less than this share are called equally good.
_SAME_LOGLOSS = 0.0005
_MARKDOWN = """# {{ title }}

{% for text in warnings %}
**Warning:** {{ text }}

{% endfor %}
{% for name, text in facts %}
- {{ name }}: {{ text }}
{% endfor %}

| | validation | test |
|---|---:|---:|
{% for name, valid, test in metrics %}
| {{ name }} | {{ valid }} | {{ test }} |
{% endfor %}

{% if stages %}
## Stages, validation rows, uncalibrated

| model | epochs | kept | logloss | AUC | mean probability / CTR | time |
|---|---:|---:|---:|---:|---:|---:|
{% for stage in stages %}
| {{ stage | join(" | ") }} |
{% endfor %}

{% endif %}
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
{% for text in warnings %}<p><strong>Warning:</strong> {{ text }}</p>{% endfor %}
<table>
{% for name, text in facts %}<tr><td>{{ name }}</td><td class="text">{{ text }}</td></tr>{% endfor %}
</table>
<table>
<tr><th></th><th>validation</th><th>test</th></tr>
{% for name, valid, test in metrics %}<tr><td>{{ name }}</td><td>{{ valid }}</td><td>{{ test }}</td></tr>
{% endfor %}
</table>
{% if stages %}<h2>Stages, validation rows, uncalibrated</h2>
<table>
<tr><th class="text">model</th><th>epochs</th><th>kept</th><th>logloss</th><th>AUC</th>
<th>mean probability / CTR</th><th>time</th></tr>
{% for stage in stages %}
<tr>{% for cell in stage %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>{% endif %}
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
        ("Calibration", _calibration(settings, result)),
        ("Seed", str(settings.training.seed)),
    ]
    return {
        "title": f"Model {name}",
        "facts": facts,
        "warnings": _warnings(settings, result),
        "metrics": [(row, text(result.valid), text(result.test)) for row, text in _ROWS],
        "stages": _stage_rows(settings, result),
        "slices": [(field, value, _slice_cells(metrics)) for field, value, metrics in slices],
        "intended_use": _INTENDED_USE,
        "limits": _LIMITS,
    }


def _calibration(settings: ModelSettings, result: TrainingResult) -> str:
    fitted = result.calibration
    if fitted is None:
        return f"none: {result.not_calibrated_because}" if result.not_calibrated_because else "none"
    before, after = result.uncalibrated["test"], result.test
    assert after is not None
    return (
        f"{fitted.method}, fitted on the validation rows; test rows before and after: logloss "
        f"{before.logloss:.5f} and {after.logloss:.5f}, expected calibration error {before.ece:.5f} and "
        f"{after.ece:.5f}, mean probability / CTR {before.calibration:.4f} and {after.calibration:.4f}"
    )


def _stage_rows(settings: ModelSettings, result: TrainingResult) -> list[tuple[str, ...]]:
    """Model, epochs, kept epoch, uncalibrated validation metrics and time of each stage, if several."""
    if not result.earlier:
        return []
    rows = []
    for name, history in result.stages.items():
        best = history.best_valid
        values = (best.logloss, best.auc, best.calibration) if best else ()
        cells = [f"{value:.5f}" for value in values] or [""] * 3
        epochs = f"{len(history.epochs)}", str(history.best or "")
        rows.append((name or settings.model, *epochs, *cells, f"{history.seconds:.0f} s"))
    return rows


def _warnings(settings: ModelSettings, result: TrainingResult) -> list[str]:
    """Reasons not to use the model as it is."""
    names = [name for name in result.earlier if settings.is_staged and not _is_improved(name, result)]
    if not names:
        return []
    return [
        f"On the validation rows {names[0]}, a simpler model, is as good. Use it, or try a smaller "
        "deep part, more training rows or other fields."
    ]


def _is_improved(name: str, result: TrainingResult) -> bool:
    """Whether the finished model has a clearly lower validation logloss than an earlier stage."""
    earlier, final = result.earlier[name].best_valid, result.history.best_valid
    if earlier is None or final is None:
        return True
    return final.logloss < earlier.logloss * (1 - _SAME_LOGLOSS)


def _impressions(metrics: Metrics) -> str:
    """Number of impressions; of weighted rows their number and the sum of their weights."""
    rows = f"{metrics.num_rows:,}"
    return rows if metrics.weight is None else f"{rows} rows, weight {metrics.weight:,.0f}"


def _slice_cells(metrics: SliceMetrics) -> tuple[str, ...]:
    values = (metrics.ctr, metrics.logloss, metrics.auc, metrics.calibration)
    return f"{metrics.num_rows:,}", *("" if math.isnan(value) else f"{value:.4f}" for value in values)
