"""The parts the papers share. Shapes: B impressions, F fields, K embedding dimension, P = F(F-1)/2 pairs.

Every model takes `ids` (B, F) int64, each from 0 within its field, and `x` (B, F), by what each feature's
weight and embedding are multiplied: 1 for an id, the scaled value for a numeric field; None where all are 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class FieldEmbedding(nn.Module):
    """One table for all fields: field f's id i is row offset_f + i; one lookup a batch, sparse gradients.

    Rows start normal with standard deviation `init_std`. Columns of `ids` beyond its own fields are not
    looked at: a dataset has its crossed fields there, which only the wide part of Wide&Deep takes.
    """

    def __init__(self, num_ids: Sequence[int], dim: int, *, init_std: float):
        super().__init__()
        self.num_fields = len(num_ids)
        self.table = nn.Embedding(sum(num_ids), dim, sparse=True)
        nn.init.normal_(self.table.weight, std=init_std)
        offsets = torch.tensor([0, *num_ids[:-1]]).cumsum(0)
        # Follows from num_ids, so it is no weight: saved models hold the table alone.
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F or more) ids and x -> (B, F, dim): x_i v_i."""
        rows = self.table(ids[:, : self.num_fields] + self.offsets)
        return rows if x is None else rows * x[:, : self.num_fields, None]


class LinearTerms(nn.Module):
    """First order, w_0 + sum of w_i x_i (Rendle 2010, eq. 1): a bias and a weight a feature, from zero."""

    def __init__(self, num_ids: Sequence[int]):
        super().__init__()
        self.weights = FieldEmbedding(num_ids, 1, init_std=0.0)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x -> (B,) logits."""
        return self.bias + self.weights(ids, x).sum(dim=(1, 2))


def penalty(model: nn.Module, ids: Tensor, w_reg: float, v_reg: float) -> Tensor:
    """L2 of the features an impression has, summed over the batch: (B, F) ids -> scalar.

    0.5 w_reg |w|^2 + 0.5 v_reg |v|^2 a looked-up row, so a feature is held back as often as it occurs, as
    in the stochastic updates of libFM (Rendle 2012, sec. 3.1), and rows not in the batch cost nothing. Biases
    and deep parts are left alone.
    """
    total = torch.zeros((), device=ids.device)
    for part in model.children():
        if isinstance(part, LinearTerms) and w_reg:
            total = total + 0.5 * w_reg * part.weights(ids).square().sum()
        elif isinstance(part, FieldEmbedding) and v_reg:
            total = total + 0.5 * v_reg * part(ids).square().sum()
    return total


def pairwise_interaction(v: Tensor) -> Tensor:
    """(B, F, K) -> (B,): sum over field pairs i < j of <v_i, v_j>, in O(F K) (Rendle 2010, lemma 3.1)."""
    of_total = v.sum(dim=1).square()  # (B, K)
    of_each = v.square().sum(dim=1)  # (B, K)
    return 0.5 * (of_total - of_each).sum(dim=1)


class DeepPart(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_inputs) -> (B,) logits."""
        return self.layers(x).squeeze(1)
