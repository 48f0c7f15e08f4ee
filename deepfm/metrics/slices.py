"""Metrics of a model by the values of single fields."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from deepfm.fields import FieldSet
from deepfm.metrics.binary import SCORE_BINS, score_auc, score_bins
from deepfm.metrics.field_counts import NUM_KINDS, FieldValueCounts, value_kinds


@dataclass(frozen=True)
class SliceMetrics:
    """Metrics of the impressions whose value of a field is of one kind, see metrics.field_counts.

    All but `num_rows` use the weights of the rows.
    """

    kind: int
    num_rows: int
    ctr: float
    mean_probability: float
    logloss: float
    auc: float  # exact up to pairs within one of SCORE_BINS bins; NaN if all labels are equal

    @property
    def calibration(self) -> float:
        """Mean probability / CTR; NaN without clicks."""
        return self.mean_probability / self.ctr if self.ctr else float("nan")


class SliceAccumulator:
    """Sums by field and kind of value that add up over batches and ranks; 0.4 MiB per field."""

    def __init__(
        self,
        fields: FieldSet,
        names: Sequence[str],
        device: torch.device | str = "cpu",
        *,
        weighted: bool = False,
    ):
        """Accumulate for the fields in `names`, which have one value per impression.

        With `weighted` every row has a weight.
        """
        self._names = tuple(names)
        indices = [fields.names.index(name) for name in self._names]
        self._slots = [sum(fields.num_slots[:index]) for index in indices]
        first_known = [fields[index].first_known_id for index in indices]
        self._first_known = torch.tensor(first_known, dtype=torch.int64, device=device)
        shape = (len(self._names), NUM_KINDS)
        dtype = torch.float64 if weighted else torch.int64
        self.counts = torch.zeros(*shape, 2, SCORE_BINS, dtype=dtype, device=device)  # by label and score
        # Logloss, probability and, with weights, number of rows.
        self.sums = torch.zeros(*shape, 3 if weighted else 2, dtype=torch.float64, device=device)

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch: (B, S) ids, (B,) logits, (B,) labels of 0 and 1, (B,) weights if the rows have any."""
        if not self._names:
            return
        logits, labels = logits.detach().double(), labels.double()
        losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        row_sums = torch.stack([losses, torch.sigmoid(logits)], dim=1)
        bins = score_bins(logits) + SCORE_BINS * labels.long()
        row_counts = torch.ones_like(bins)
        if weights is not None:
            row_counts = weights.double()
            row_sums = torch.cat([row_sums * row_counts[:, None], torch.ones_like(row_sums[:, :1])], dim=1)
        kinds = value_kinds(ids[:, self._slots], self._first_known)  # (B, fields)
        for index in range(len(self._names)):
            flat = bins + 2 * SCORE_BINS * kinds[:, index]
            self.counts[index].view(-1).index_add_(0, flat, row_counts)
            self.sums[index].index_add_(0, kinds[:, index], row_sums)

    def tensors(self) -> list[Tensor]:
        """Tensors to sum over ranks, in place."""
        return [self.counts, self.sums] if self._names else []

    def compute(self) -> dict[str, list[SliceMetrics]]:
        """Compute the metrics of every kind of value that has rows (with a weight above 0), by field."""
        metrics: dict[str, list[SliceMetrics]] = {}
        for index, name in enumerate(self._names):
            totals = self.counts[index].sum(dim=(1, 2))
            metrics[name] = [self._metrics(index, kind) for kind in totals.nonzero()[:, 0].tolist()]
        return metrics

    def _metrics(self, index: int, kind: int) -> SliceMetrics:
        counts = self.counts[index, kind]
        total, num_clicks = counts.sum().item(), counts[1].sum().item()
        sum_logloss, sum_probability, *num_weighted_rows = self.sums[index, kind].tolist()
        (num_rows,) = num_weighted_rows or (total,)
        return SliceMetrics(
            kind,
            round(num_rows),
            num_clicks / total,
            sum_probability / total,
            sum_logloss / total,
            score_auc(counts),
        )


@dataclass(frozen=True)
class DetailedCounts:
    """Counts of field values and metrics by slice, updated together."""

    fields: FieldValueCounts
    slices: SliceAccumulator

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch, see SliceAccumulator.update."""
        self.fields.update(ids, weights)
        self.slices.update(ids, logits, labels, weights)

    def tensors(self) -> list[Tensor]:
        """Tensors to sum over ranks, in place."""
        return [self.fields.counts, *self.slices.tensors()]
