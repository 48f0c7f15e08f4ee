"""The parts the papers share. Shapes: B impressions, F fields, K embedding dimension, P = F(F-1)/2 pairs.

Every model takes `ids` (B, F) int64, each from 0 within its field, and `x` (B, F), by what each feature's
weight and embedding are multiplied: 1 for an id, the scaled value for a numeric field; None where all are 1.
Where fields are lists of several values, both are (B, S): a column a value, ids below 0 where there is none,
and a field's weight and embedding are the sums of its values', each times its x.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from deepfm.models.linear_relu import is_fused, linear_relu

# In place: a layer's output is wanted by its activation alone, and memory is what a step waits for.
_ACTIVATIONS = {"relu": partial(nn.ReLU, inplace=True), "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class FieldEmbedding(nn.Module):
    """One table for all fields: field f's id i is row offset_f + i; one lookup a batch, sparse gradients.

    Rows start normal with standard deviation `init_std`. Columns of `ids` beyond its own fields are not
    looked at: a dataset has its crossed fields there, which only the wide part of Wide&Deep takes.
    """

    def __init__(self, num_ids: Sequence[int], dim: int, *, init_std: float):
        super().__init__()
        self.num_fields = self.num_slots = len(num_ids)
        self.table = nn.Embedding(sum(num_ids), dim, sparse=True)
        nn.init.normal_(self.table.weight, std=init_std)
        # They follow from num_ids and slots, so they are no weights: saved models hold the table alone.
        self.register_buffer("offsets", torch.tensor([0, *num_ids[:-1]]).cumsum(0), persistent=False)
        self.register_buffer("field_of_slot", None, persistent=False)

    def set_slots(self, num_slots: Sequence[int]) -> None:
        """Let fields have several values an impression: columns of ids each, below 0 where there is none."""
        # On the meta device a tensor's sum is not known: the size is told.
        field_of_slot = torch.arange(self.num_fields).repeat_interleave(
            torch.tensor(num_slots), output_size=sum(num_slots)
        )
        self.num_slots = len(field_of_slot)
        self.offsets = self.offsets[field_of_slot]
        self.field_of_slot = field_of_slot

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, S or more) ids and x -> (B, F, dim): x_i v_i, of a list the sum over its values."""
        if self.field_of_slot is not None:
            return self._pooled(ids, x)
        v = self.table(self.table_rows(ids)).view(len(ids), self.num_slots, self.table.embedding_dim)
        return v if x is None else v * x[:, : self.num_slots, None]

    def table_rows(self, ids: Tensor) -> Tensor:
        """(B, S or more) ids -> (N,): the row of the table that each lookup takes, in the order of the ids.

        Slots without a value look nothing up: even a gradient of zero would let Adam move a row.
        """
        ids = ids[:, : self.num_slots]
        rows = ids + self.offsets
        return rows.flatten() if self.field_of_slot is None else rows[ids >= 0]

    def _pooled(self, ids: Tensor, x: Tensor | None) -> Tensor:
        present = ids[:, : self.num_slots] >= 0
        rows = self.table(self.table_rows(ids))  # (N, dim)
        if x is not None:
            rows = rows * x[:, : self.num_slots][present][:, None]
        field_of_row = (
            torch.arange(len(ids), device=ids.device)[:, None] * self.num_fields + self.field_of_slot
        )
        pooled = rows.new_zeros(len(ids) * self.num_fields, rows.shape[1])
        return pooled.index_add(0, field_of_row[present], rows).view(len(ids), self.num_fields, rows.shape[1])


