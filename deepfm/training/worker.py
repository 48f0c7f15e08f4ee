"""What one worker does, from a dataset's address to metrics: the glue between dataset, model and loop."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from deepfm import storage
from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.dataset.read import Shard, read_batches
from deepfm.features.sampling import logit_correction
from deepfm.model_settings import ModelSettings, TrainingSettings
from deepfm.models.build import build_model
from deepfm.training.checkpoint import Checkpoints, load_weights, save_weights
from deepfm.training.device import choose_device, keep_freed_memory, multiplies_bf16
from deepfm.training.loop import Epoch, LoopSettings, Position, Training, evaluate, train
from deepfm.training.optimizer import Optimizer
from deepfm.training.outcome import Outcome
from deepfm.training.progress import ProgressWriter
from deepfm.training.schedule import Schedule, scale_of
from deepfm.training.world import World

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
#: Of the FM that an FNN starts from; its curves have the prefix in MLflow.
FIRST_STAGE_WEIGHTS, FIRST_STAGE = "fm.safetensors", "fm_"


@dataclass(frozen=True)
class WorkOrder:
    """All a worker needs to know; small and plain, for it travels."""

    dataset_url: str
    run_url: str  # a folder of this run; the driver and every worker reach it
    model: ModelSettings
    num_threads: int
    init_url: str | None = None  # fnn: weights of the FM to start from; None: one is trained first
    checkpoint_every_n_steps: int | None = None  # and after each epoch; 0: only then; None: never
    resume: bool = False  # go on from the last checkpoint in the run's folder
    start_url: str | None = None  # a folder of weights, and of what the optimizer remembers, to go on from


def run_worker(order: WorkOrder, world: World) -> Outcome:
    """Train, then measure the best epoch's weights on validation and test rows; the same on every rank."""
    torch.set_num_threads(order.num_threads)
    keep_freed_memory()
    worker = _Worker(order, world, read_manifest(order.dataset_url))
    if order.model.model != "fnn" or order.start_url:
        model, training = worker.train(order.model, WEIGHTS)
        return worker.outcome(model, training)
    if order.init_url:
        # By every rank, though the broadcast at the start of the training takes rank 0's.
        fm_weights, first_stage = load_weights(order.init_url), None
    else:
        fm, first_stage = worker.train(order.model.first_stage(), FIRST_STAGE_WEIGHTS, FIRST_STAGE)
        fm_weights = fm.state_dict()
    model, training = worker.train(order.model, WEIGHTS, start_from=fm_weights)
    return worker.outcome(model, training, first_stage)


