"""A model measured over the rows of all ranks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import World
from deepfm.metrics.binary import Metrics, Tally
from deepfm.metrics.gauc import Groups, GroupScores
from deepfm.metrics.slices import Details
from deepfm.training.batch import Batch


@torch.no_grad()
def average_buffers(model: nn.Module, world: World) -> None:
    """Batch norm's running statistics, which each rank kept of its own rows, become the mean over ranks."""
    if world.size == 1:
        return
    buffers = [value for value in model.buffers() if value.is_floating_point()]
    if buffers:
        world.sum_(buffers, "buffers")
        for value in buffers:
            value /= world.size


@torch.no_grad()
def buffers_of_ranks(model: nn.Module, world: World) -> dict[str, Tensor]:
    """(R, ...) of each buffer as each of the R ranks has it."""
    return {
        name: world.start_gather(value[None], f"buffers.{name}")()
        for name, value in model.named_buffers()
        if value.is_floating_point()
    }


@torch.no_grad()
def tally_rows(
    model: nn.Module,
    world: World,
    batches: Iterable[Batch],
    logit_correction: float = 0.0,
    groups: Groups | None = None,
    details: Details | None = None,
) -> tuple[Tally, float | None]:
    """The tally of the rows of all ranks, and their GAUC where there are groups; the same on every rank.

    `details`: filled as well, with the rows of all ranks.
    """
    model.eval()
    tally: Tally | None = None
    scores = GroupScores(groups) if groups else None
    for batch in batches:
        tally = tally or Tally(batch.ids.device)
        logits = model(batch.ids, batch.x) + logit_correction
        tally.add(logits, batch.labels)
        if scores:
            scores.add(batch.ids, logits, batch.labels)
        if details:
            details.add(batch.ids, logits, batch.labels)
    tally = tally or Tally()
    world.sum_(tally.tensors() + (details.tensors() if details else []), "tally")
    return tally, scores.gauc(world) if scores else None


def evaluate(
    model: nn.Module,
    world: World,
    batches: Iterable[Batch],
    logit_correction: float = 0.0,
    groups: Groups | None = None,
) -> Metrics:
    """Metrics over the rows of all ranks."""
    tally, gauc = tally_rows(model, world, batches, logit_correction, groups)
    return tally.metrics(gauc)
