"""Weights for a model with a grown vocabulary: each row of its tables is copied from a row of old tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepfm.models.layers import FieldEmbedding


@dataclass(frozen=True)
class Growth:
    """Map from each id of a field to the old id whose rows it copies; an old id copies itself."""

    previous_ids: Sequence[Tensor]  # by field: (number of ids,) int64
    old_num_ids: Sequence[int]

    def weights(self, model: nn.Module, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return initial weights of `model` by name: rows of new ids are copies, others are unchanged."""
        return {**old, **{name: old[name][self._rows(table)] for name, table in _tables(model).items()}}

    def moments(self, model: nn.Module, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return optimizer state by WEIGHT/NAME (see training.optimizers): zeros for the rows of new ids."""
        grown = dict(old)
        for name, table in _tables(model).items():
            for key, value in old.items():
                if key.startswith(f"{name}/") and value.dim():
                    grown[key] = value[self._rows(table)].masked_fill(self._new_rows(table)[:, None], 0)
        return grown

    def _rows(self, table: FieldEmbedding) -> Tensor:
        """(rows of the new table,) index of the row of the old table that each row copies."""
        offset, rows = 0, []
        # Crossed fields are last, and not every table contains them.
        for ids, num_ids in zip(self.previous_ids[: table.num_fields], self.old_num_ids, strict=False):
            rows.append(ids + offset)
            offset += num_ids
        return torch.cat(rows)

    def _new_rows(self, table: FieldEmbedding) -> Tensor:
        """(rows of the new table,) bool: whether the row is that of a new id."""
        return torch.cat([ids != torch.arange(len(ids)) for ids in self.previous_ids[: table.num_fields]])


def _tables(model: nn.Module) -> dict[str, FieldEmbedding]:
    """Return the tables by the names of their weights."""
    return {
        f"{name}.table.weight": table
        for name, table in model.named_modules()
        if isinstance(table, FieldEmbedding)
    }
