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
    """Metrics of the impressions whose value of a field is of one kind, see metrics.field_counts."""

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

    def __init__(self, fields: FieldSet, names: Sequence[str], device: torch.device | str = "cpu"):
        """Accumulate for the fields in `names`, which have one value per impression."""
        self._names = tuple(names)
        indices = [fields.names.index(name) for name in self._names]
        self._slots = [sum(fields.num_slots[:index]) for index in indices]
        first_known = [fields[index].first_known_id for index in indices]
        self._first_known = torch.tensor(first_known, dtype=torch.int64, device=device)
        shape = (len(self._names), NUM_KINDS, 2)
        self.counts = torch.zeros(*shape, SCORE_BINS, dtype=torch.int64, device=device)  # by label and score
        self.sums = torch.zeros(shape, dtype=torch.float64, device=device)  # logloss, probability

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: (B, S) ids, (B,) logits and (B,) labels of 0 and 1."""
        if not self._names:
            return
        logits, labels = logits.detach().double(), labels.double()
        losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        row_sums = torch.stack([losses, torch.sigmoid(logits)], dim=1)
        bins = score_bins(logits) + SCORE_BINS * labels.long()
        kinds = value_kinds(ids[:, self._slots], self._first_known)  # (B, fields)
        for index in range(len(self._names)):
            flat = bins + 2 * SCORE_BINS * kinds[:, index]
            self.counts[index].view(-1).index_add_(0, flat, torch.ones_like(flat))
            self.sums[index].index_add_(0, kinds[:, index], row_sums)

    def tensors(self) -> list[Tensor]:
        """Tensors to sum over ranks, in place."""
        return [self.counts, self.sums] if self._names else []

    def compute(self) -> dict[str, list[SliceMetrics]]:
        """Compute the metrics of every kind of value that has rows, by field."""
        metrics: dict[str, list[SliceMetrics]] = {}
        for index, name in enumerate(self._names):
            num_rows = self.counts[index].sum(dim=(1, 2))
            metrics[name] = [self._metrics(index, kind) for kind in num_rows.nonzero()[:, 0].tolist()]
        return metrics

    def _metrics(self, index: int, kind: int) -> SliceMetrics:
        counts = self.counts[index, kind]
        num_rows, num_clicks = int(counts.sum()), int(counts[1].sum())
        logloss, probability = (self.sums[index, kind] / num_rows).tolist()
        return SliceMetrics(kind, num_rows, num_clicks / num_rows, probability, logloss, score_auc(counts))


@dataclass(frozen=True)
class DetailedCounts:
    """Counts of field values and metrics by slice, updated together."""

    fields: FieldValueCounts
    slices: SliceAccumulator

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch, see SliceAccumulator.update."""
        self.fields.update(ids)
        self.slices.update(ids, logits, labels)

    def tensors(self) -> list[Tensor]:
        """Tensors to sum over ranks, in place."""
        return [self.fields.counts, *self.slices.tensors()]
