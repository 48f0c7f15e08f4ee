"""Negative down-sampling: all clicks, a fixed share of the other training rows; scores are corrected.

Clicks are rare, so most of what a model learns from is alike: of the rows without a click a tenth may do
(X. He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", 2014, sec. 6.3).
"""

import math

import numpy as np

from deepfm.click_log.parse import ParsedRows
from deepfm.click_log.split import SPLITS, Split
from deepfm.features.kinds.crossing import splitmix64

#: Of the training rows that are left out: beside OUTSIDE, and counted like it.
SAMPLED_OUT = len(SPLITS)
#: Which split a row is of comes from the hash itself, which of them are kept must not.
_SALT = np.uint64(0x5851F42D4C957F2D)


def part_codes(rows: ParsedRows, split: Split, keep_negatives: float) -> np.ndarray:
    """(n,) int8: the codes of `split`, but SAMPLED_OUT for training rows without a click that are not kept.

    The same rows in every run: which ones follows from the hash of a row's content.
    """
    codes = split.codes(rows)
    if keep_negatives < 1:
        place = (splitmix64(rows.row_hashes.view(np.uint64) ^ _SALT) >> np.uint64(11)) / 2.0**53
        left_out = (place >= keep_negatives) & (rows.labels == 0) & (codes == SPLITS.index("train"))
        codes[left_out] = SAMPLED_OUT
    return codes


def logit_correction(keep_negatives: float) -> float:
    """What to add to the logits of a model that was trained on such rows.

    p = q / (q + (1 - q) / w), where q is what the model says and w the share kept (He et al., sec. 6.3); as
    odds that is w q / (1 - q), so its logit is that of q plus log w.
    """
    return math.log(keep_negatives)
