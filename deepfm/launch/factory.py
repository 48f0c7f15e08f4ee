"""What a model's settings mean for its loop and its optimizer."""

import torch
from torch import nn

from deepfm.dataset.manifest import Manifest
from deepfm.errors import UserError
from deepfm.features.sampling import logit_correction
from deepfm.fields import FieldSet
from deepfm.launch.job_spec import TrainJob
from deepfm.metrics.gauc import Groups
from deepfm.settings.model import ModelSettings, TrainingSettings
from deepfm.training.device import multiplies_bf16
from deepfm.training.loop import LoopConfig
from deepfm.training.optimizer import Optimizer
from deepfm.training.schedule import Schedule, scale_of


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> Optimizer:
    """The optimizer that the settings name."""
    ftrl = settings.ftrl.model_dump() if settings.ftrl else None
    return Optimizer(
        model,
        settings.learning_rate,
        table_learning_rate=settings.table_learning_rate,
        kind=settings.optimizer,
        table_l2=settings.table_l2,
        ftrl=ftrl,
    )


def build_loop_config(
    job: TrainJob,
    settings: ModelSettings,
    manifest: Manifest,
    device: torch.device,
    num_workers: int,
    num_steps: int,
) -> LoopConfig:
    """How the loop trains this model; `num_steps`: of an epoch."""
    training = settings.training
    schedule = Schedule(
        training.schedule,
        training.warmup_steps,
        num_steps * training.max_epochs,
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
        steps_per_epoch=num_steps,
        seed=training.seed,
        checkpoint_every_n_steps=job.checkpoint_every_n_steps or 0,
        checkpoint_every_s=60 * job.checkpoint_every_min,
        keep_last=training.keep == "last",
        groups=gauc_groups(settings, manifest.fields),
    )


def require_rows_to_norm(settings: ModelSettings, manifest: Manifest, num_workers: int) -> None:
    """UserError where a worker would have a single training row, over which batch norm has nothing to say.

    With two or more it never has: `batch_size` is 4 at the least, and its steps are of almost equal size.
    """
    num_rows = manifest.splits["train"].num_rows
    if settings.deep and settings.deep.batch_norm and num_rows < 2 * num_workers:
        raise UserError(
            f"deep.batch_norm: expected at least 2 training rows for each of {num_workers} workers, found "
            f"{num_rows} in all; give fewer --num-workers, choose more days, or leave batch_norm out"
        )


def gauc_groups(settings: ModelSettings, fields: FieldSet) -> Groups | None:
    """Whose GAUC is measured; None where no field is named, UserError where it is none to go by."""
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
