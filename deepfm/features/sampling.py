"""Negative down-sampling: keep all clicks and a fixed share of the other training rows; correct the scores.

Clicks are rare, so most rows without a click are redundant: a tenth of them may be enough
(X. He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", 2014, sec. 6.3).
"""

import math

import numpy as np

from deepfm.click_log.parse import ParsedRows
from deepfm.click_log.split import SPLITS, Split
from deepfm.kinds.cross import splitmix64

#: Code of training rows that are dropped; counted separately, like OUTSIDE.
SAMPLED_OUT = len(SPLITS)
#: Makes the choice of rows to keep independent of the choice of the split, which uses the same hash.
_SALT = np.uint64(0x5851F42D4C957F2D)


def part_codes(rows: ParsedRows, split: Split, keep_negatives: float) -> np.ndarray:
    """Return (n,) int8: the codes of `split`, but SAMPLED_OUT for dropped training rows without a click.

    The choice depends only on the hash of a row's content, so it is the same in every run.
    """
    codes = split.codes(rows)
    if keep_negatives < 1:
        position = (splitmix64(rows.row_hashes.view(np.uint64) ^ _SALT) >> np.uint64(11)) / 2.0**53
        is_dropped = (position >= keep_negatives) & (rows.labels == 0) & (codes == SPLITS.index("train"))
        codes[is_dropped] = SAMPLED_OUT
    return codes


def logit_correction(keep_negatives: float) -> float:
    """Term to add to the logits of a model trained on down-sampled rows.

    p = q / (q + (1 - q) / w), where q is the model's probability and w the share kept (He et al., sec. 6.3);
    the odds are w q / (1 - q), so the logit is that of q plus log w.
    """
    return math.log(keep_negatives)
