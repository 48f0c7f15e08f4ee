"""Whether a candidate becomes champion: what was measured of both on the same rows, against limits."""

from dataclasses import asdict, dataclass, field

import numpy as np

from deepfm.metrics.binary import Metrics
from deepfm.settings.deployment import PromotionLimits

_NUM_RESAMPLES = 2_000


@dataclass(frozen=True)
class Slice:
    """The impressions with one value of a field."""

    num_rows: int
    ctr: float
    mean_probability: float
    logloss: float


@dataclass(frozen=True)
class Measured:
    """One model on the held-out rows."""

    metrics: Metrics
    # (G, 2): the logloss summed over the rows of each of G random groups, and their number. A row is in the
    # same group for every model.
    groups: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    slices: dict[str, dict[str, Slice]] = field(default_factory=dict)  # by field and value
    unknown: dict[str, float] = field(default_factory=dict)  # by field: share of the rows whose value is
    load_seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate becomes champion, and why."""

    promoted: bool
    reasons: tuple[str, ...]


def decide(candidate: Measured, champion: Measured | None, limits: PromotionLimits) -> Verdict:
    """Compare both on the same rows: promoted where nothing is worse than allowed.

    Without a champion only what a model promises by itself is looked at: its calibration may be anything, as
    there is nothing better to score with, but its scores must be numbers.
    """
    one = candidate.metrics
    if champion is None:
        is_number = bool(np.isfinite([one.logloss, one.mean_probability]).all())
        reasons = ("there is no champion yet", _described(one))
        return Verdict(is_number, reasons if is_number else ("FAILED: its scores are no numbers", reasons[1]))
    other = champion.metrics
    checks = [
        (
            one.logloss - other.logloss <= limits.max_logloss_increase,
            f"logloss {one.logloss:.5f}, the champion's {other.logloss:.5f}{_interval(candidate, champion)}, "
            f"may be {limits.max_logloss_increase} more",
        ),
        (
            other.auc - one.auc <= limits.max_auc_decrease,
            f"AUC {one.auc:.5f}, the champion's {other.auc:.5f}, may be {limits.max_auc_decrease} less",
        ),
        (
            limits.min_calibration <= one.calibration <= limits.max_calibration,
            f"calibration {one.calibration:.3f}, "
            f"must be {limits.min_calibration} to {limits.max_calibration}",
        ),
        (
            one.ece <= limits.max_ece,
            f"expected calibration error {one.ece:.4f}, may be {limits.max_ece}",
        ),
        *_slice_checks(candidate, champion, limits),
        *_unknown_checks(candidate, champion, limits),
    ]
    if limits.max_load_seconds is not None:
        seconds = candidate.load_seconds
        told = f"loads in {seconds:.2f} s, may take {limits.max_load_seconds}"
        checks.append((seconds <= limits.max_load_seconds, told))
    # Written so that a nan, which compares false with everything, never passes.
    return Verdict(
        all(passed for passed, _ in checks),
        tuple(f"{'ok' if ok else 'FAILED'}: {text}" for ok, text in checks),
    )


def logloss_interval(candidate: Measured, champion: Measured) -> tuple[float, float] | None:
    """95 % of the difference of the mean loglosses; None where there are too few rows to say.

    A bootstrap over random groups of rows, drawn by their hash: the same interval in every run.
    """
    one, other = candidate.groups, champion.groups
    there = (one[:, 1] > 0) & (other[:, 1] > 0) if len(one) == len(other) else np.zeros(0, bool)
    if there.sum() < 30:
        return None
    sums = np.stack([one[there], other[there]])  # (2, groups, 2)
    drawn = np.random.default_rng(0).integers(0, there.sum(), (_NUM_RESAMPLES, there.sum()))
    loss, rows = (sums[:, drawn, at].sum(axis=2) for at in (0, 1))  # (2, resamples)
    low, high = np.quantile(loss[0] / rows[0] - loss[1] / rows[1], [0.025, 0.975])
    return float(low), float(high)


def document(candidate: Measured, champion: Measured | None, verdict: Verdict) -> dict:
    """All that the verdict rests on, for machines."""
    interval = champion and logloss_interval(candidate, champion)
    return {
        "promoted": verdict.promoted,
        "reasons": list(verdict.reasons),
        "logloss_difference_95": interval and list(interval),
        "candidate": _figures(candidate),
        "champion": champion and _figures(champion),
    }


def _figures(measured: Measured) -> dict:
    metrics = measured.metrics
    return {
        **asdict(metrics),
        "calibration": metrics.calibration,
        "normalised_entropy": metrics.normalised_entropy,
        "load_seconds": round(measured.load_seconds, 3),
        "unknown": measured.unknown,
        "slices": {
            name: {value: asdict(found) for value, found in of_field.items()}
            for name, of_field in measured.slices.items()
        },
    }


def _interval(candidate: Measured, champion: Measured) -> str:
    interval = logloss_interval(candidate, champion)
    return "" if interval is None else f" (difference {interval[0]:+.5f} to {interval[1]:+.5f} at 95 %)"


def _slice_checks(candidate: Measured, champion: Measured, limits: PromotionLimits) -> list[tuple[bool, str]]:
    """Of each field the slice that lost most."""
    checks = []
    for name, slices in candidate.slices.items():
        of_champion = champion.slices.get(name, {})
        increases = {
            value: found.logloss - of_champion[value].logloss
            for value, found in slices.items()
            if value in of_champion
        }
        if not increases:
            continue
        worst = max(increases, key=increases.get)
        told = (
            f"{name}: of {len(increases)} slices {worst!r} lost most, logloss {increases[worst]:+.5f}, "
            f"may be {limits.max_slice_logloss_increase} more"
        )
        checks.append((increases[worst] <= limits.max_slice_logloss_increase, told))
    return checks


def _unknown_checks(
    candidate: Measured, champion: Measured, limits: PromotionLimits
) -> list[tuple[bool, str]]:
    shared = [name for name in candidate.unknown if name in champion.unknown]
    if not shared:
        return []
    increases = {name: candidate.unknown[name] - champion.unknown[name] for name in shared}
    worst = max(increases, key=increases.get)
    told = (
        f"unknown values: most more than the champion's in {worst}, {candidate.unknown[worst]:.1%} and "
        f"{champion.unknown[worst]:.1%}, may be {limits.max_unknown_increase:.1%} more"
    )
    return [(increases[worst] <= limits.max_unknown_increase, told)]


def _described(metrics: Metrics) -> str:
    return f"logloss {metrics.logloss:.5f}, AUC {metrics.auc:.5f}, calibration {metrics.calibration:.3f}"
