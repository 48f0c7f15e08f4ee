"""Learning rates of table rows by their number of training rows.

A value that occurs twice says almost nothing about its effect, but at the common rate its weights follow
these two labels, and a deep part learns them by heart. With normal effects of variance v around zero, the
posterior mean after n impressions of CTR p is the estimate shrunk by i / (i + 1 / v), where i = n p (1 - p)
is the Fisher information of its logit. Rates multiplied by that factor have about the same effect in the few
epochs of a training, because Adam's steps have the same length for rare and for frequent values.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import Collectives
from deepfm.training.batch import Batch
from deepfm.training.optimizers.optimizer import RowRates
from deepfm.training.optimizers.weights import field_embeddings


@torch.no_grad()
def count_rows(model: nn.Module, batches: Iterable[Batch], collectives: Collectives) -> dict[int, Tensor]:
    """Count the lookups of each table row over the batches of all ranks, by the number of id columns."""
    tables = {embedding.num_slots: embedding for embedding in field_embeddings(model)}
    counts = {
        slots: torch.zeros(len(table.table.weight), dtype=torch.int64, device=table.table.weight.device)
        for slots, table in tables.items()
    }
    for batch in batches:
        for slots, table in tables.items():
            rows = table.table_rows(batch.ids)
            counts[slots].index_add_(0, rows, torch.ones_like(rows))
    if counts:
        collectives.all_reduce_([counts[slots] for slots in sorted(counts)], "row_counts")
    return counts


def row_rates(counts: Tensor, ctr: float, damping: float) -> Tensor:
    """(rows,) numbers of training rows -> (rows,) float32 factors i / (i + damping), i = n p (1 - p)."""
    information = counts.double() * (ctr * (1 - ctr))
    return (information / (information + damping)).float()


@torch.no_grad()
def shrink_initial_rows(model: nn.Module, rates: RowRates) -> None:
    """Multiply the random initial rows of the embeddings by their factors: rare values start near zero."""
    for embedding in field_embeddings(model):
        embedding.table.weight.mul_(rates[embedding.num_slots][:, None])
