"""Layers that the models share. Shapes: B impressions, F fields, K embedding dimension, P = F(F-1)/2 pairs.

Every model takes `ids`, (B, F) int64, which start at 0 in each field, and `x`, (B, F): the factor of each
feature's weight and embedding, 1 for an id, the scaled value for a numeric field; None if all are 1. With
list fields both are (B, S), one column per value: empty slots have negative ids, and the weight and the
embedding of a field are sums over its values, each multiplied by its x.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from deepfm.models.linear_relu import is_fused, linear_relu

# In place: only the activation uses a layer's output, and memory bandwidth limits a step.
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class FieldEmbedding(nn.Module):
    """One table for all fields: id i of field f is row offset_f + i. One lookup per batch, sparse gradients.

    Rows are initialized from a normal distribution with standard deviation `init_std`. Further columns of
    `ids` are ignored: they are the crossed fields, which only the wide part of Wide & Deep uses.
    """

    offsets: Tensor
    field_of_slot: Tensor | None

    def __init__(self, num_ids: Sequence[int], dim: int, *, init_std: float):
        super().__init__()
        self.num_fields = self.num_slots = len(num_ids)
        self.table = nn.Embedding(sum(num_ids), dim, sparse=True)
        nn.init.normal_(self.table.weight, std=init_std)
        # Not persistent, because they follow from num_ids and slots: saved models contain only the table.
        self.register_buffer("offsets", torch.tensor([0, *num_ids[:-1]]).cumsum(0), persistent=False)
        self.register_buffer("field_of_slot", None, persistent=False)

    def set_slots(self, num_slots: Sequence[int]) -> None:
        """Set the number of columns of each field: a list has several, with negative ids in empty slots."""
        # On the meta device the sum of a tensor is unknown, so give the output size.
        field_of_slot = torch.arange(self.num_fields).repeat_interleave(
            torch.tensor(num_slots), output_size=sum(num_slots)
        )
        self.num_slots = len(field_of_slot)
        self.offsets = self.offsets[field_of_slot]
        self.field_of_slot = field_of_slot

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, S or more) ids and x -> (B, F, dim): x_i v_i, for a list summed over its values."""
        if self.field_of_slot is not None:
            return self._pooled(ids, x)
        v = self.table(self.table_rows(ids)).view(len(ids), self.num_slots, self.table.embedding_dim)
        return v if x is None else v * x[:, : self.num_slots, None]

    def table_rows(self, ids: Tensor) -> Tensor:
        """(B, S or more) ids -> (N,) table row of each lookup, in the order of the ids.

        Empty slots have no lookup: Adam would change a row even if its gradient is zero.
        """
        ids = ids[:, : self.num_slots]
        rows = ids + self.offsets
        return rows.flatten() if self.field_of_slot is None else rows[ids >= 0]

    def _pooled(self, ids: Tensor, x: Tensor | None) -> Tensor:
        assert self.field_of_slot is not None
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
    """First order, w_0 + sum of w_i x_i (Rendle 2010, eq. 1); bias and weights are initialized to zero."""

    def __init__(self, num_ids: Sequence[int]):
        super().__init__()
        self.weights = FieldEmbedding(num_ids, 1, init_std=0.0)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x -> (B,) logits."""
        return self.bias + self.weights(ids, x).sum(dim=(1, 2))


def penalties(model: nn.Module, w_reg: float, v_reg: float) -> list[tuple[FieldEmbedding, float]]:
    """Return the tables with an L2 penalty and its strength.

    The penalty is 0.5 w_reg |w|^2 + 0.5 v_reg |v|^2 for each looked-up row, so a feature is penalized as
    often as it occurs, as in the stochastic updates of libFM (Rendle 2012, sec. 3.1), and other rows cost no
    time. Biases and deep parts have no penalty.
    """
    strengths = {LinearTerms: w_reg, FieldEmbedding: v_reg}
    layers = [(layer, strengths.get(type(layer), 0.0)) for layer in model.children()]
    return [
        (layer.weights if isinstance(layer, LinearTerms) else cast(FieldEmbedding, layer), strength)
        for layer, strength in layers
        if strength
    ]


def pairwise_interaction(v: Tensor) -> Tensor:
    """(B, F, K) -> (B,): sum over field pairs i < j of <v_i, v_j>, in O(F K) (Rendle 2010, lemma 3.1)."""
    return _PairwiseInteraction.apply(v, False)[0]


def fm_and_flatten(v: Tensor) -> tuple[Tensor, Tensor]:
    """(B, F, K) -> (B,) pairwise_interaction, and (B, F K) inputs of a deep part.

    Computed together, because both gradients of v then take one pass over v instead of three.
    """
    return _PairwiseInteraction.apply(v, True)


class _PairwiseInteraction(torch.autograd.Function):
    """Pairwise interaction with its gradient, sum(v) - v_i, in closed form: autograd takes more passes."""

    @staticmethod
    def forward(ctx, v: Tensor, with_inputs: bool) -> tuple[Tensor, Tensor | None]:
        total = v.sum(dim=1)  # (B, K)
        ctx.save_for_backward(v, total)
        square_of_sum = total.square().sum(dim=1)
        sum_of_squares = torch.linalg.vector_norm(v.flatten(1), dim=1).square()
        inputs = v.flatten(1) if with_inputs else None
        # Cast as autocast does; it does not cast float64.
        if inputs is not None and v.dtype == torch.float32 and torch.is_autocast_enabled(v.device.type):
            inputs = inputs.to(torch.get_autocast_dtype(v.device.type))
        return 0.5 * (square_of_sum - sum_of_squares), inputs

    @staticmethod
    def backward(ctx, gradient: Tensor, inputs_gradient: Tensor | None) -> tuple[Tensor, None]:
        v, total = ctx.saved_tensors
        if inputs_gradient is None:
            v_gradient = v.flatten(1) * -gradient[:, None]  # (B, F K)
        else:
            v_gradient = inputs_gradient.to(v.dtype, copy=True).addcmul_(v.flatten(1), -gradient[:, None])
        return v_gradient.view_as(v).add_((gradient[:, None] * total)[:, None]), None


class StartsFromPart(Protocol):
    """Model that can start from the weights of a simpler one that it contains."""

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of the simpler model."""


