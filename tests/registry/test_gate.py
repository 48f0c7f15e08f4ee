"""The gate: what is compared, and what is never let through."""

from dataclasses import replace

import numpy as np
import pytest

from deepfm.metrics.binary import Metrics
from deepfm.registry.gate import Measured, Slice, decide, document, logloss_interval
from deepfm.settings.deployment import PromotionLimits

METRICS = Metrics(num_rows=1000, logloss=0.45, auc=0.80, ctr=0.25, mean_probability=0.25, ece=0.0)
LIMITS = PromotionLimits(
    max_logloss_increase=0.001, max_auc_decrease=0.002, min_calibration=0.9, max_calibration=1.1
)


CHAMPION = Measured(METRICS)


def changed(**changes):
    return Measured(replace(METRICS, **changes))


def test_the_first_candidate_is_promoted():
    verdict = decide(changed(auc=0.1), None, LIMITS)
    assert verdict.promoted
    assert verdict.reasons == (
        "there is no champion yet",
        "logloss 0.45000, AUC 0.10000, calibration 1.000",
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"logloss": 0.40, "auc": 0.85},
        {"logloss": 0.4509},
        {"auc": 0.7981},
        {"mean_probability": 0.23},
        {"mean_probability": 0.27},
    ],
)
def test_candidate_within_the_limits_is_promoted(change):
    verdict = decide(changed(**change), CHAMPION, LIMITS)
    assert verdict.promoted
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["ok"] * 4


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"logloss": 0.4511}, "FAILED: logloss 0.45110, the champion's 0.45000, may be 0.001 more"),
        ({"auc": 0.7979}, "FAILED: AUC 0.79790, the champion's 0.80000, may be 0.002 less"),
        ({"mean_probability": 0.22}, "FAILED: calibration 0.880, must be 0.9 to 1.1"),
        ({"mean_probability": 0.28}, "FAILED: calibration 1.120, must be 0.9 to 1.1"),
        ({"auc": 0.9, "logloss": 0.46}, "FAILED: logloss 0.46000, the champion's 0.45000, may be 0.001 more"),
    ],
)
def test_worse_candidate_is_not_promoted(change, failed):
    verdict = decide(changed(**change), CHAMPION, LIMITS)
    assert not verdict.promoted
    assert [reason for reason in verdict.reasons if reason.startswith("FAILED")] == [failed]


@pytest.mark.parametrize("key", ["logloss", "auc", "mean_probability"])
def test_nan_never_passes(key):
    assert not decide(changed(**{key: float("nan")}), CHAMPION, LIMITS).promoted


def test_a_day_without_clicks_never_passes():
    silent = changed(ctr=0.0, auc=float("nan"))
    assert not decide(silent, silent, LIMITS).promoted


def measured(losses, **parts):
    """Of two rows a group."""
    losses = np.asarray(losses, float)
    groups = np.stack([2 * losses, np.full(len(losses), 2.0)], axis=1)
    return Measured(replace(METRICS, logloss=float(losses.mean())), groups, **parts)


def test_the_interval_holds_the_difference_and_narrows_with_more_rows():
    random = np.random.default_rng(1)
    widths = []
    for num_groups in (100, 1000):
        champion = random.exponential(0.45, num_groups)
        gap = random.normal(0.01, 0.05, num_groups)
        low, high = logloss_interval(measured(champion + gap), measured(champion))
        assert low < gap.mean() < high
        # Paired: the spread of the gap counts, not that of the losses.
        assert high - low == pytest.approx(2 * 1.96 * gap.std() / num_groups**0.5, rel=0.15)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_of_few_rows_no_interval_is_told():
    assert logloss_interval(measured([0.4] * 29), measured([0.5] * 29)) is None
    assert logloss_interval(CHAMPION, CHAMPION) is None


def test_the_interval_is_told_with_the_logloss():
    reason = decide(measured([0.45] * 40), measured([0.45] * 40), LIMITS).reasons[0]
    assert "(difference +0.00000 to +0.00000 at 95 %)" in reason


def test_a_candidate_that_is_badly_calibrated_in_places_is_not_promoted():
    verdict = decide(changed(ece=0.06), CHAMPION, LIMITS)
    assert [r for r in verdict.reasons if "FAILED" in r] == [
        "FAILED: expected calibration error 0.0600, may be 0.05"
    ]


def slices(**loglosses):
    return {"site": {value: Slice(1000, 0.25, 0.25, logloss) for value, logloss in loglosses.items()}}


def test_a_slice_that_lost_too_much_is_not_promoted_and_one_only_the_candidate_has_says_nothing():
    champion = replace(CHAMPION, slices=slices(a=0.4, b=0.5))
    verdict = decide(replace(CHAMPION, slices=slices(a=0.39, b=0.51, new=9.0)), champion, LIMITS)
    assert not verdict.promoted
    assert "FAILED: site: of 2 slices 'b' lost most, logloss +0.01000, may be 0.005 more" in verdict.reasons
    assert decide(replace(CHAMPION, slices=slices(a=0.39, b=0.504)), champion, LIMITS).promoted


def test_a_candidate_that_knows_fewer_values_is_not_promoted():
    champion = replace(CHAMPION, unknown={"a": 0.1, "b": 0.1})
    verdict = decide(replace(CHAMPION, unknown={"a": 0.1, "b": 0.2, "new": 1.0}), champion, LIMITS)
    assert [r for r in verdict.reasons if "FAILED" in r] == [
        "FAILED: unknown values: most more than the champion's in b, 20.0% and 10.0%, may be 5.0% more"
    ]


def test_a_model_that_loads_slowly_is_refused_where_there_is_a_limit():
    slow = replace(CHAMPION, load_seconds=3.0)
    assert decide(slow, CHAMPION, LIMITS).promoted
    verdict = decide(slow, CHAMPION, LIMITS.model_copy(update={"max_load_seconds": 2.0}))
    assert verdict.reasons[-1] == "FAILED: loads in 3.00 s, may take 2.0"


def test_a_first_candidate_whose_scores_are_no_numbers_is_not_promoted():
    verdict = decide(changed(logloss=float("nan")), None, LIMITS)
    assert not verdict.promoted


def test_the_document_holds_what_the_verdict_rests_on():
    candidate, champion = measured([0.4] * 40, slices=slices(a=0.4)), measured([0.5] * 40)
    told = document(candidate, champion, decide(candidate, champion, LIMITS))
    assert told["promoted"] and told["logloss_difference_95"] == [pytest.approx(-0.1)] * 2
    assert told["candidate"]["slices"]["site"]["a"]["num_rows"] == 1000
    assert told["champion"]["logloss"] == pytest.approx(0.5)
    assert document(candidate, None, decide(candidate, None, LIMITS))["champion"] is None
