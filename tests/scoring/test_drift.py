"""Drift metrics match values computed by hand, and exceeded limits give warnings."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from deepfm.artifact.reference import Reference
from deepfm.metrics.binary import SCORE_BINS, bin_logits
from deepfm.metrics.field_counts import FIRST_SHOWN, MISSING, NUM_KINDS, UNKNOWN
from deepfm.scoring.drift import deciles, drift_warnings, ks, measure_drift, must_stop, psi
from deepfm.settings.deployment import DriftLimits


def scores(mean, seed=0, num_rows=20_000):
    """(SCORE_BINS,) counts of normal logits."""
    edges = np.append(bin_logits() - 1 / 64, 16)
    return np.histogram(np.random.default_rng(seed).normal(mean, 1, num_rows), edges)[0]


def kinds(**shares):
    """(NUM_KINDS,) counts of 1000 impressions."""
    indices = {"missing": MISSING, "unknown": UNKNOWN, "first": FIRST_SHOWN, "second": FIRST_SHOWN + 1}
    counts = np.zeros(NUM_KINDS, np.int64)
    for name, share in shares.items():
        counts[indices[name]] = share
    return counts


REFERENCE = Reference(
    scores=tuple(scores(-1).tolist()),
    names=("A", "B", "X"),
    fields=tuple(
        tuple(counts.tolist())
        for counts in (kinds(first=600, second=400), kinds(missing=100, first=900), kinds())
    ),
    mean_probability=0.3,
    ctr=0.3,
)


def drift_of(*, mean=-1.0, a=None, b=None, excluded=()):
    a = kinds(first=600, second=400) if a is None else a
    b = kinds(missing=100, first=900) if b is None else b
    fields = np.stack([a, b, kinds()])
    return measure_drift(REFERENCE, scores(mean, seed=1), fields, 0.31, excluded)


def test_psi_is_the_sum_over_kinds():
    expected = (0.5 - 0.8) * math.log(0.5 / 0.8) + (0.5 - 0.2) * math.log(0.5 / 0.2)
    assert psi(np.array([50, 50]), np.array([8, 2])) == pytest.approx(expected)
    assert psi(np.array([3, 7]), np.array([30, 70])) == 0


def test_psi_is_finite_if_one_side_lacks_a_kind():
    assert 1 < psi(np.array([0, 10]), np.array([5, 5])) < 10


def test_ks_equals_the_statistic_of_scipy():
    one, other = scores(-1, 2, 500), scores(-0.7, 3, 400)
    samples = [np.repeat(np.arange(SCORE_BINS), counts) for counts in (one, other)]
    assert ks(one, other) == pytest.approx(ks_2samp(*samples).statistic)


def test_each_decile_holds_a_tenth_of_the_rows():
    counts = scores(-1)
    by_decile = np.bincount(deciles(counts), weights=counts, minlength=10) / counts.sum()
    assert by_decile == pytest.approx(np.full(10, 0.1), abs=0.015)


def test_a_day_like_the_reference_is_within_all_limits():
    drift = drift_of()
    assert drift.psi < 0.01 and drift.ks < 0.02
    assert drift_warnings(drift, DriftLimits(), [20_000, 21_000]) == []


def test_a_shift_of_the_scores_gives_a_warning():
    drift = drift_of(mean=0.0)
    assert drift.psi > 0.5
    (warning,) = drift_warnings(drift, DriftLimits(), [])
    assert warning.startswith("scores: PSI ") and warning.endswith("is above 0.25")


def test_only_the_drift_of_the_scores_stops_a_day():
    limits = DriftLimits(stop_psi=0.5)
    other_fields = drift_of(b=kinds(missing=600, first=400))
    assert drift_warnings(other_fields, limits, [90_000]) and not must_stop(other_fields, limits)
    other_scores = drift_of(mean=0.0)
    assert must_stop(other_scores, limits) and not must_stop(other_scores, DriftLimits())
    assert "the maximum that is published" in drift_warnings(other_scores, limits, [])[0]
    assert must_stop(replace(other_fields, psi=math.nan), limits)


def test_an_excluded_field_is_not_measured():
    drift = drift_of(b=kinds(missing=600, first=400), excluded=("B",))
    assert [field.name for field in drift.fields] == ["A"]
    assert {value.field for value in drift.moved} <= {"A"}


def test_a_field_that_changed_comes_first_and_gives_a_warning():
    drift = drift_of(b=kinds(missing=600, first=400))
    assert [field.name for field in drift.fields] == ["B", "A"]
    assert (drift.fields[0].missing, drift.fields[0].missing_before) == (0.6, 0.1)
    (warning,) = drift_warnings(drift, DriftLimits(), [])
    assert warning.startswith("B: PSI ")


def test_more_unknown_values_give_a_warning():
    drift = drift_of(a=kinds(unknown=120, first=528, second=352))
    assert "A: 12.0% of the impressions are unknown, 0.0% before, allowed increase 10.0%" in drift_warnings(
        drift, DriftLimits(), []
    )


@pytest.mark.parametrize(("before", "is_unusual"), [([20_000] * 3, False), ([50_000] * 3, True), ([], False)])
def test_an_unusual_number_of_rows_gives_a_warning(before, is_unusual):
    warnings = drift_warnings(drift_of(), DriftLimits(), before)
    assert [text.startswith("impressions: 20,000, the median of the 3 days before") for text in warnings] == [
        True
    ] * is_unusual


def test_values_whose_share_changed_most_come_first():
    first, second = drift_of(a=kinds(first=700, second=300)).moved[:2]
    assert {(value.field, value.index, value.share) for value in (first, second)} == {
        ("A", 0, 0.7),
        ("A", 1, 0.3),
    }


def test_values_with_an_unchanged_share_are_not_listed():
    assert drift_of().moved == ()
