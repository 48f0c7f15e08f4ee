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

    Every rank ends up with those of all ranks: 12 bytes per row of the split.
    """

    def __init__(self, groups: Groups):
        self._groups = groups
        self._keys: list[Tensor] = []  # twice the id, and the label
        self._logits: list[Tensor] = []

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: (B, S) ids, (B,) logits and (B,) labels of 0 and 1."""
        group_ids = ids[:, self._groups.slot]
        known = group_ids >= self._groups.first_known_id
        self._keys.append((2 * group_ids + labels.long())[known].cpu())
        self._logits.append(logits.detach().float()[known].cpu())

    def gauc(self, collectives: Collectives) -> float:
        """Compute the GAUC over the impressions of all ranks."""
        keys = torch.cat(self._keys) if self._keys else torch.zeros(0, dtype=torch.int64)
        logits = torch.cat(self._logits) if self._logits else torch.zeros(0)
        waits = [
            collectives.all_gather_async(keys, "gauc.keys"),
            collectives.all_gather_async(logits, "gauc.logits"),
        ]
        keys, logits = (wait() for wait in waits)
        return gauc(keys // 2, logits, keys % 2) if len(keys) else float("nan")


def gauc(groups: Tensor, logits: Tensor, labels: Tensor) -> float:
    """Mean AUC of groups, weighted by their impressions.

    H. Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", 2017.

    `groups` (n,) int64, `logits` (n,), `labels` (n,) int64 of 0 and 1. Groups with equal labels have no AUC
    and are left out; NaN if all groups are. Ties count half.
    """
    # Two stable sorts: by group, and by logit within each group.
    order = torch.argsort(logits, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    groups, logits, clicks = groups[order], logits[order], labels[order].double()
    row_group, num_rows = _runs(groups.diff() != 0)
    starts = num_rows.cumsum(0) - num_rows
    # Equal logits of a group share the mean of their ranks.
    row_tie, num_tied = _runs((groups.diff() != 0) | (logits.diff() != 0))
    last = num_tied.cumsum(0).double()
    ranks = (last - (num_tied - 1) / 2)[row_tie] - starts[row_group].double()  # from 1 in each group
    num_clicks = clicks.new_zeros(len(num_rows)).index_add_(0, row_group, clicks)
    sum_ranks = clicks.new_zeros(len(num_rows)).index_add_(0, row_group, ranks * clicks)
    num_pairs = num_clicks * (num_rows - num_clicks)
    both = num_pairs > 0
    aucs = (sum_ranks - num_clicks * (num_clicks + 1) / 2)[both] / num_pairs[both]
    weights = num_rows[both].double()
    return float((aucs * weights).sum() / weights.sum())


def _runs(differs: Tensor) -> tuple[Tensor, Tensor]:
    """Map (n - 1,) bool, whether a row differs from the one before, to (n,) runs and (runs,) lengths."""
    run = torch.cat([differs.new_zeros(1, dtype=torch.int64), differs.long()]).cumsum(0)
    return run, torch.bincount(run)
