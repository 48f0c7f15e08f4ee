"""The gate compares candidate and champion, and never promotes a model with invalid scores."""

from dataclasses import replace

import numpy as np
import pytest

from deepfm.metrics.binary import Metrics
from deepfm.registry.gate import ModelEvaluation, Slice, decide, document, logloss_interval
from deepfm.settings.deployment import PromotionLimits

METRICS = Metrics(num_rows=1000, logloss=0.45, auc=0.80, ctr=0.25, mean_probability=0.25, ece=0.0)
LIMITS = PromotionLimits(
    max_logloss_increase=0.001, max_auc_decrease=0.002, min_calibration=0.9, max_calibration=1.1
)


CHAMPION = ModelEvaluation(METRICS)


def evaluation_with(**changes):
    return ModelEvaluation(replace(METRICS, **changes))


def test_the_first_candidate_is_promoted():
    verdict = decide(evaluation_with(auc=0.1), None, LIMITS)
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
def test_a_candidate_within_the_limits_is_promoted(change):
    verdict = decide(evaluation_with(**change), CHAMPION, LIMITS)
    assert verdict.promoted
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["ok"] * 4


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"logloss": 0.4511}, "FAILED: logloss 0.45110, the champion's 0.45000, allowed increase 0.001"),
        ({"auc": 0.7979}, "FAILED: AUC 0.79790, the champion's 0.80000, allowed decrease 0.002"),
        ({"mean_probability": 0.22}, "FAILED: calibration 0.880, allowed 0.9 to 1.1"),
        ({"mean_probability": 0.28}, "FAILED: calibration 1.120, allowed 0.9 to 1.1"),
        (
            {"auc": 0.9, "logloss": 0.46},
            "FAILED: logloss 0.46000, the champion's 0.45000, allowed increase 0.001",
        ),
    ],
)
def test_a_worse_candidate_is_not_promoted(change, failed):
    verdict = decide(evaluation_with(**change), CHAMPION, LIMITS)
    assert not verdict.promoted
    assert [reason for reason in verdict.reasons if reason.startswith("FAILED")] == [failed]


@pytest.mark.parametrize("key", ["logloss", "auc", "mean_probability"])
def test_nan_never_passes(key):
    assert not decide(evaluation_with(**{key: float("nan")}), CHAMPION, LIMITS).promoted


@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_a_day_without_clicks_never_passes(champion):
    verdict = decide(evaluation_with(ctr=0.0, auc=float("nan")), champion, LIMITS)
    assert not verdict.promoted
    assert verdict.reasons[0] == "FAILED: the held-out rows have no click"


def evaluation_of(losses, **parts):
    """Evaluation with two rows per group."""
    losses = np.asarray(losses, float)
    groups = np.stack([2 * losses, np.full(len(losses), 2.0)], axis=1)
    return ModelEvaluation(replace(METRICS, logloss=float(losses.mean())), groups, **parts)


def test_the_interval_contains_the_difference_and_narrows_with_more_rows():
    random = np.random.default_rng(1)
    widths = []
    for num_groups in (100, 1000):
        champion = random.exponential(0.45, num_groups)
        gap = random.normal(0.01, 0.05, num_groups)
        low, high = logloss_interval(evaluation_of(champion + gap), evaluation_of(champion))
        assert low < gap.mean() < high
        # Paired: its width depends on the spread of the gaps, not on that of the losses.
        assert high - low == pytest.approx(2 * 1.96 * gap.std() / num_groups**0.5, rel=0.15)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_few_rows_have_no_interval():
    assert logloss_interval(evaluation_of([0.4] * 29), evaluation_of([0.5] * 29)) is None
    assert logloss_interval(CHAMPION, CHAMPION) is None


def test_the_interval_is_reported_with_the_logloss():
    reason = decide(evaluation_of([0.45] * 40), evaluation_of([0.45] * 40), LIMITS).reasons[0]
    assert "(difference +0.00000 to +0.00000 at 95 %)" in reason


def test_a_candidate_with_a_high_calibration_error_is_not_promoted():
    verdict = decide(evaluation_with(ece=0.06), CHAMPION, LIMITS)
    assert [r for r in verdict.reasons if "FAILED" in r] == [
        "FAILED: expected calibration error 0.0600, allowed 0.05"
    ]


def slices(**loglosses):
    return {"site": {value: Slice(1000, 0.25, 0.25, logloss) for value, logloss in loglosses.items()}}


def test_a_worse_slice_prevents_promotion_and_a_new_slice_is_ignored():
    champion = replace(CHAMPION, slices=slices(a=0.4, b=0.5))
    verdict = decide(replace(CHAMPION, slices=slices(a=0.39, b=0.51, new=9.0)), champion, LIMITS)
    assert not verdict.promoted
    assert (
        "FAILED: site: worst of 2 slices is 'b', logloss +0.01000, allowed increase 0.005" in verdict.reasons
    )
    assert decide(replace(CHAMPION, slices=slices(a=0.39, b=0.504)), champion, LIMITS).promoted


def test_a_candidate_that_knows_fewer_values_is_not_promoted():
    champion = replace(CHAMPION, unknown={"a": 0.1, "b": 0.1})
    verdict = decide(replace(CHAMPION, unknown={"a": 0.1, "b": 0.2, "new": 1.0}), champion, LIMITS)
    assert [r for r in verdict.reasons if "FAILED" in r] == [
        "FAILED: unknown values: largest increase in b, 20.0%, the champion's 10.0%, allowed increase 5.0%"
    ]


def test_a_model_that_loads_slowly_is_refused_if_there_is_a_limit():
    slow = replace(CHAMPION, load_seconds=3.0)
    assert decide(slow, CHAMPION, LIMITS).promoted
    verdict = decide(slow, CHAMPION, LIMITS.model_copy(update={"max_load_seconds": 2.0}))
    assert verdict.reasons[-1] == "FAILED: loads in 3.00 s, allowed 2.0"


def test_a_first_candidate_with_nan_scores_is_not_promoted():
    verdict = decide(evaluation_with(logloss=float("nan")), None, LIMITS)
    assert not verdict.promoted


def test_the_document_contains_the_verdict_and_its_metrics():
    candidate, champion = evaluation_of([0.4] * 40, slices=slices(a=0.4)), evaluation_of([0.5] * 40)
    verdict = document(candidate, champion, decide(candidate, champion, LIMITS))
    assert verdict["promoted"] and verdict["logloss_difference_95"] == [pytest.approx(-0.1)] * 2
    assert verdict["candidate"]["slices"]["site"]["a"]["num_rows"] == 1000
    assert verdict["champion"]["logloss"] == pytest.approx(0.5)
    assert document(candidate, None, decide(candidate, None, LIMITS))["champion"] is None
