"""Negative down-sampling: choice of the dropped rows, and correction of the probabilities."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from deepfm.click_log.split import HashSplit
from deepfm.features.sampling import SAMPLED_OUT, logit_correction, part_codes

HASHES = np.random.default_rng(1).integers(-(2**63), 2**63, 100_000)
LABELS = (np.arange(100_000) % 4 == 0).astype(np.int8)
ROWS = SimpleNamespace(row_hashes=HASHES, labels=LABELS)
SPLIT = HashSplit(0.1, 0.1)


def test_only_training_rows_without_a_click_are_dropped_in_the_requested_share():
    before, codes = SPLIT.codes(ROWS), part_codes(ROWS, SPLIT, 0.3)
    is_dropped = codes == SAMPLED_OUT
    assert (before[is_dropped] == 0).all() and (LABELS[is_dropped] == 0).all()
    np.testing.assert_array_equal(codes[~is_dropped], before[~is_dropped])
    negatives = (before == 0) & (LABELS == 0)
    assert 1 - is_dropped.sum() / negatives.sum() == pytest.approx(0.3, abs=0.01)


def test_nothing_is_dropped_if_all_negatives_are_kept():
    np.testing.assert_array_equal(part_codes(ROWS, SPLIT, 1.0), SPLIT.codes(ROWS))


def test_rows_kept_at_a_low_share_are_kept_at_a_higher_share():
    few, many = (part_codes(ROWS, SPLIT, keep) == 0 for keep in (0.1, 0.5))
    assert (many[few]).all() and many.sum() > few.sum()


@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("q", [0.01, 0.5, 0.9])
def test_the_correction_is_the_formula_of_the_paper(keep, q):
    corrected = math.log(q / (1 - q)) + logit_correction(keep)
    assert 1 / (1 + math.exp(-corrected)) == pytest.approx(q / (q + (1 - q) / keep))
