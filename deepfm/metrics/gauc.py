"""GAUC: the AUC within each group of impressions, such as those of one user, averaged over the groups."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepfm.distributed.collectives import Collectives


@dataclass(frozen=True)
class Groups:
    """The impressions of one field's known ids: those of missing and unknown values are nobody's."""

    slot: int  # of the ids' columns
    first_known_id: int


class GroupScores:
    """Of every impression of a group its id, logit and label, as exact ranking needs all of them.

    On every rank those of all ranks: 12 bytes a row of the split that is measured.
    """

    def __init__(self, groups: Groups):
        self._groups = groups
        self._keys: list[Tensor] = []  # twice the id, and the label
        self._logits: list[Tensor] = []

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """(B, S) ids, (B,) logits and (B,) labels of 0 and 1."""
        of_groups = ids[:, self._groups.slot]
        known = of_groups >= self._groups.first_known_id
        self._keys.append((2 * of_groups + labels.long())[known].cpu())
        self._logits.append(logits.detach().float()[known].cpu())

    def gauc(self, collectives: Collectives) -> float:
        """See `gauc`; of the impressions of all ranks."""
        keys = torch.cat(self._keys) if self._keys else torch.zeros(0, dtype=torch.int64)
        logits = torch.cat(self._logits) if self._logits else torch.zeros(0)
        waits = [
            collectives.all_gather_async(keys, "gauc.keys"),
            collectives.all_gather_async(logits, "gauc.logits"),
        ]
        keys, logits = (wait() for wait in waits)
        return gauc(keys // 2, logits, keys % 2) if len(keys) else float("nan")


def gauc(groups: Tensor, logits: Tensor, labels: Tensor) -> float:
    """(n,) int64 groups, (n,) logits and (n,) int64 labels -> AUC of each group, weighted by its impressions.

    H. Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", 2017. Groups of one label have
    none and are left out; nan where all are. Ties count half.
    """
    # By group, and by logit within it: two stable sorts.
    order = torch.argsort(logits, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    groups, logits, clicks = groups[order], logits[order], labels[order].double()
    of_row, num_rows = _runs(groups.diff() != 0)
    starts = num_rows.cumsum(0) - num_rows
    # Of equal logits in a group all have the mean of their ranks.
    of_tie, num_tied = _runs((groups.diff() != 0) | (logits.diff() != 0))
    last = num_tied.cumsum(0).double()
    ranks = (last - (num_tied - 1) / 2)[of_tie] - starts[of_row].double()  # from 1 in each group
    num_clicks = clicks.new_zeros(len(num_rows)).index_add_(0, of_row, clicks)
    sum_ranks = clicks.new_zeros(len(num_rows)).index_add_(0, of_row, ranks * clicks)
    num_pairs = num_clicks * (num_rows - num_clicks)
    both = num_pairs > 0
    aucs = (sum_ranks - num_clicks * (num_clicks + 1) / 2)[both] / num_pairs[both]
    weights = num_rows[both].double()
    return float((aucs * weights).sum() / weights.sum())


def _runs(differs: Tensor) -> tuple[Tensor, Tensor]:
    """(n - 1,): whether each row but the first differs from the one before -> (n,) its run, (runs,) rows."""
    of_row = torch.cat([differs.new_zeros(1, dtype=torch.int64), differs.long()]).cumsum(0)
    return of_row, torch.bincount(of_row)
