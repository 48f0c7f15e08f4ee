"""Counts of each field's values among impressions, in a fixed number of kinds."""

import numpy as np
import torch
from torch import Tensor

from deepfm.fields import MISSING_ID, FieldSet

#: The most frequent known values of a field have a kind each, all others share one.
NUM_SHOWN = 24
MISSING, UNKNOWN, FIRST_SHOWN = 0, 1, 2
OTHER = FIRST_SHOWN + NUM_SHOWN
NUM_KINDS = OTHER + 1


def value_kinds(ids: Tensor, first_known: Tensor) -> Tensor:
    """Map (B, S) ids to their kinds; `first_known`: (S,) first known id of each slot."""
    kinds = (ids + (FIRST_SHOWN - first_known)).clamp_(UNKNOWN, OTHER)
    return kinds.masked_fill_(ids == MISSING_ID, MISSING)


class FieldValueCounts:
    """Number of impressions by field and kind of value, (F, NUM_KINDS); adds up over batches and ranks.

    If the impressions have weights, it is the sum of their weights.

    A kind is missing, unknown, one of the NUM_SHOWN most frequent known values of the training days, or any
    other value. An impression counts once for each value of a list. Crossed fields stay zero, because their
    parts are counted.
    """

    def __init__(self, fields: FieldSet, device: torch.device | str = "cpu", *, weighted: bool = False):
        first_known = [1 if field.is_value else field.first_known_id for field in fields]
        field_of_slot = torch.arange(len(fields)).repeat_interleave(torch.tensor(fields.num_slots))
        self._num_slots = sum(fields.num_slots[: len(fields) - fields.num_crossed])
        self._field_of_slot = field_of_slot[: self._num_slots].to(device)
        self._first_known = torch.tensor(first_known)[field_of_slot][: self._num_slots].to(device)
        self._has_lists = any(field.is_list for field in fields)
        dtype = torch.float64 if weighted else torch.int64
        self.counts = torch.zeros(len(fields), NUM_KINDS, dtype=dtype, device=device)

    @staticmethod
    def zeros(num_fields: int) -> np.ndarray:
        """Counts of no impressions: (F, NUM_KINDS)."""
        return np.zeros((num_fields, NUM_KINDS), np.int64)

    def update(self, ids: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch of (B, S) ids, and (B,) weights if any; a negative id is an empty slot of a list."""
        ids = ids[:, : self._num_slots]
        flat = value_kinds(ids, self._first_known) + NUM_KINDS * self._field_of_slot
        flat = flat[ids >= 0] if self._has_lists else flat.flatten()
        if weights is not None:
            weights = weights.double()[:, None].expand(ids.shape)
            weights = weights[ids >= 0] if self._has_lists else weights.flatten()
        self.counts += torch.bincount(flat, weights, self.counts.numel()).view_as(self.counts)
