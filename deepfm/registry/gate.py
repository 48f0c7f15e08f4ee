"""Promotion gate: decides from metrics on the same rows whether a candidate becomes champion."""

from dataclasses import asdict, dataclass, field

import numpy as np

from deepfm.metrics.binary import Metrics
from deepfm.settings.deployment import PromotionLimits

_NUM_RESAMPLES = 2_000
_MIN_GROUPS = 30


@dataclass(frozen=True)
class Slice:
    """Metrics of the impressions with one value of a field; all but `num_rows` use their weights."""

    num_rows: int
    ctr: float
    mean_probability: float
    logloss: float


@dataclass(frozen=True)
class ModelEvaluation:
    """Metrics of one model on the held-out rows."""

    metrics: Metrics
    # (G, 2): logloss sum and number (or weight) of the rows of each of G random groups. A row is in the same
    # group for every model.
    groups: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    slices: dict[str, dict[str, Slice]] = field(default_factory=dict)  # by field and value
    unknown: dict[str, float] = field(default_factory=dict)  # by field: share of rows with an unknown value
    load_seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Decision of the gate and its reasons."""

    promoted: bool
    reasons: tuple[str, ...]


def decide(candidate: ModelEvaluation, champion: ModelEvaluation | None, limits: PromotionLimits) -> Verdict:
    """Compare both on the same rows; the candidate is promoted if every check passes.

    Without a champion, the candidate's scores only have to be finite: there is no better model to score with.
    On rows without a click nothing is promoted: the join of the clicks has probably failed.
    """
    new = candidate.metrics
    if not new.ctr > 0:
        return Verdict(False, ("FAILED: the held-out rows have no click", _format_metrics(new)))
    if champion is None:
        is_finite = bool(np.isfinite([new.logloss, new.mean_probability]).all())
        reason = "there is no champion yet" if is_finite else "FAILED: its scores are NaN or infinite"
        return Verdict(is_finite, (reason, _format_metrics(new)))
    old = champion.metrics
    checks = [
        (
            new.logloss - old.logloss <= limits.max_logloss_increase,
            f"logloss {new.logloss:.5f}, the champion's {old.logloss:.5f}{_interval(candidate, champion)}, "
            f"allowed increase {limits.max_logloss_increase}",
        ),
        (
            old.auc - new.auc <= limits.max_auc_decrease,
            f"AUC {new.auc:.5f}, the champion's {old.auc:.5f}, allowed decrease {limits.max_auc_decrease}",
        ),
        (
            limits.min_calibration <= new.calibration <= limits.max_calibration,
            f"calibration {new.calibration:.3f}, "
            f"allowed {limits.min_calibration} to {limits.max_calibration}",
        ),
        (
            new.ece <= limits.max_ece,
            f"expected calibration error {new.ece:.4f}, allowed {limits.max_ece}",
        ),
        *_slice_checks(candidate, champion, limits),
        *_unknown_checks(candidate, champion, limits),
    ]
    if limits.max_load_seconds is not None:
        seconds = candidate.load_seconds
        text = f"loads in {seconds:.2f} s, allowed {limits.max_load_seconds}"
        checks.append((seconds <= limits.max_load_seconds, text))
    # Written so that NaN, which compares false with everything, never passes.
    return Verdict(
        all(passed for passed, _ in checks),
        tuple(f"{'ok' if ok else 'FAILED'}: {text}" for ok, text in checks),
    )


def logloss_interval(candidate: ModelEvaluation, champion: ModelEvaluation) -> tuple[float, float] | None:
    """Return the 95 % interval of the difference of mean loglosses; None if there are too few rows.

    Bootstrap over random groups of rows, assigned by hash: the interval is the same in every run.
    """
    new, old = candidate.groups, champion.groups
    has_rows = (new[:, 1] > 0) & (old[:, 1] > 0) if len(new) == len(old) else np.zeros(0, bool)
    num_groups = has_rows.sum()
    if num_groups < _MIN_GROUPS:
        return None
    sums = np.stack([new[has_rows], old[has_rows]])  # (2, groups, 2)
    resampled = np.random.default_rng(0).integers(0, num_groups, (_NUM_RESAMPLES, num_groups))
    loss, rows = (sums[:, resampled, column].sum(axis=2) for column in (0, 1))  # (2, resamples)
    low, high = np.quantile(loss[0] / rows[0] - loss[1] / rows[1], [0.025, 0.975])
    return float(low), float(high)


def document(candidate: ModelEvaluation | None, champion: ModelEvaluation | None, verdict: Verdict) -> dict:
    """Return the verdict and the metrics it is based on, if any, as a JSON document."""
    interval = logloss_interval(candidate, champion) if candidate and champion else None
    return {
        "promoted": verdict.promoted,
        "reasons": list(verdict.reasons),
        "logloss_difference_95": interval and list(interval),
        "candidate": candidate and _evaluation_document(candidate),
        "champion": champion and _evaluation_document(champion),
    }


def _evaluation_document(evaluation: ModelEvaluation) -> dict:
    metrics = evaluation.metrics
    return {
        **asdict(metrics),
        "calibration": metrics.calibration,
        "normalised_entropy": metrics.normalised_entropy,
        "load_seconds": round(evaluation.load_seconds, 3),
        "unknown": evaluation.unknown,
        "slices": {
            name: {value: asdict(part) for value, part in field_slices.items()}
            for name, field_slices in evaluation.slices.items()
        },
    }


def _interval(candidate: ModelEvaluation, champion: ModelEvaluation) -> str:
    interval = logloss_interval(candidate, champion)
    return "" if interval is None else f" (difference {interval[0]:+.5f} to {interval[1]:+.5f} at 95 %)"


def _slice_checks(
    candidate: ModelEvaluation, champion: ModelEvaluation, limits: PromotionLimits
) -> list[tuple[bool, str]]:
    """Check the slice with the largest logloss increase of each field."""
    checks = []
    for name, slices in candidate.slices.items():
        champion_slices = champion.slices.get(name, {})
        increases = {
            value: part.logloss - champion_slices[value].logloss
            for value, part in slices.items()
            if value in champion_slices
        }
        if not increases:
            continue
        worst = max(increases, key=increases.__getitem__)
        text = (
            f"{name}: worst of {len(increases)} slices is {worst!r}, logloss {increases[worst]:+.5f}, "
            f"allowed increase {limits.max_slice_logloss_increase}"
        )
        checks.append((increases[worst] <= limits.max_slice_logloss_increase, text))
    return checks


def _unknown_checks(
    candidate: ModelEvaluation, champion: ModelEvaluation, limits: PromotionLimits
) -> list[tuple[bool, str]]:
    shared = [name for name in candidate.unknown if name in champion.unknown]
    if not shared:
        return []
    increases = {name: candidate.unknown[name] - champion.unknown[name] for name in shared}
    worst = max(increases, key=increases.__getitem__)
    text = (
        f"unknown values: largest increase in {worst}, {candidate.unknown[worst]:.1%}, the champion's "
        f"{champion.unknown[worst]:.1%}, allowed increase {limits.max_unknown_increase:.1%}"
    )
    return [(increases[worst] <= limits.max_unknown_increase, text)]


def _format_metrics(metrics: Metrics) -> str:
    return f"logloss {metrics.logloss:.5f}, AUC {metrics.auc:.5f}, calibration {metrics.calibration:.3f}"
