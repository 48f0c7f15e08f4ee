"""A model measured over the rows of all ranks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import Collectives
from deepfm.metrics.binary import BinaryMetrics, Metrics
from deepfm.metrics.gauc import Groups, GroupScores
from deepfm.metrics.slices import Details
from deepfm.training.batch import Batch


@torch.no_grad()
def average_buffers(model: nn.Module, collectives: Collectives) -> None:
    """Batch norm's running statistics, which each rank kept of its own rows, become the mean over ranks."""
    if collectives.size == 1:
        return
    buffers = [value for value in model.buffers() if value.is_floating_point()]
    if buffers:
        collectives.all_reduce_(buffers, "buffers")
        for value in buffers:
            value /= collectives.size


@torch.no_grad()
def buffers_of_ranks(model: nn.Module, collectives: Collectives) -> dict[str, Tensor]:
    """(R, ...) of each buffer as each of the R ranks has it."""
    return {
        name: collectives.all_gather_async(value[None], f"buffers.{name}")()
        for name, value in model.named_buffers()
        if value.is_floating_point()
    }


@torch.no_grad()
def evaluate_rows(
    model: nn.Module,
    collectives: Collectives,
    batches: Iterable[Batch],
    logit_correction: float = 0.0,
    groups: Groups | None = None,
    details: Details | None = None,
) -> tuple[BinaryMetrics, float | None]:
    """The tally of the rows of all ranks, and their GAUC where there are groups; the same on every rank.

    `details`: filled as well, with the rows of all ranks.
    """
    model.eval()
    tally: BinaryMetrics | None = None
    scores = GroupScores(groups) if groups else None
    for batch in batches:
        tally = tally or BinaryMetrics(batch.ids.device)
        logits = model(batch.ids, batch.x) + logit_correction
        tally.update(logits, batch.labels)
        if scores:
            scores.update(batch.ids, logits, batch.labels)
        if details:
            details.update(batch.ids, logits, batch.labels)
    tally = tally or BinaryMetrics()
    collectives.all_reduce_(tally.tensors() + (details.tensors() if details else []), "tally")
    return tally, scores.gauc(collectives) if scores else None


def evaluate(
    model: nn.Module,
    collectives: Collectives,
    batches: Iterable[Batch],
    logit_correction: float = 0.0,
    groups: Groups | None = None,
) -> Metrics:
    """Metrics over the rows of all ranks."""
    tally, gauc = evaluate_rows(model, collectives, batches, logit_correction, groups)
    return tally.compute(gauc)
