"""Moments of the value fields of a log."""

import pyarrow as pa

from deepfm.fields import FieldSet
from deepfm.kinds.scaling import Moments, apply_scale


class FieldMoments:
    """Moments of every value field over batches, on the field's scale."""

    def __init__(self, fields: FieldSet):
        self._fields = fields
        self.by_index = {index: Moments() for index, is_value in enumerate(fields.are_values) if is_value}

    def update(self, raw: pa.Table) -> None:
        """Add the typed columns of a batch (see parse.ParsedRows.raw). Missing values do not count."""
        for index, moments in self.by_index.items():
            field = self._fields[index]
            numbers = raw.column(field.name).drop_null().to_numpy()
            batch = Moments.from_array(apply_scale(numbers, field.scale))
            self.by_index[index] = moments.merge(batch)
