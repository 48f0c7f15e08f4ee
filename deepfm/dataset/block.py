"""Encoded columns of impressions as one int32 block, and what a network takes of it.

One block, so that impressions are shuffled and cut as rows of one array; float32 columns travel as bits.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deepfm.fields import MISSING_ID, PRESENT_ID


def as_block(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns (n,) of integers or float32 -> (n, number of columns) int32."""
    bits = [np.ascontiguousarray(c).view(np.int32) if c.dtype == np.float32 else c for c in columns]
    return np.stack(bits, axis=1).astype(np.int32, copy=False)


def network_inputs(block: np.ndarray, are_values: Sequence[bool]) -> tuple[Tensor, Tensor | None]:
    """(n, F) int32 block, which fields are values -> (n, F) int64 ids and (n, F) float32 x.

    x is by what a feature's weight and embedding are multiplied: the value of a field that enters by value,
    1 elsewhere, also where a value is missing, since `missing` is a feature of its own. None where no field
    is a value and all x would be 1.
    """
    ids = torch.from_numpy(block).long()
    places = np.flatnonzero(are_values)
    if not len(places):
        return ids, None
    values = torch.from_numpy(np.ascontiguousarray(block[:, places]).view(np.float32))  # (n, fields by value)
    missing = values.isnan()
    x = torch.ones(block.shape)
    x[:, places] = values.masked_fill(missing, 1.0)
    ids[:, places] = torch.where(missing, MISSING_ID, PRESENT_ID)
    return ids, x