class _Worker:
    """One rank's dataset, device and progress, for as many trainings as the order takes."""

    def __init__(self, order: WorkOrder, world: World, manifest: Manifest):
        self._order, self._world, self._manifest = order, world, manifest
        self._device = choose_device(world.gpu)
        self._logit_correction = logit_correction(manifest.data.keep_negatives)
        self._progress = ProgressWriter(order.run_url) if world.rank == 0 else None

    def _read(
        self, settings: ModelSettings, split: str, epoch: int = 0, num_done: int = 0, seed: int | None = None
    ):
        shard = Shard(self._world.rank, self._world.size, settings.training.batch_size)
        batches = read_batches(self._order.dataset_url, self._manifest, split, shard, epoch=epoch, seed=seed)
        return (batch.to(self._device) for batch in islice(batches, num_done, None))

    def train(
        self,
        settings: ModelSettings,
        weights_name: str,
        curves: str = "",
        start_from: dict[str, Tensor] | None = None,
    ) -> tuple[nn.Module, Training]:
        """A model with its best epoch's weights, kept in the run's folder; `curves`: their names' prefix."""
        training_settings, weights_url = settings.training, f"{self._order.run_url}/{weights_name}"
        torch.manual_seed(training_settings.seed)
        fields = self._manifest.fields
        model = build_model(settings, self._manifest.num_ids, fields.num_crossed, fields.num_slots)
        model.to(self._device)
        optimizer = make_optimizer(model, training_settings)
        if start_from is not None:
            model.start_from(start_from)
        if self._order.start_url:
            self._go_on(model, optimizer)
        checkpoints = self._checkpoints(settings, Path(weights_name).stem)
        position = self._restore(checkpoints, model, optimizer) if self._order.resume else None
        progress = self._progress
        shard = Shard(0, self._world.size, training_settings.batch_size)
        num_steps = shard.num_steps(self._manifest.splits["train"].num_rows)
        if progress:
            progress.begin(num_steps=num_steps, max_epochs=training_settings.max_epochs)

        def keep(epoch: Epoch, is_best: bool) -> None:
            if self._world.rank == 0 and is_best:
                save_weights(weights_url, model.state_dict())
                if training_settings.save_optimizer:
                    save_weights(f"{self._order.run_url}/{OPTIMIZER}", optimizer.state())
            if progress:
                progress.epoch(epoch_metrics(epoch, curves))

        def save_checkpoint(position: Position) -> None:
            if self._world.rank == 0 and self._order.checkpoint_every_n_steps is not None:
                checkpoints.save(position, model.state_dict(), optimizer.state())

        training = train(
            model,
            optimizer,
            self._world,
            LoopSettings(
                training_settings.max_epochs,
                training_settings.patience,
                settings.w_reg,
                settings.v_reg,
                logit_correction=self._logit_correction,
                bf16=training_settings.precision == "bf16" and multiplies_bf16(self._device),
                wire=training_settings.wire,
                monitor=training_settings.monitor,
                schedule=Schedule(
                    training_settings.schedule,
                    training_settings.warmup_steps,
                    num_steps * training_settings.max_epochs,
                    scale_of(training_settings.scale_learning_rate, self._world.size),
                ),
                steps_per_epoch=num_steps,
                seed=training_settings.seed,
                checkpoint_every_n_steps=self._order.checkpoint_every_n_steps or 0,
                keep_last=training_settings.keep == "last",
            ),
            read_train=lambda epoch, num_done: self._read(
                settings, "train", epoch, num_done, training_settings.seed
            ),
            read_valid=lambda: self._read(settings, "valid"),
            on_step=progress.step if progress else lambda *_: None,
            on_epoch=keep,
            on_checkpoint=save_checkpoint,
            position=position,
        )
        # Only rank 0 reads: on a shared filesystem the others might still see an older file.
        if self._world.rank == 0:
            model.load_state_dict(load_weights(weights_url))
        self._world.broadcast_(list(model.state_dict().values()), "best")
        return model, training

    def _checkpoints(self, settings: ModelSettings, stage: str) -> Checkpoints:
        fingerprint = {
            "dataset": self._manifest.digest,
            "workers": self._world.size,
            "model": settings.model_dump(mode="json"),
        }
        return Checkpoints(self._order.run_url, stage, fingerprint)

    def _restore(self, checkpoints: Checkpoints, model: nn.Module, optimizer: Optimizer) -> Position | None:
        """Take up the last checkpoint; None where there is none yet."""
        # Which one rank 0 says: listing a shared folder, ranks could see different ones.
        place = torch.tensor(checkpoints.latest())
        self._world.broadcast_([place], f"{checkpoints.stage}.checkpoint")
        if place[0] < 0:
            return None
        position, weights, moments = checkpoints.load(tuple(place.tolist()))
        model.load_state_dict(weights)
        optimizer.load_state({key: value.to(self._device) for key, value in moments.items()})
        return position

    def _go_on(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Take up another training's weights and what its optimizer remembers, where that was kept."""
        url = self._order.start_url
        model.load_state_dict(load_weights(f"{url}/{WEIGHTS}"))
        if storage.exists(f"{url}/{OPTIMIZER}"):
            state = load_weights(f"{url}/{OPTIMIZER}")
            optimizer.load_state({key: value.to(self._device) for key, value in state.items()})

    def outcome(self, model: nn.Module, training: Training, first_stage: Training | None = None) -> Outcome:
        """The finished model, measured."""
        valid, test = (
            evaluate(model, self._world, self._read(self._order.model, split), self._logit_correction)
            for split in ("valid", "test")
        )
        num_weights = sum(weight.numel() for weight in model.parameters())
        return Outcome(training, valid, test, num_weights, first_stage)


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> Optimizer:
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


def epoch_metrics(epoch: Epoch, prefix: str = "") -> dict[str, float]:
    """One point of each curve, by its name in MLflow."""
    curves = {
        "train_logloss": epoch.train_logloss,
        "valid_logloss": epoch.valid.logloss,
        "valid_auc": epoch.valid.auc,
        "valid_calibration": epoch.valid.calibration,
        "samples_per_s": epoch.samples_per_s,
        "epoch_seconds": epoch.seconds,
    }
    return {"epoch": epoch.number, **{f"{prefix}{name}": value for name, value in curves.items()}}


def failure_url(run_url: str, rank: int) -> str:
    """Where a rank leaves the message of what stopped it."""
    return f"{run_url}/failure-{rank}.json"


def report_failure(order: WorkOrder, world: World, error: Exception, *, by_user: bool) -> None:
    """Leave the message where the driver finds it: Horovod only reports that a process exited."""
    document = {"rank": world.rank, "message": str(error), "type": type(error).__name__, "by_user": by_user}
    storage.write_json(failure_url(order.run_url, world.rank), document)
