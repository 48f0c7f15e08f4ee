"""Counts of a log's rows, clicks and weights by split and day."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from deepfm.click_log.parse import ParsedRows
from deepfm.click_log.split import OUTSIDE, SPLITS
from deepfm.features.sampling import SAMPLED_OUT


@dataclass(frozen=True)
class RowCounts:
    """Rows of a log: {split: {day: (rows, clicks)}}, and {reason: rows} of the rejected ones.

    A row of an aggregated log counts as the one or two rows that it becomes, except in `num_read`.
    """

    by_day: dict[str, dict[str, tuple[int, int]]]
    bad_by_reason: dict[str, int]
    # {split: {day: (weight, weight of the clicks)}}; empty: every row counts once
    weights: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    num_second: int = 0  # rows that share a row of the log with another one
    bad_clicks: dict[str, int] = field(default_factory=dict)  # {reason: rejected rows that are clicks}

    def num_rows(self, split: str) -> int:
        return sum(rows for rows, _ in self.by_day.get(split, {}).values())

    @property
    def num_bad(self) -> int:
        return sum(self.bad_by_reason.values())

    @property
    def num_read(self) -> int:
        """Rows of the log."""
        return self.num_bad + sum(self.num_rows(split) for split in self.by_day) - self.num_second

    def totals(self, split: str) -> dict[str, tuple[float, float]]:
        """{day: (impressions, clicks)} of a split: sums of weights if there are any, else numbers of rows."""
        return dict(self.weights.get(split, {}) if self.weights else self.by_day.get(split, {}))


def count_rows(parsed: ParsedRows, codes: np.ndarray) -> pa.Table:
    """Good rows and (rows,) part codes -> (split, day, num, num_clicks, num_second, weight, click_weight).

    One row per split and day; the weights are missing if the log has none.
    """
    names = np.array([*SPLITS, "sampled_out", "outside"], dtype=object)
    assert (len(SPLITS), -1) == (SAMPLED_OUT, OUTSIDE), "codes must be indices of names"
    columns = {"split": pa.array(names[codes], pa.string()), "day": parsed.days}
    columns["num_clicks"] = pa.array(parsed.labels, pa.int64())
    sums = ["num_clicks"]
    if parsed.is_second is not None:
        columns["num_second"] = pa.array(parsed.is_second.astype(np.int64))
        sums.append("num_second")
    if parsed.weights is not None:
        columns["weight"] = pa.array(parsed.weights)
        columns["click_weight"] = pa.array(np.where(parsed.labels == 1, parsed.weights, 0.0))
        sums += ["weight", "click_weight"]
    grouped = pa.table(columns).group_by(["split", "day"])
    counts = grouped.aggregate([("num_clicks", "count"), *((name, "sum") for name in sums)])
    names_of_sums = {"num_clicks_count": "num", **{f"{name}_sum": name for name in sums}}
    return counts.rename_columns([names_of_sums.get(name, name) for name in counts.column_names])


def sum_row_counts(
    counts: Iterable[Any], bad_by_reason: dict[str, int], bad_clicks: dict[str, int]
) -> RowCounts:
    """Sum rows of `count_rows` over all tasks."""
    by_day: dict[str, dict[str, tuple[int, int]]] = {split: {} for split in SPLITS}
    weights: dict[str, dict[str, tuple[float, float]]] = {}
    num_second = 0
    # Sorted, so that the order in which tasks finish does not change the sums.
    for row in sorted(counts, key=lambda row: (row.weight or 0.0, row.click_weight or 0.0)):
        day = row.day or ""
        num, clicks = by_day.setdefault(row.split, {}).get(day, (0, 0))
        by_day[row.split][day] = (num + row.num, clicks + row.num_clicks)
        num_second += row.num_second or 0
        if row.weight is not None:
            weight, click_weight = weights.setdefault(row.split, {}).get(day, (0.0, 0.0))
            weights[row.split][day] = (weight + row.weight, click_weight + row.click_weight)
    return RowCounts(
        {name: dict(sorted(days.items())) for name, days in by_day.items()},
        dict(sorted(bad_by_reason.items())),
        {name: dict(sorted(days.items())) for name, days in weights.items()},
        num_second,
        bad_clicks,
    )
