"""Model inputs from encoded rows, an int32 matrix (see dataset.columns)."""

import numpy as np
import torch
from torch import Tensor

from deepfm.fields import MISSING_ID, PADDING, PRESENT_ID, FieldSet


def to_model_inputs(rows: np.ndarray | Tensor, fields: FieldSet) -> tuple[Tensor, Tensor | None]:
    """(n, S) int32 rows -> (n, S) int64 ids, PADDING in empty slots of lists, and (n, S) float32 x.

    Both are on the device of the rows.

    x is the factor of a feature's weight and embedding: the value, for a field of kind value; 1 / (number of
    values), for a list with mean pooling; else 1. It is 1 for a missing value too, since "missing" is a
    separate feature. None if every x would be 1.
    """
    rows = torch.as_tensor(rows)
    ids = rows.long()
    value_slots = [fields.slot_ranges[field.name].start for field in fields if field.is_value]
    mean_slots = [fields.slot_ranges[field.name] for field in fields if field.pools_mean]
    if not value_slots and not mean_slots:
        return ids, None
    x = torch.ones(rows.shape, device=rows.device)
    if value_slots:
        values = rows[:, value_slots].contiguous().view(torch.float32)  # (n, fields of kind value)
        missing = values.isnan()
        x[:, value_slots] = values.masked_fill(missing, 1.0)
        ids[:, value_slots] = torch.where(missing, MISSING_ID, PRESENT_ID)
    for slots in mean_slots:
        present = ids[:, slots] != PADDING
        x[:, slots] = present / present.sum(dim=1, keepdim=True)
    return ids, x
