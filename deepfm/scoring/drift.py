"""Drift of a day: its scores and fields compared with the test rows of its model."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from deepfm.artifact.reference import Reference
from deepfm.metrics.field_counts import MISSING, OTHER, UNKNOWN
from deepfm.settings.deployment import DriftLimits

#: Lower bound of a share: a kind that one side lacks must not make the sum infinite.
_MIN_SHARE = 1e-4
_NUM_MOVED = 10


@dataclass(frozen=True)
class FieldDrift:
    """Drift of one field."""

    name: str
    psi: float
    missing: float  # shares of the day's impressions, and of the reference's
    missing_before: float
    unknown: float
    unknown_before: float


@dataclass(frozen=True)
class MovedValue:
    """A known value whose share has changed."""

    field: str
    index: int  # among the field's known values, most frequent in training first
    share: float
    share_before: float


@dataclass(frozen=True)
class Drift:
    """Drift of a day from the reference."""

    num_rows: int
    mean_probability: float
    mean_probability_before: float
    psi: float  # of the scores
    ks: float
    fields: tuple[FieldDrift, ...]  # the most changed first
    moved: tuple[MovedValue, ...]


def psi(now: np.ndarray, before: np.ndarray) -> float:
    """(n,) counts of the same n kinds -> population stability index, the sum of (p - q) ln(p / q).

    This is the symmetric Kullback-Leibler divergence of the two distributions (S. Kullback and R. Leibler,
    1951, eq. 2.6). By convention below 0.1 is small and above 0.25 large. 0 if either has no rows.
    """
    if not now.sum() or not before.sum():
        return 0.0
    p, q = (np.maximum(counts / counts.sum(), _MIN_SHARE) for counts in (now, before))
    return float(((p - q) * np.log(p / q)).sum())


def ks(now: np.ndarray, before: np.ndarray) -> float:
    """(n,) counts by ordered range -> largest difference of cumulative shares (Kolmogorov-Smirnov)."""
    if not now.sum() or not before.sum():
        return 0.0
    return float(np.abs(np.cumsum(now) / now.sum() - np.cumsum(before) / before.sum()).max())


def deciles(before: np.ndarray) -> np.ndarray:
    """(n,) counts by ordered range -> (n,) approximate decile of each range."""
    cumulative = (np.cumsum(before) - before / 2) / max(before.sum(), 1)
    return np.minimum((cumulative * 10).astype(int), 9)


def measure_drift(
    reference: Reference,
    scores: np.ndarray,
    fields: np.ndarray,
    mean_probability: float,
    excluded: Collection[str] = (),
) -> Drift:
    """(SCORE_BINS,) and (F, NUM_KINDS) counts of a day -> its drift from the reference.

    `excluded`: fields that always differ, such as the weekday of a single day.
    """
    before = np.asarray(reference.scores)
    decile = deciles(before)
    by_decile = [np.bincount(decile, weights=counts, minlength=10) for counts in (scores, before)]
    drifts, moved = [], []
    for name, now, then in zip(reference.names, fields, np.asarray(reference.fields), strict=True):
        if name in excluded or not then.sum() or not now.sum():
            continue
        p, q = now / now.sum(), then / then.sum()
        drifts.append(FieldDrift(name, psi(now, then), p[MISSING], q[MISSING], p[UNKNOWN], q[UNKNOWN]))
        for kind in range(UNKNOWN + 1, OTHER):
            if p[kind] == q[kind]:
                continue  # includes indices beyond a field's known values
            moved.append(MovedValue(name, kind - UNKNOWN - 1, p[kind], q[kind]))
    return Drift(
        num_rows=int(scores.sum()),
        mean_probability=mean_probability,
        mean_probability_before=reference.mean_probability,
        psi=psi(*by_decile),
        ks=ks(scores, before),
        fields=tuple(sorted(drifts, key=lambda field: -field.psi)),
        moved=tuple(sorted(moved, key=lambda value: -abs(value.share - value.share_before))[:_NUM_MOVED]),
    )


def must_stop(drift: Drift, limits: DriftLimits) -> bool:
    """Whether the drift of the scores forbids publishing."""
    # Written so that NaN, which compares false with everything, stops.
    return limits.stop_psi is not None and not drift.psi <= limits.stop_psi


def drift_warnings(drift: Drift, limits: DriftLimits, rows_before: list[int]) -> list[str]:
    """Return one line per exceeded limit; `rows_before`: row counts of the published days before."""
    warnings = []
    if must_stop(drift, limits):
        warnings.append(
            f"scores: PSI {drift.psi:.3f} is above {limits.stop_psi}, the maximum that is published"
        )
    if drift.psi > limits.max_psi:
        warnings.append(f"scores: PSI {drift.psi:.3f} is above {limits.max_psi}")
    for field in drift.fields:
        if field.psi > limits.max_field_psi:
            warnings.append(f"{field.name}: PSI {field.psi:.3f} is above {limits.max_field_psi}")
        if field.unknown - field.unknown_before > limits.max_unknown_increase:
            warnings.append(
                f"{field.name}: {field.unknown:.1%} of the impressions are unknown, "
                f"{field.unknown_before:.1%} before, allowed increase {limits.max_unknown_increase:.1%}"
            )
    if rows_before:
        usual = float(np.median(rows_before))
        if abs(drift.num_rows - usual) > limits.max_rows_change * usual:
            warnings.append(
                f"impressions: {drift.num_rows:,}, the median of the {len(rows_before)} days before is "
                f"{usual:,.0f}, allowed difference {limits.max_rows_change:.0%}"
            )
    return warnings
