"""Rows chosen by a hash of their content: equal ones go together, and shares may not be what was asked."""

import logging
import math

from deepfm.click_log.split import SPLITS, HashSplit, Split
from deepfm.errors import UserError
from deepfm.features.statistics import RowCounts

#: Of the number of rows chosen: beyond, it is not by chance.
_MAX_STDS = 8

logger = logging.getLogger(__name__)


def require_sample(counts: RowCounts, log_url: str, keep_negatives: float) -> None:
    """UserError where another share of the rows was kept than a sample of single rows can have by chance."""
    num_kept = sum(rows - clicks for rows, clicks in counts.by_day.get("train", {}).values())
    num = num_kept + counts.num_rows("sampled_out")
    if not _is_by_chance(num_kept, num, keep_negatives):
        raise UserError(
            f"{log_url}: expected keep_negatives {keep_negatives} to keep that share of the training rows "
            f"without a click, found {num_kept / num:.3f}: many rows are equal, and equal ones are kept or "
            "left out together; remove keep_negatives, or give a text log a column that tells its rows apart"
        )


def warn_of_shares(counts: RowCounts, log_url: str, split: Split) -> None:
    """Warn where a split by hash has another share of the rows than single rows can have by chance."""
    if not isinstance(split, HashSplit):
        return
    num_rows = {part: counts.num_rows(part) for part in (*SPLITS, "sampled_out")}
    num = sum(num_rows.values())
    for part, share in (("valid", split.valid), ("test", split.test)):
        if not _is_by_chance(num_rows[part], num, share):
            logger.warning(
                "%s: expected %s of the rows in %s, found %.3f: many are equal, and those share a split",
                log_url,
                share,
                part,
                num_rows[part] / num,
            )


def _is_by_chance(num_chosen: int, num: int, share: float) -> bool:
    return abs(num_chosen - share * num) <= _MAX_STDS * math.sqrt(share * (1 - share) * num)
