"""Optimizer and loop configuration built from settings."""

from dataclasses import replace

import torch
from torch import nn

from deepfm.dataset.manifest import Manifest
from deepfm.dataset.shard import Shard, remaining_rows
from deepfm.errors import UserError
from deepfm.features.sampling import logit_correction
from deepfm.fields import FieldSet
from deepfm.launch.job_spec import TrainJob
from deepfm.metrics.gauc import Groups
from deepfm.settings.model import ModelSettings, TrainingSettings
from deepfm.training.device import multiplies_bf16
from deepfm.training.loop import LoopConfig
from deepfm.training.optimizers.optimizer import Optimizer, RowRates
from deepfm.training.schedule import EpochSteps, ResumedEpoch, Schedule, scale_of
from deepfm.training.state import ResumePoint


def build_optimizer(
    model: nn.Module, settings: TrainingSettings, row_rates: RowRates | None = None
) -> Optimizer:
    """Build the optimizer that the settings describe; `row_rates`: see Optimizer."""
    ftrl = settings.ftrl.model_dump() if settings.ftrl else None
    return Optimizer(
        model,
        settings.learning_rate,
        table_learning_rate=settings.table_learning_rate,
        kind=settings.optimizer,
        table_l2=settings.table_l2,
        ftrl=ftrl,
        row_rates=row_rates,
    )


def build_loop_config(
    job: TrainJob,
    settings: ModelSettings,
    manifest: Manifest,
    device: torch.device,
    num_workers: int,
    steps: EpochSteps,
) -> LoopConfig:
    """Build the loop configuration of a model."""
    training = settings.training
    schedule = Schedule(
        training.schedule,
        training.warmup_steps,
        steps.scheduled * training.max_epochs,
        scale_of(training.scale_learning_rate, num_workers),
        training.plateau_factor,
    )
    return LoopConfig(
        training.max_epochs,
        training.patience,
        settings.w_reg,
        settings.v_reg,
        logit_correction=logit_correction(manifest.data.keep_negatives),
        bf16=training.precision == "bf16" and multiplies_bf16(device),
        gradient_compression=training.gradient_compression,
        monitor=training.monitor,
        schedule=schedule,
        plateau_patience=training.plateau_patience,
        steps=steps,
        seed=training.seed,
        checkpoint_every_n_steps=job.checkpoint_every_n_steps or 0,
        checkpoint_every_s=60 * job.checkpoint_every_min,
        keep_last=training.keep == "last",
        groups=gauc_groups(settings, manifest.fields),
        mean_weight=manifest.splits["train"].mean_weight,
        positive_weight=training.positive_weight,
    )


def epoch_steps(
    settings: ModelSettings, manifest: Manifest, num_ranks: int, position: ResumePoint | None = None
) -> EpochSteps:
    """Return the steps of each epoch from `position`, or from the start of a training.

    Raises UserError if too few rows of the epoch are left for `num_ranks` ranks.
    """
    num_rows = manifest.splits["train"].num_rows
    shard = Shard(0, num_ranks, settings.training.batch_size)
    per_epoch = shard.num_steps(num_rows)
    if position is None:
        return EpochSteps(per_epoch)
    num_left = remaining_rows(num_rows, shard, position.segments).num_rows
    if position.segments:
        _require_rows_left(settings, position.epoch, num_left, num_ranks)
    started = replace(shard, size=position.history.num_ranks[0]).num_steps(num_rows)
    resumed = ResumedEpoch(
        position.epoch,
        # An earlier version did not record them, and could not change the number of ranks.
        sum(epoch.num_steps or started for epoch in position.history.epochs),
        position.segment_steps,
        1 - num_left / num_rows,
        shard.num_steps(num_left),
    )
    return EpochSteps(per_epoch, started, resumed)


def _require_rows_left(settings: ModelSettings, epoch: int, num_rows: int, num_ranks: int) -> None:
    """Raise UserError if rows are left, but too few for equally many steps of all ranks."""
    per_rank = 2 if settings.deep and settings.deep.batch_norm else 1
    if 0 < num_rows < per_rank * num_ranks:
        raise UserError(
            f"--num-workers {num_ranks}: expected at least {per_rank} of the rows that are left in epoch "
            f"{epoch} for each worker, found {num_rows} rows; resume with as many workers as before, or "
            f"with {max(num_rows // per_rank, 1)}"
        )


def require_rows_to_norm(settings: ModelSettings, manifest: Manifest, num_workers: int) -> None:
    """Raise UserError if batch norm is used and a worker would train on a single row.

    With two or more rows per worker no step has a single row: `batch_size` is at least 4, and the steps of an
    epoch differ by at most one row.
    """
    num_rows = manifest.splits["train"].num_rows
    if settings.deep and settings.deep.batch_norm and num_rows < 2 * num_workers:
        raise UserError(
            f"deep.batch_norm: expected at least 2 training rows for each of {num_workers} workers, found "
            f"{num_rows} in total; lower --num-workers, choose more days, or remove batch_norm"
        )


def gauc_groups(settings: ModelSettings, fields: FieldSet) -> Groups | None:
    """Return the groups of the GAUC, or None if no field is configured.

    Raises UserError if the field is not a category of the dataset.
    """
    name = settings.training.gauc_field
    if name is None:
        return None
    field = next((field for field in fields if field.name == name), None)
    if field is None or field.kind != "category":
        found = f"one of kind {field.kind}" if field else f"none among {', '.join(fields.names)}"
        raise UserError(
            f"training.gauc_field {name}: expected a field of kind category in the dataset, found {found}"
        )
    return Groups(fields.slot_ranges[name].start, field.first_known_id)