def start_from_part(model: nn.Module, part: Mapping[str, Tensor]) -> None:
    """Load the weights of a simpler model that `model` contains, and silence its MLP `deep`, if it has one.

    `part` has the names of the weights in `model`. A table of `model` may be longer: its last rows, those of
    crossed fields, become zero. The output layer of the MLP becomes zero, so that both give the same logits;
    its gradient is not zero, so the MLP learns from the first step. Raise RuntimeError for other shapes.
    """
    weights = model.state_dict()
    for name, value in part.items():
        own = weights[name]
        if own.shape != value.shape and own.shape[1:] == value.shape[1:] and len(own) > len(value):
            value = torch.cat([value, value.new_zeros(len(own) - len(value), *value.shape[1:])])
        weights[name] = value
    model.load_state_dict(weights)
    if isinstance(deep := getattr(model, "deep", None), MLP):
        output = cast(nn.Linear, deep.layers[-1])
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)


class MLP(nn.Module):
    """MLP; each hidden layer: linear, optional batch norm, activation, dropout. The output layer is linear.

    Weights are initialized Xavier-uniform, biases to zero.
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
        layers = iter(cast(nn.Sequential, self.layers[:-1]))
        for layer in layers:
            if self._has_bare_relu and isinstance(layer, nn.Linear) and is_fused(x):
                x = linear_relu(x, layer.weight, layer.bias)
                next(layers)  # the ReLU
            else:
                x = layer(x)
        # In the precision of the weights, also under autocast: bfloat16 logits would often tie.
        output = cast(nn.Linear, self.layers[-1])
        with torch.autocast(x.device.type, enabled=False):
            return output(x.to(output.weight.dtype)).squeeze(1)
