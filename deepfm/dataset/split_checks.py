"""Checks of splits and samples by row hash: equal rows stay together, which may distort the shares."""

import logging
import math

from deepfm.click_log.split import SPLITS, HashSplit, Split
from deepfm.errors import UserError
from deepfm.features.statistics import RowCounts

#: Standard deviations of the number of chosen rows; a larger deviation is not by chance.
_MAX_STDS = 8

logger = logging.getLogger(__name__)


def require_sample(counts: RowCounts, log_url: str, keep_negatives: float) -> None:
    """Raise UserError if the share of kept rows differs from `keep_negatives` by more than chance allows."""
    num_kept = sum(rows - clicks for rows, clicks in counts.by_day.get("train", {}).values())
    num_rows = num_kept + counts.num_rows("sampled_out")
    if not _is_by_chance(num_kept, num_rows, keep_negatives):
        raise UserError(
            f"{log_url}: expected keep_negatives {keep_negatives} to keep that share of the training rows "
            f"without a click, found {num_kept / num_rows:.3f}: many rows are equal, and equal rows are kept "
            "or dropped together. Remove keep_negatives, or add a column with a unique id to a text log"
        )


def warn_of_uneven_splits(counts: RowCounts, log_url: str, split: Split) -> None:
    """Log a warning if the shares of a split by hash differ from its settings by more than chance allows."""
    if not isinstance(split, HashSplit):
        return
    num_rows = {part: counts.num_rows(part) for part in (*SPLITS, "sampled_out")}
    total = sum(num_rows.values())
    for part, share in (("valid", split.valid), ("test", split.test)):
        if not _is_by_chance(num_rows[part], total, share):
            logger.warning(
                "%s: expected %s of the rows in %s, found %.3f: many rows are equal, and equal rows are in "
                "the same split",
                log_url,
                share,
                part,
                num_rows[part] / total,
            )


def _is_by_chance(num_chosen: int, num_rows: int, share: float) -> bool:
    return abs(num_chosen - share * num_rows) <= _MAX_STDS * math.sqrt(share * (1 - share) * num_rows)
