"""What a network takes of impressions whose encoded columns are one int32 block (see dataset.stack)."""

import numpy as np
import torch
from torch import Tensor

from deepfm.fields import MISSING_ID, PADDING, PRESENT_ID, FieldSet


def to_model_inputs(block: np.ndarray, fields: FieldSet) -> tuple[Tensor, Tensor | None]:
    """(n, S) int32 block -> (n, S) int64 ids, PADDING in the empty slots of lists, and (n, S) float32 x.

    x is by what a feature's weight and embedding are multiplied: the value of a field that enters by value;
    1 / (number of values) of a list that is pooled by its mean; 1 elsewhere, also where a value is missing,
    since `missing` is a feature of its own. None where all x would be 1.
    """
    ids = torch.from_numpy(block).long()
    values = [fields.slot_ranges[field.name].start for field in fields if field.is_value]
    means = [fields.slot_ranges[field.name] for field in fields if field.pools_mean]
    if not values and not means:
        return ids, None
    x = torch.ones(block.shape)
    if values:
        numbers = torch.from_numpy(np.ascontiguousarray(block[:, values]).view(np.float32))  # (n, by value)
        missing = numbers.isnan()
        x[:, values] = numbers.masked_fill(missing, 1.0)
        ids[:, values] = torch.where(missing, MISSING_ID, PRESENT_ID)
    for slots in means:
        present = ids[:, slots] != PADDING
        x[:, slots] = present / present.sum(dim=1, keepdim=True)
    return ids, x
