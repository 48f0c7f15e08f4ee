"""Interactions of fields in any function of ids: a model or a part of it.

Fields are resampled by exchanging their values among the given impressions, so the results hold for similar
impressions. For dependent fields, this creates combinations that do not occur in a log.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, product

import torch
from torch import Tensor

#: (B, S) ids and x -> (B,) logits; x is None where all are 1, see models.layers.
Logit = Callable[[Tensor, Tensor | None], Tensor]


@torch.no_grad()
def interaction_strengths(
    logit: Logit, ids: Tensor, x: Tensor | None, slots: Sequence[slice], *, seed: int = 0
) -> Tensor:
    """(B, S) ids and x, columns of each field -> (F, F) strengths of field pairs, in logits; diagonal 0.

    The standard deviation of the logit's dependence on two fields together, beyond the separate effect of
    each: the root of the superset importance, E[(f(x) - f(x'_i) - f(x'_j) + f(x'_ij))^2] / 4, where x'
    has the values of another impression in the subscripted fields (R. Liu and A. Owen, "Estimating Mean
    Dimensionality of Analysis of Variance Decompositions", 2006). An interaction of three fields counts
    for each of their pairs. This takes P + F + 1 passes over the impressions.
    """
    others = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    baseline = logit(ids, x)
    one_exreplaced = [logit(*_exchange_fields(ids, x, (field,), others)) for field in slots]
    strengths = torch.zeros(len(slots), len(slots))
    for i, j in combinations(range(len(slots)), 2):
        both_exreplaced = logit(*_exchange_fields(ids, x, (slots[i], slots[j]), others))
        interaction = baseline - one_exreplaced[i] - one_exreplaced[j] + both_exreplaced
        strengths[i, j] = strengths[j, i] = interaction.double().square().mean().sqrt() / 2
    return strengths


def _exchange_fields(
    ids: Tensor, x: Tensor | None, fields: Sequence[slice], others: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return ids and x with these fields' columns taken from other rows."""
    ids, x = ids.clone(), None if x is None else x.clone()
    for field in fields:
        for columns in (ids,) if x is None else (ids, x):
            columns[:, field] = columns[others, field]
    return ids, x


@torch.no_grad()
def pair_effect(
    logit: Logit,
    ids: Tensor,
    x: Tensor | None,
    columns: tuple[int, int],
    values: tuple[Sequence[int], Sequence[int]],
) -> Tensor:
    """(B, S) ids and x -> (n, m) effect on the logit of each pair of n and m ids of two columns.

    The mean logit of the impressions with their ids replaced by the pair (the partial dependence of
    J. Friedman, "Greedy Function Approximation", 2001, sec. 8.2), minus the means of its rows and columns:
    it does not include the separate effect of either value.
    """
    means = torch.empty(len(values[0]), len(values[1]), dtype=torch.float64)
    for (row, first), (column, second) in product(enumerate(values[0]), enumerate(values[1])):
        replaced = ids.clone()
        replaced[:, columns[0]], replaced[:, columns[1]] = first, second
        means[row, column] = logit(replaced, x).double().mean()
    return means - means.mean(dim=0, keepdim=True) - means.mean(dim=1, keepdim=True) + means.mean()
