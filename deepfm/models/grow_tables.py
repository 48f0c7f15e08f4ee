"""Weights of a model whose fields have more ids now: every row of its tables from a row of the old ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepfm.models.layers import FieldEmbedding


@dataclass(frozen=True)
class Growth:
    """From which old id each id takes over, field by field: an old one from itself."""

    previous_ids: Sequence[Tensor]  # by field (number of ids,) int64
    old_num_ids: Sequence[int]

    def weights(self, model: nn.Module, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What `model` starts from, by name: rows of new ids are copies, other weights stay as they are."""
        return {**old, **{name: old[name][self._rows(part)] for name, part in _tables(model).items()}}

    def moments(self, model: nn.Module, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What its optimizer remembers, as WEIGHT/WHAT (see training.optimizer): nothing yet of new ids."""
        grown = dict(old)
        for name, part in _tables(model).items():
            for key, value in old.items():
                if key.startswith(f"{name}/") and value.dim():
                    grown[key] = value[self._rows(part)].masked_fill(self._are_new(part)[:, None], 0)
        return grown

    def _rows(self, part: FieldEmbedding) -> Tensor:
        """(rows of the new table,) which row of the old one each takes over from."""
        before, rows = 0, []
        # Crossed fields stand last, and not every table has them.
        for ids, num_ids in zip(self.previous_ids[: part.num_fields], self.old_num_ids, strict=False):
            rows.append(ids + before)
            before += num_ids
        return torch.cat(rows)

    def _are_new(self, part: FieldEmbedding) -> Tensor:
        return torch.cat([ids != torch.arange(len(ids)) for ids in self.previous_ids[: part.num_fields]])


def _tables(model: nn.Module) -> dict[str, FieldEmbedding]:
    """By the names of their weights."""
    return {
        f"{name}.table.weight": part
        for name, part in model.named_modules()
        if isinstance(part, FieldEmbedding)
    }
