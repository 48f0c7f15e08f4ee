"""Evaluation of a model over the rows of all ranks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import Collectives
from deepfm.metrics.binary import BinaryMetrics, Metrics
from deepfm.metrics.calibration import Calibration
from deepfm.metrics.gauc import Groups, GroupScores
from deepfm.metrics.slices import DetailedCounts
from deepfm.training.batch import Batch, batch_weights


@torch.no_grad()
def average_buffers(model: nn.Module, collectives: Collectives) -> None:
    """Replace batch norm statistics, which each rank collects from its own rows, by their mean over ranks."""
    if collectives.size == 1:
        return
    buffers = [value for value in model.buffers() if value.is_floating_point()]
    if buffers:
        collectives.all_reduce_(buffers, "buffers")
        for value in buffers:
            value /= collectives.size


@torch.no_grad()
def gather_buffers(model: nn.Module, collectives: Collectives) -> dict[str, Tensor]:
    """Gather each floating point buffer from all ranks: name -> (world size, ...)."""
    return {
        name: collectives.all_gather_async(value[None], f"buffers.{name}")()
        for name, value in model.named_buffers()
        if value.is_floating_point()
    }


@dataclass(frozen=True)
class Evaluation:
    """Sums over the rows of all ranks, the same on every rank."""

    metrics: BinaryMetrics
    gauc: float | None  # None: no groups
    uncalibrated: BinaryMetrics | None  # None: without a calibration

    def compute(self) -> Metrics:
        """Compute the metrics."""
        return self.metrics.compute(self.gauc)


@torch.no_grad()
def evaluate_rows(
    model: nn.Module,
    collectives: Collectives,
    batches: Iterable[Batch],
    logit_correction: float = 0.0,
    groups: Groups | None = None,
    details: DetailedCounts | None = None,
    calibration: Calibration | None = None,
) -> Evaluation:
    """Accumulate the metrics of the rows of all ranks.

    `details`, if given, is updated with the rows of all ranks too. The calibration applies to corrected
    logits.
    """
    model.eval()
    metrics: BinaryMetrics | None = None
    uncalibrated: BinaryMetrics | None = None
    scores = GroupScores(groups) if groups else None
    for batch in batches:
        weights = batch_weights(batch)
        if metrics is None:
            metrics = BinaryMetrics(batch.ids.device, weighted=weights is not None)
            uncalibrated = BinaryMetrics(batch.ids.device, weighted=weights is not None)
        logits = model(batch.ids, batch.x) + logit_correction
        if calibration and uncalibrated:
            uncalibrated.update(logits, batch.labels, weights)
            logits = calibration.apply(logits)
        metrics.update(logits, batch.labels, weights)
        if scores:
            scores.update(batch.ids, logits, batch.labels, weights)
        if details:
            details.update(batch.ids, logits, batch.labels, weights)
    metrics, uncalibrated = metrics or BinaryMetrics(), uncalibrated or BinaryMetrics()
    tensors = metrics.tensors() + (details.tensors() if details else [])
    tensors += uncalibrated.tensors() if calibration else []
    collectives.all_reduce_(tensors, "metrics")
    gauc = scores.gauc(collectives) if scores else None
    return Evaluation(metrics, gauc, uncalibrated if calibration else None)


def evaluate(
    model: nn.Module,
    collectives: Collectives,
    batches: Iterable[Batch],
    logit_correction: float = 0.0,
    groups: Groups | None = None,
) -> Metrics:
    """Compute the metrics over the rows of all ranks."""
    return evaluate_rows(model, collectives, batches, logit_correction, groups).compute()
