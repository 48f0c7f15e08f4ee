"""The drift report names values and escapes text from the log."""

import numpy as np
import pyarrow as pa

from deepfm.artifact.reference import Reference
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.metrics.binary import SCORE_BINS
from deepfm.metrics.field_counts import FIRST_SHOWN, NUM_KINDS
from deepfm.scoring.drift import measure_drift
from deepfm.scoring.report import document, drift_page

FIELDS = FieldSet(
    [
        Field(name="C", kind="category"),
        Field(name="H", kind="category", hash_buckets=5),
        Field(name="V", kind="value"),
    ]
)


def counts(first, second):
    kinds = np.zeros(NUM_KINDS, np.int64)
    kinds[[FIRST_SHOWN, FIRST_SHOWN + 1]] = first, second
    return kinds


def drifted_day():
    vocabulary = Vocabulary(
        FIELDS,
        [pa.array(["<script>", "b"]), pa.array([], pa.string()), pa.array([], pa.string())],
        [pa.array([9, 8]), pa.array([], pa.int64()), pa.array([], pa.int64())],
    )
    scores = np.zeros(SCORE_BINS, np.int64)
    scores[500:520] = 50
    before = [counts(50, 50), counts(20, 80), counts(100, 0)]
    reference = Reference(
        scores=tuple(scores.tolist()),
        names=FIELDS.names,
        fields=tuple(tuple(kinds.tolist()) for kinds in before),
        mean_probability=0.4,
        ctr=0.4,
    )
    drift = measure_drift(reference, scores, np.stack([counts(90, 10), counts(30, 70), counts(100, 0)]), 0.4)
    return drift, reference, vocabulary, scores


def test_moved_values_have_their_names():
    drift, _, vocabulary, _ = drifted_day()
    moved = document(drift, ["C: too much"], vocabulary)["moved"]
    assert {(value["field"], value["name"]) for value in moved} == {
        ("C", "<script>"), ("C", "b"), ("H", "bucket 0"), ("H", "bucket 1")
    }  # fmt: skip
    assert {value["share"] for value in moved[:2]} == {0.9, 0.1}


def test_the_page_shows_warnings_and_escapes_text_of_the_log():
    drift, reference, vocabulary, scores = drifted_day()
    page = drift_page(
        "2026-01-08", drift, ["C: PSI 0.9 is above 0.25"], [990, 1010], scores, reference, vocabulary
    )
    assert "C: PSI 0.9 is above 0.25" in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "data:image/png;base64," in page
    assert "Within all limits." in drift_page("x", drift, [], [], scores, reference, vocabulary)
