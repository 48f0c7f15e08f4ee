"""Which fields act together, and how: asked of any function of ids, a part of a model or all of it.

Fields are resampled by exchanging their values among the impressions given, so what is measured holds for
impressions like these. Where fields depend on each other, this makes combinations that no log has.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, product

import torch
from torch import Tensor

#: (B, S) ids and x -> (B,) logits; x is None where all are 1, see layers.
Logit = Callable[[Tensor, Tensor | None], Tensor]


@torch.no_grad()
def interaction_strengths(
    logit: Logit, ids: Tensor, x: Tensor | None, slots: Sequence[slice], *, seed: int = 0
) -> Tensor:
    """(B, S) ids and x, and the columns of each field -> (F, F): by pair of fields, in logits; diagonal 0.

    The standard deviation of all that the logit holds of two fields together, beyond what each adds by
    itself: the root of the superset importance, E[(f(x) - f(x'_i) - f(x'_j) + f(x'_ij))^2] / 4, where x'
    has the values of another impression in the fields named (R. Liu and A. Owen, "Estimating Mean
    Dimensionality of Analysis of Variance Decompositions", 2006). What three fields do together counts for
    each of their pairs. It takes P + F + 1 passes over the impressions.
    """
    others = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    whole = logit(ids, x)
    of_one = [logit(*_exchanged(ids, x, (field,), others)) for field in slots]
    strengths = torch.zeros(len(slots), len(slots))
    for i, j in combinations(range(len(slots)), 2):
        of_both = logit(*_exchanged(ids, x, (slots[i], slots[j]), others))
        together = whole - of_one[i] - of_one[j] + of_both
        strengths[i, j] = strengths[j, i] = together.double().square().mean().sqrt() / 2
    return strengths


def _exchanged(
    ids: Tensor, x: Tensor | None, fields: Sequence[slice], others: Tensor
) -> tuple[Tensor, Tensor | None]:
    """ids and x with these fields' columns taken from other rows."""
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
    """(B, S) ids and x -> (n, m): what each pair of n and m ids of two columns adds to the logit.

    The mean logit of the impressions with those ids in place of their own (the partial dependence of
    J. Friedman, "Greedy Function Approximation", 2001, sec. 8.2), less the means of its rows and columns:
    what either value adds by itself is not in it.
    """
    means = torch.empty(len(values[0]), len(values[1]), dtype=torch.float64)
    for (row, first), (column, second) in product(enumerate(values[0]), enumerate(values[1])):
        changed = ids.clone()
        changed[:, columns[0]], changed[:, columns[1]] = first, second
        means[row, column] = logit(changed, x).double().mean()
    return means - means.mean(dim=0, keepdim=True) - means.mean(dim=1, keepdim=True) + means.mean()
