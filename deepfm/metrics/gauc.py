"""GAUC: the AUC within each group of impressions, such as those of one user, averaged over the groups."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepfm.distributed.collectives import Collectives


@dataclass(frozen=True)
class Groups:
    """Groups of impressions by the known ids of one field; missing and unknown values are in no group."""

    slot: int  # column of the ids
    first_known_id: int


class GroupScores:
    """Group id, logit and label of every impression in a group: exact ranking needs all of them.

    Every rank ends up with those of all ranks: 12 bytes per row of the split, 16 with weights.
    """

    def __init__(self, groups: Groups):
        self._groups = groups
        self._keys: list[Tensor] = []  # twice the id, and the label
        self._logits: list[Tensor] = []
        self._weights: list[Tensor] = []  # empty if the rows have none

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch: (B, S) ids, (B,) logits, (B,) labels of 0 and 1, (B,) weights if the rows have any."""
        group_ids = ids[:, self._groups.slot]
        known = group_ids >= self._groups.first_known_id
        self._keys.append((2 * group_ids + labels.long())[known].cpu())
        self._logits.append(logits.detach().float()[known].cpu())
        if weights is not None:
            self._weights.append(weights.float()[known].cpu())

    def gauc(self, collectives: Collectives) -> float:
        """Compute the GAUC over the impressions of all ranks."""
        keys = torch.cat(self._keys) if self._keys else torch.zeros(0, dtype=torch.int64)
        logits = torch.cat(self._logits) if self._logits else torch.zeros(0)
        waits = [
            collectives.all_gather_async(keys, "gauc.keys"),
            collectives.all_gather_async(logits, "gauc.logits"),
        ]
        if self._weights:
            waits.append(collectives.all_gather_async(torch.cat(self._weights), "gauc.weights"))
        keys, logits, *weights = (wait() for wait in waits)
        return gauc(keys // 2, logits, keys % 2, *weights) if len(keys) else float("nan")


def gauc(groups: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Mean AUC of groups, weighted by their impressions.

    H. Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", 2017.

    `groups` (n,) int64, `logits` (n,), `labels` (n,) int64 of 0 and 1, `weights` (n,) (None: 1). Groups with
    equal labels have no AUC and are left out; NaN if all groups are. Ties count half.
    """
    # Two stable sorts: by group, and by logit within each group.
    order = torch.argsort(logits, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    groups, logits, clicks = groups[order], logits[order], labels[order].double()
    weights = torch.ones_like(clicks) if weights is None else weights[order].double()
    row_group = _runs(groups.diff() != 0)
    row_tie = _runs((groups.diff() != 0) | (logits.diff() != 0))
    positives, negatives = weights * clicks, weights * (1 - clicks)
    tied, group_negatives = _sums(negatives, row_tie), _sums(negatives, row_group)
    # Without a click and with a lower logit, of the same group.
    lower = (tied.cumsum(0) - tied)[row_tie] - (group_negatives.cumsum(0) - group_negatives)[row_group]
    won = _sums(positives * (lower + tied[row_tie] / 2), row_group)
    group_positives = _sums(positives, row_group)
    num_pairs = group_positives * group_negatives
    both = num_pairs > 0
    group_weights = (group_positives + group_negatives)[both]
    return float((won[both] / num_pairs[both] * group_weights).sum() / group_weights.sum())


def _runs(differs: Tensor) -> Tensor:
    """Map (n - 1,) bool, whether a row differs from the one before, to the (n,) run of each row."""
    return torch.cat([differs.new_zeros(1, dtype=torch.int64), differs.long()]).cumsum(0)


def _sums(values: Tensor, runs: Tensor) -> Tensor:
    """Sum (n,) values by their (n,) runs -> (runs,)."""
    return values.new_zeros(int(runs[-1]) + 1).index_add_(0, runs, values)
