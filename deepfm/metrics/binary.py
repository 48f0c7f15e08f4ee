"""AUC, logloss and calibration over all rows, from tallies that add up over batches and ranks."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

#: Logits from -16 to 16 fall into bins of width 3e-5. Two rows count as tied for the AUC only within a bin.
_NUM_BINS = 1 << 20
_MAX_LOGIT = 16.0
_NUM_RANGES = 20  # of the calibration error
#: Of a histogram of scores: equal ranges of the logit, from -16 to 16.
SCORE_BINS = 1024
#: (2, SCORE_BINS): impressions without and with a click, by their score.
ScoreCounts = list[list[int]]


@dataclass(frozen=True)
class Metrics:
    """Of one model over one set of impressions."""

    num_rows: int
    logloss: float  # mean natural-log loss per impression
    auc: float  # nan where all labels are equal
    ctr: float  # clicks per impression
    mean_probability: float
    # Expected calibration error: |CTR - mean probability| by 20 equal ranges of the probability, weighted by
    # their rows (M. Naeini et al. 2015).
    ece: float
    gauc: float | None = None  # AUC within each group, see training.gauc; None: not measured

    @property
    def calibration(self) -> float:
        """Mean probability / CTR: 1 is right, above 1 promises too many clicks. nan without clicks."""
        return self.mean_probability / self.ctr if self.ctr else float("nan")

    @property
    def normalised_entropy(self) -> float:
        """Logloss / that of always saying the CTR (X. He et al. 2014): below 1 it has learnt something.

        1 less it is the relative information gain. nan where all labels are equal.
        """
        return self.logloss / self.ctr_logloss if self.ctr_logloss else float("nan")

    @property
    def ctr_logloss(self) -> float:
        """Of always saying the CTR of these very rows: the best a model without features can do."""
        return -sum(p * math.log(p) for p in (self.ctr, 1 - self.ctr) if p)


class BinaryMetrics:
    """Running sums over impressions, of a size that does not grow with them (16 MiB).

    AUC is the share of (click, no click) pairs that are in the right order, ties counting half
    (Mann-Whitney); from bins it is exact but for pairs within one.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.counts = torch.zeros(2, _NUM_BINS, dtype=torch.int64, device=device)  # (label, bin)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # logloss, probability

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """(B,) logits and (B,) labels of 0 and 1."""
        logits, labels = logits.detach().double(), labels.double()
        self.sums[0] += binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        self.sums[1] += torch.sigmoid(logits).sum()
        # Not bincount, which would fill and add all bins for every batch: 70 times as long.
        places = bins_of(logits) + _NUM_BINS * labels.long()
        self.counts.view(-1).index_add_(0, places, torch.ones_like(places))

    def tensors(self) -> list[Tensor]:
        """What the ranks add up, in place, to make one tally of all."""
        return [self.counts, self.sums]

    def compute(self, gauc: float | None = None) -> Metrics:
        """Of all impressions added; at least one. `gauc`: measured elsewhere."""
        num_rows, num_clicks = int(self.counts.sum()), int(self.counts[1].sum())
        return Metrics(
            num_rows=num_rows,
            logloss=float(self.sums[0]) / num_rows,
            auc=score_auc(self.counts),
            ctr=num_clicks / num_rows,
            mean_probability=float(self.sums[1]) / num_rows,
            ece=self._calibration_error(num_rows),
            gauc=gauc,
        )

    def score_counts(self) -> ScoreCounts:
        """The same tally, coarse enough to travel and to be kept."""
        return self.counts.view(2, SCORE_BINS, -1).sum(dim=2).tolist()

    def _calibration_error(self, num_rows: int) -> float:
        places = torch.arange(_NUM_BINS, dtype=torch.float64, device=self.counts.device) + 0.5
        of_bin = torch.sigmoid(places * (2 * _MAX_LOGIT / _NUM_BINS) - _MAX_LOGIT)
        rows, clicks = self.counts.sum(dim=0).double(), self.counts[1].double()
        ranges = (of_bin * _NUM_RANGES).long()
        gaps = torch.zeros(_NUM_RANGES, dtype=torch.float64, device=self.counts.device)
        gaps.index_add_(0, ranges, clicks - rows * of_bin)
        return float(gaps.abs().sum()) / num_rows


def score_auc(counts: Tensor) -> float:
    """(2, bins) impressions by label and score -> AUC; nan where all labels are equal."""
    negatives, positives = counts.double()
    # Per bin: its clicks win against every non-click in a lower bin, and half against those in the same.
    won = (positives * (negatives.cumsum(0) - 0.5 * negatives)).sum()
    num_pairs = float(negatives.sum()) * float(positives.sum())
    return float(won) / num_pairs if num_pairs else float("nan")


def score_bins(logits: Tensor) -> Tensor:
    """(B,) logits -> (B,) int64: of SCORE_BINS equal ranges."""
    return bins_of(logits.double()) // (_NUM_BINS // SCORE_BINS)


def bin_logits(num_bins: int = SCORE_BINS) -> np.ndarray:
    """(num_bins,): the logit in the middle of each."""
    return (np.arange(num_bins) + 0.5) * (2 * _MAX_LOGIT / num_bins) - _MAX_LOGIT


def bins_of(logits: Tensor) -> Tensor:
    """(B,) float64 logits -> (B,) int64 bins, in the same order; nan, which logloss shows, in any one."""
    logits = logits.nan_to_num(nan=0.0).clamp(-_MAX_LOGIT, _MAX_LOGIT)
    places = (logits + _MAX_LOGIT) * (_NUM_BINS / (2 * _MAX_LOGIT))
    return places.long().clamp(max=_NUM_BINS - 1)
