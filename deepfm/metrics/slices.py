"""A model measured by the values of a few fields: where it is worse than over all rows."""

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
    """Of the impressions whose value of a field is of one kind, see training.field_tally."""

    kind: int
    num_rows: int
    ctr: float
    mean_probability: float
    logloss: float
    auc: float  # to a score bin, a 32nd of a logit; nan where all labels are equal

    @property
    def calibration(self) -> float:
        """Mean probability / CTR; nan without clicks."""
        return self.mean_probability / self.ctr if self.ctr else float("nan")


class SliceAccumulator:
    """Running sums by field and kind of value, which add up over batches and ranks; 0.4 MiB a field."""

    def __init__(self, fields: FieldSet, names: Sequence[str], device: torch.device | str = "cpu"):
        """`names`: of fields that have one value an impression."""
        self._names = tuple(names)
        at = [fields.names.index(name) for name in self._names]
        self._slots = [sum(fields.num_slots[:index]) for index in at]
        known = [fields[index].first_known_id for index in at]
        self._first_known = torch.tensor(known, dtype=torch.int64, device=device)
        shape = (len(self._names), NUM_KINDS, 2)
        self.counts = torch.zeros(*shape, SCORE_BINS, dtype=torch.int64, device=device)  # by label and score
        self.sums = torch.zeros(shape, dtype=torch.float64, device=device)  # logloss, probability

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """(B, S) ids, (B,) logits and (B,) labels of 0 and 1."""
        if not self._names:
            return
        logits, labels = logits.detach().double(), labels.double()
        losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        of_row = torch.stack([losses, torch.sigmoid(logits)], dim=1)
        bins = score_bins(logits) + SCORE_BINS * labels.long()
        kinds = value_kinds(ids[:, self._slots], self._first_known)  # (B, fields)
        for index in range(len(self._names)):
            places = bins + 2 * SCORE_BINS * kinds[:, index]
            self.counts[index].view(-1).index_add_(0, places, torch.ones_like(places))
            self.sums[index].index_add_(0, kinds[:, index], of_row)

    def tensors(self) -> list[Tensor]:
        """What the ranks add up, in place."""
        return [self.counts, self.sums] if self._names else []

    def compute(self) -> dict[str, list[SliceMetrics]]:
        """By field, of every kind of value that has rows."""
        found: dict[str, list[SliceMetrics]] = {}
        for index, name in enumerate(self._names):
            rows = self.counts[index].sum(dim=(1, 2))
            of_kind = [self._metrics(index, kind) for kind in rows.nonzero()[:, 0].tolist()]
            found[name] = of_kind
        return found

    def _metrics(self, index: int, kind: int) -> SliceMetrics:
        counts = self.counts[index, kind]
        num_rows, num_clicks = int(counts.sum()), int(counts[1].sum())
        logloss, probability = (self.sums[index, kind] / num_rows).tolist()
        return SliceMetrics(kind, num_rows, num_clicks / num_rows, probability, logloss, score_auc(counts))


@dataclass(frozen=True)
class Details:
    """What a tally of all rows does not tell."""

    of_fields: FieldValueCounts
    of_slices: SliceAccumulator

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """A batch, as SliceAccumulator.update takes it."""
        self.of_fields.update(ids)
        self.of_slices.update(ids, logits, labels)

    def tensors(self) -> list[Tensor]:
        """What the ranks add up, in place."""
        return [self.of_fields.counts, *self.of_slices.tensors()]