class LinearTerms(nn.Module):
    """First order, w_0 + sum of w_i x_i (Rendle 2010, eq. 1): a bias and a weight a feature, from zero."""

    def __init__(self, num_ids: Sequence[int]):
        super().__init__()
        self.weights = FieldEmbedding(num_ids, 1, init_std=0.0)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x -> (B,) logits."""
        return self.bias + self.weights(ids, x).sum(dim=(1, 2))


def penalties(model: nn.Module, w_reg: float, v_reg: float) -> list[tuple[FieldEmbedding, float]]:
    """The tables that an L2 penalty holds back, and its strength on each.

    0.5 w_reg |w|^2 + 0.5 v_reg |v|^2 a looked-up row, so a feature is held back as often as it occurs, as
    in the stochastic updates of libFM (Rendle 2012, sec. 3.1), and rows not in the batch cost nothing. Biases
    and deep parts are left alone.
    """
    of_part = {LinearTerms: w_reg, FieldEmbedding: v_reg}
    strengths = [(part, of_part.get(type(part), 0.0)) for part in model.children()]
    return [
        (part.weights if isinstance(part, LinearTerms) else part, strength)
        for part, strength in strengths
        if strength
    ]


def pairwise_interaction(v: Tensor) -> Tensor:
    """(B, F, K) -> (B,): sum over field pairs i < j of <v_i, v_j>, in O(F K) (Rendle 2010, lemma 3.1)."""
    return _PairwiseInteraction.apply(v, False)[0]


def fm_and_flatten(v: Tensor) -> tuple[Tensor, Tensor]:
    """(B, F, K) -> (B,), their pairwise_interaction, and (B, F K), a deep part's inputs.

    Both at once, since the two gradients of v are then one pass over it and not three.
    """
    return _PairwiseInteraction.apply(v, True)


class _PairwiseInteraction(torch.autograd.Function):
    """Its gradient in closed form, sum of v - v_i: autograd takes more passes over v."""

    @staticmethod
    def forward(ctx, v: Tensor, with_inputs: bool) -> tuple[Tensor, Tensor | None]:
        total = v.sum(dim=1)  # (B, K)
        ctx.save_for_backward(v, total)
        of_total = total.square().sum(dim=1)
        of_each = torch.linalg.vector_norm(v.flatten(1), dim=1).square()
        inputs = v.flatten(1) if with_inputs else None
        # As autocast does, which leaves float64 alone.
        if with_inputs and v.dtype == torch.float32 and torch.is_autocast_enabled(v.device.type):
            inputs = inputs.to(torch.get_autocast_dtype(v.device.type))
        return 0.5 * (of_total - of_each), inputs

    @staticmethod
    def backward(ctx, gradient: Tensor, of_inputs: Tensor | None) -> tuple[Tensor, None]:
        v, total = ctx.saved_tensors
        if of_inputs is None:
            of_v = v.flatten(1) * -gradient[:, None]  # (B, F K)
        else:
            of_v = of_inputs.to(v.dtype, copy=True).addcmul_(v.flatten(1), -gradient[:, None])
        return of_v.view_as(v).add_((gradient[:, None] * total)[:, None]), None


class MLP(nn.Module):
    """MLP: per hidden layer a linear map, batch norm if asked for, activation, dropout; then a linear output.

    Weights start Xavier-uniform, biases at zero.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_units: Sequence[int],
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for num_units in hidden_units:
            layers.append(nn.Linear(num_inputs, num_units))
            if batch_norm:
                layers.append(nn.BatchNorm1d(num_units))
            layers.append(_ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            num_inputs = num_units
        layers.append(nn.Linear(num_inputs, 1))
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(*layers)
        self._has_bare_relu = activation == "relu" and not batch_norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_inputs) -> (B,) logits."""
        layers = iter(self.layers[:-1])
        for layer in layers:
            if self._has_bare_relu and isinstance(layer, nn.Linear) and is_fused(x):
                x = linear_relu(x, layer.weight, layer.bias)
                next(layers)  # the ReLU
            else:
                x = layer(x)
        # In the weights' precision also under autocast: a logit of 8 bits would tie what it should order.
        output = self.layers[-1]
        with torch.autocast(x.device.type, enabled=False):
            return output(x.to(output.weight.dtype)).squeeze(1)
