"""AUC, logloss and calibration over all rows, from sums that add up over batches and ranks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.metrics.formulas import auc_from_counts, entropy

#: Logits from -16 to 16 are counted in bins 3e-5 wide. Only rows in one bin count as tied for the AUC.
NUM_BINS = 1 << 20
_MAX_LOGIT = 16.0
_NUM_CALIBRATION_RANGES = 20
#: Bins of a histogram of scores: equal ranges of the logit from -16 to 16.
SCORE_BINS = 1024
#: (2, SCORE_BINS): number, or weight, of impressions without and with a click, by score.
ScoreCounts = list[list[float]]


@dataclass(frozen=True)
class Metrics:
    """Metrics of one model over one set of impressions; all but `num_rows` use the weights of the rows."""

    num_rows: int
    logloss: float  # mean per impression, natural logarithm
    auc: float  # NaN if all labels are equal
    ctr: float  # clicks per impression
    mean_probability: float
    # Expected calibration error: |CTR - mean probability| in 20 equal ranges of the probability, weighted by
    # their rows (M. Naeini et al. 2015).
    ece: float
    gauc: float | None = None  # mean AUC within groups, see metrics.gauc; None: not computed
    weight: float | None = None  # sum of the weights; None: every row counts once

    @property
    def calibration(self) -> float:
        """Mean probability / CTR: above 1 the model predicts too many clicks. NaN without clicks."""
        return self.mean_probability / self.ctr if self.ctr else float("nan")

    @property
    def normalised_entropy(self) -> float:
        """Logloss / logloss of predicting the CTR for every row (X. He et al. 2014): below 1 is better.

        One minus this is the relative information gain. NaN if all labels are equal.
        """
        return self.logloss / self.ctr_logloss if self.ctr_logloss else float("nan")

    @property
    def ctr_logloss(self) -> float:
        """Logloss of predicting the CTR of these rows for every row: the best without features."""
        return entropy(self.ctr)


class BinaryMetrics:
    """Sums over impressions from which the metrics are computed; 16 MiB however many rows there are.

    AUC is the share of (click, no click) pairs in the right order, ties counting half (Mann-Whitney); from
    bins it is exact except for pairs within one bin.
    """

    def __init__(self, device: torch.device | str = "cpu", *, weighted: bool = False):
        """Start without impressions; with `weighted` every row has a weight."""
        dtype = torch.float64 if weighted else torch.int64
        self.counts = torch.zeros(2, NUM_BINS, dtype=dtype, device=device)  # (label, bin)
        # Logloss, probability and, with weights, number of rows.
        self.sums = torch.zeros(3 if weighted else 2, dtype=torch.float64, device=device)

    @classmethod
    def from_sums(
        cls,
        counts: np.ndarray,
        sum_logloss: float,
        sum_probability: float,
        num_weighted_rows: int | None = None,
    ) -> "BinaryMetrics":
        """Restore from (2, bins) counts by label and bin, the sums and, with weights, the number of rows."""
        metrics = cls(weighted=num_weighted_rows is not None)
        metrics.counts += torch.from_numpy(np.asarray(counts)).to(metrics.counts.dtype)
        sums = [sum_logloss, sum_probability]
        sums += [] if num_weighted_rows is None else [num_weighted_rows]
        metrics.sums += torch.tensor(sums, dtype=torch.float64)
        return metrics

    @property
    def is_weighted(self) -> bool:
        """Whether the rows have weights."""
        return self.counts.is_floating_point()

    def update(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch: (B,) logits, (B,) labels of 0 and 1 and, if the rows have weights, (B,) weights."""
        assert self.is_weighted == (weights is not None)
        logits, labels = logits.detach().double(), labels.double()
        weights = None if weights is None else weights.double()
        self.sums[0] += binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
        probabilities = torch.sigmoid(logits)
        self.sums[1] += (probabilities if weights is None else probabilities * weights).sum()
        if weights is not None:
            self.sums[2] += len(weights)
        # bincount would allocate and add all bins for every batch, which takes 70 times as long.
        flat = bins_of(logits) + NUM_BINS * labels.long()
        self.counts.view(-1).index_add_(0, flat, torch.ones_like(flat) if weights is None else weights)

    def tensors(self) -> list[Tensor]:
        """Tensors to sum over ranks, in place."""
        return [self.counts, self.sums]

    def compute(self, gauc: float | None = None) -> Metrics:
        """Compute the metrics of all impressions added; `gauc` is passed through.

        There must be at least one impression with a weight above 0.
        """
        total, num_clicks = self.counts.sum().item(), self.counts[1].sum().item()
        return Metrics(
            num_rows=round(self.sums[2].item() if self.is_weighted else total),
            logloss=float(self.sums[0]) / total,
            auc=score_auc(self.counts),
            ctr=num_clicks / total,
            mean_probability=float(self.sums[1]) / total,
            ece=self._calibration_error(total),
            gauc=gauc,
            weight=float(total) if self.is_weighted else None,
        )

    def score_counts(self) -> ScoreCounts:
        """Counts by label in SCORE_BINS bins, small enough to send and to store."""
        return self.counts.view(2, SCORE_BINS, -1).sum(dim=2).tolist()

    def _calibration_error(self, total: float) -> float:
        centers = torch.arange(NUM_BINS, dtype=torch.float64, device=self.counts.device) + 0.5
        probabilities = torch.sigmoid(centers * (2 * _MAX_LOGIT / NUM_BINS) - _MAX_LOGIT)
        rows, clicks = self.counts.sum(dim=0).double(), self.counts[1].double()
        ranges = (probabilities * _NUM_CALIBRATION_RANGES).long()
        gaps = torch.zeros(_NUM_CALIBRATION_RANGES, dtype=torch.float64, device=self.counts.device)
        gaps.index_add_(0, ranges, clicks - rows * probabilities)
        return float(gaps.abs().sum()) / total


def score_auc(counts: Tensor) -> float:
    """AUC of (2, bins) counts by label and score; NaN if all labels are equal."""
    return auc_from_counts(*counts.cpu().numpy())


def score_bins(logits: Tensor) -> Tensor:
    """Index of each of (B,) logits among SCORE_BINS bins: (B,) int64."""
    return bins_of(logits.double()) // (NUM_BINS // SCORE_BINS)


def bin_logits(num_bins: int = SCORE_BINS) -> np.ndarray:
    """Logit at the center of each bin: (num_bins,)."""
    return (np.arange(num_bins) + 0.5) * (2 * _MAX_LOGIT / num_bins) - _MAX_LOGIT


def bins_of(logits: Tensor) -> Tensor:
    """Bin of each of (B,) float64 logits: (B,) int64, monotonic.

    NaN, which the logloss shows, is in any bin.
    """
    logits = logits.nan_to_num(nan=0.0).clamp(-_MAX_LOGIT, _MAX_LOGIT)
    bins = (logits + _MAX_LOGIT) * (NUM_BINS / (2 * _MAX_LOGIT))
    return bins.long().clamp(max=NUM_BINS - 1)
