"""Drift report of a day as an HTML page and as JSON."""

from dataclasses import asdict

import numpy as np
from matplotlib.figure import Figure

from deepfm import html as pages
from deepfm.artifact.reference import Reference
from deepfm.dataset.profiling.value_names import value_name
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.metrics.binary import bin_logits
from deepfm.metrics.formulas import sigmoid
from deepfm.scoring.drift import Drift

_BODY = """
{% for text in warnings %}
<p class="warning">{{ text }}</p>
{% else %}
<p>Within all limits.</p>
{% endfor %}
<table>
<tr><th></th><th>this day</th><th>before</th></tr>
<tr><td>impressions</td><td>{{ drift.num_rows | thousands }}</td>
<td>{% for num in rows_before %}{{ num | thousands }} {% endfor %}</td></tr>
<tr><td>mean probability</td><td>{{ drift.mean_probability | digits }}</td>
<td>{{ drift.mean_probability_before | digits }}</td></tr>
<tr><td>PSI of the scores</td><td>{{ drift.psi | digits }}</td><td></td></tr>
<tr><td>KS of the scores</td><td>{{ drift.ks | digits }}</td><td></td></tr>
</table>
<img alt="Scores of this day and of the reference" src="{{ scores }}">
<h2>Fields</h2>
<p>Before: the model's test rows. A PSI below 0.1 is small, above 0.25 large.</p>
<table>
<tr><th>field</th><th>PSI</th><th>missing</th><th>before</th><th>unknown</th><th>before</th></tr>
{% for field in drift.fields %}
<tr><td>{{ field.name }}</td><td>{{ field.psi | digits }}</td><td>{{ field.missing | percent }}</td>
<td>{{ field.missing_before | percent }}</td><td>{{ field.unknown | percent }}</td>
<td>{{ field.unknown_before | percent }}</td></tr>
{% endfor %}
</table>
<h2>Values whose share changed most</h2>
<table>
<tr><th>field</th><th class="text">value</th><th>this day</th><th>before</th></tr>
{% for value in moved %}
<tr><td>{{ value.field }}</td><td class="text"><code>{{ value.name }}</code></td>
<td>{{ value.share | percent }}</td><td>{{ value.share_before | percent }}</td></tr>
{% endfor %}
</table>
"""


def document(drift: Drift, warnings: list[str], vocabulary: Vocabulary) -> dict:
    """Return the drift report as a JSON document."""
    return {**asdict(drift), "moved": _with_names(drift, vocabulary), "warnings": warnings}


def drift_page(
    title: str,
    drift: Drift,
    warnings: list[str],
    rows_before: list[int],
    scores: np.ndarray,
    reference: Reference,
    vocabulary: Vocabulary,
) -> str:
    """Render the drift report as an HTML page."""
    return pages.render_page(
        title,
        _BODY,
        drift=drift,
        warnings=warnings,
        rows_before=rows_before,
        moved=_with_names(drift, vocabulary),
        scores=pages.image_data_uri(_score_plot(scores, np.asarray(reference.scores))),
    )


def _with_names(drift: Drift, vocabulary: Vocabulary) -> list[dict]:
    named = []
    for value in drift.moved:
        index = vocabulary.fields.names.index(value.field)
        field = vocabulary.fields[index]
        if field.is_value:
            name = "any number"
        elif field.hash_buckets:
            name = f"bucket {value.index}"
        else:
            name = value_name(vocabulary, index, field.first_known_id + value.index)
        named.append({"name": name, **asdict(value)})
    return named


def _score_plot(now: np.ndarray, before: np.ndarray) -> Figure:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    probabilities = sigmoid(bin_logits())
    for counts, name, colour in ((before, "before", "tab:gray"), (now, "this day", "tab:blue")):
        weights = counts / max(counts.sum(), 1)
        axes.hist(probabilities, bins=25, range=(0, 1), weights=weights, alpha=0.5, label=name, color=colour)
    axes.set_xlabel("probability")
    axes.set_ylabel("share of the impressions")
    axes.legend()
    return figure
