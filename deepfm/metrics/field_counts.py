"""How often each field's values occur among impressions, in as many numbers as one can keep and compare."""

import numpy as np
import torch
from torch import Tensor

from deepfm.fields import MISSING_ID, FieldSet

#: The most frequent known values of a field are counted one by one, the others together.
NUM_SHOWN = 24
MISSING, UNKNOWN, FIRST_SHOWN = 0, 1, 2
OTHER = FIRST_SHOWN + NUM_SHOWN
NUM_KINDS = OTHER + 1


def value_kinds(ids: Tensor, first_known: Tensor) -> Tensor:
    """(B, S) ids and the first known id of each slot -> (B, S) kinds."""
    kinds = (ids + (FIRST_SHOWN - first_known)).clamp_(UNKNOWN, OTHER)
    return kinds.masked_fill_(ids == MISSING_ID, MISSING)


class FieldValueCounts:
    """Impressions by field and by what they hold in it: (F, NUM_KINDS) that add up over batches and ranks.

    A kind is missing, unknown, one of the NUM_SHOWN most frequent known values of training, or any other. An
    impression counts once for each value of a list. Crossed fields are left at zero: their parts say it.
    """

    def __init__(self, fields: FieldSet, device: torch.device | str = "cpu"):
        known = [field.first_known_id if field.kind != "value" else 1 for field in fields]
        of_slot = torch.arange(len(fields)).repeat_interleave(torch.tensor(fields.num_slots))
        self._num_slots = sum(fields.num_slots[: len(fields) - fields.num_crossed])
        self._field_of_slot = of_slot[: self._num_slots].to(device)
        self._first_known = torch.tensor(known)[of_slot][: self._num_slots].to(device)
        self._has_lists = any(field.kind == "list" for field in fields)
        self.counts = torch.zeros(len(fields), NUM_KINDS, dtype=torch.int64, device=device)

    @staticmethod
    def zeros(num_fields: int) -> np.ndarray:
        """(F, NUM_KINDS) where nothing was counted."""
        return np.zeros((num_fields, NUM_KINDS), np.int64)

    def update(self, ids: Tensor) -> None:
        """(B, S) ids, below 0 where a list has no more values."""
        ids = ids[:, : self._num_slots]
        places = value_kinds(ids, self._first_known) + NUM_KINDS * self._field_of_slot
        places = places[ids >= 0] if self._has_lists else places.flatten()
        self.counts += torch.bincount(places, minlength=self.counts.numel()).view_as(self.counts)
