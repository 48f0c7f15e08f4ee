"""Moments of the value fields of a log."""

import numpy as np
import pyarrow as pa

from deepfm.fields import FieldSet
from deepfm.kinds.scaling import Moments, apply_scale


class FieldMoments:
    """Moments of every value field over batches, on the field's scale."""

    def __init__(self, fields: FieldSet):
        self._fields = fields
        self.by_index = {index: Moments() for index, is_value in enumerate(fields.are_values) if is_value}

    def update(self, raw: pa.Table, impressions: np.ndarray | None = None) -> None:
        """Add the typed columns of a batch (see parse.ParsedRows.raw). Missing values do not count.

        `impressions`: (rows,) integers, how many times each row counts; None: once.
        """
        for index, moments in self.by_index.items():
            field = self._fields[index]
            column = raw.column(field.name)
            numbers = column.drop_null().to_numpy()
            weights = None if impressions is None else impressions[np.asarray(column.is_valid())]
            batch = Moments.from_array(apply_scale(numbers, field.scale), weights)
            self.by_index[index] = moments.merge(batch)
