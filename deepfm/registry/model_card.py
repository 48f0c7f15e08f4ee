"""The model card of a registered version: what it learnt from, how good it is, what it is not for.

After M. Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

import jinja2
from matplotlib.figure import Figure

from deepfm import page as pages
from deepfm.dataset.manifest import Manifest
from deepfm.model_settings import ModelSettings
from deepfm.training.metrics import Metrics
from deepfm.training.outcome import Outcome

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
<h2>Intended use</h2>
<p>{{ intended_use }}</p>
<h2>Limits</h2>
<ul>{% for limit in limits %}<li>{{ limit }}</li>{% endfor %}</ul>
<h2>Curves</h2>
{% for name, picture in pictures %}<img alt="{{ name }}" src="{{ picture }}">{% endfor %}
"""


def markdown(name: str, settings: ModelSettings, manifest: Manifest, outcome: Outcome) -> str:
    """The card as text."""
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)
    return environment.from_string(_MARKDOWN).render(_content(name, settings, manifest, outcome))


def html(
    name: str, settings: ModelSettings, manifest: Manifest, outcome: Outcome, drawn: dict[str, Figure]
) -> str:
    """The card as a page, with the pictures of registry.figures."""
    content = _content(name, settings, manifest, outcome)
    pictures = [(file, pages.image(figure)) for file, figure in drawn.items()]
    return pages.page(content.pop("title"), _HTML, pictures=pictures, **content)


def _content(name: str, settings: ModelSettings, manifest: Manifest, outcome: Outcome) -> dict:
    log = manifest.input
    kinds = [field.kind for field in manifest.fields]
    facts = [
        ("Model", f"{settings.model}, {outcome.num_weights:,} weights, {sum(manifest.num_ids):,} ids"),
        ("Fields", ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))),
        ("Log", log.url),
        *((f"Days of {part}", " to ".join(dict.fromkeys(days))) for part, days in log.days.items()),
        *((f"Impressions of {part}", f"{found.num_rows:,}") for part, found in manifest.splits.items()),
        ("Dataset", manifest.digest),
        ("Epochs", f"{len(outcome.training.epochs)}, of which {outcome.training.best} is kept"),
        ("Seed", str(settings.training.seed)),
    ]
    return {
        "title": f"Model {name}",
        "facts": facts,
        "metrics": [(row, *_pair(text, outcome.valid, outcome.test)) for row, text in _ROWS],
        "intended_use": _INTENDED_USE,
        "limits": _LIMITS,
    }


def _pair(text, valid: Metrics, test: Metrics) -> tuple[str, str]:
    return text(valid), text(test)
