"""Labels and weights of weighted rows, and of aggregated rows: I impressions of which C were clicked.

An aggregated row becomes a row with label 1 and weight C and a row with label 0 and weight I - C.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deepfm.click_log.row_format import BAD_CLICKS, BAD_WEIGHT, RowFormat
from deepfm.kinds.numbers import parse_decimals, parse_integers

#: Datasets store weights as float32.
_MAX_WEIGHT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class RowWeights:
    """Rows that n good rows of a log become, and their weights."""

    weights: np.ndarray  # (rows,) float64
    labels: np.ndarray | None = None  # (rows,) int8; None: those of the label column
    rows: np.ndarray | None = None  # (rows,) index of each one's row of the log; None: one for each
    is_second: np.ndarray | None = None  # (rows,) bool: whether the row before is of the same row of the log


def parse_weight_columns(
    strings: Mapping[str, pa.Array], row_format: RowFormat
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """String columns of n rows -> weight, or impressions and clicks, and (n,) reason codes (0: good)."""
    if row_format.weight is not None:
        numbers, _ = parse_decimals(strings[row_format.weight])
        weights = np.asarray(numbers.fill_null(-1.0))
        is_bad = (weights < 0) | (weights > _MAX_WEIGHT)
        return {"weight": numbers}, np.where(is_bad, BAD_WEIGHT, 0).astype(np.int8)
    if row_format.impressions is None or row_format.clicks is None:
        return {}, np.zeros(0, np.int8)
    (impressions, _), (clicks, _) = (
        parse_integers(strings[name]) for name in (row_format.impressions, row_format.clicks)
    )
    i, c = np.asarray(impressions.fill_null(0)), np.asarray(clicks.fill_null(-1))
    is_bad = (i < 1) | (c < 0) | (c > i)
    return {"impressions": impressions, "clicks": clicks}, np.where(is_bad, BAD_CLICKS, 0).astype(np.int8)


def row_weights(typed: Mapping[str, pa.Array]) -> RowWeights | None:
    """Columns of good rows from `parse_weight_columns` -> their weights; None if the log has none."""
    if "weight" in typed:
        return RowWeights(np.asarray(typed["weight"]))
    if "impressions" not in typed:
        return None
    impressions, clicks = np.asarray(typed["impressions"]), np.asarray(typed["clicks"])
    weights = np.stack([clicks, impressions - clicks], axis=1)  # (n, 2): of label 1 and of label 0
    rows, column = np.nonzero(weights)
    return RowWeights(
        weights[rows, column].astype(np.float64),
        (1 - column).astype(np.int8),
        rows,
        np.diff(rows, prepend=-1) == 0,
    )
