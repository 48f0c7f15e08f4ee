"""What one worker does, from a dataset's address to metrics: the glue between dataset, model and loop."""

import json
from dataclasses import asdict, dataclass

import torch
from torch import nn

from deepfm import storage
from deepfm.config import ModelSettings
from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.dataset.read import Shard, read_batches
from deepfm.models.build import build_model
from deepfm.training.checkpoint import load_weights, save_weights
from deepfm.training.loop import Epoch, LoopSettings, Training, evaluate, train
from deepfm.training.metrics import Metrics
from deepfm.training.optimizer import Optimizer
from deepfm.training.progress import ProgressWriter
from deepfm.training.world import World

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class WorkOrder:
    """All a worker needs to know; small and plain, for it travels."""

    dataset_url: str
    run_url: str  # a folder of this run; the driver and every worker reach it
    model: ModelSettings
    num_threads: int


@dataclass(frozen=True)
class Outcome:
    """What a training came to; the best epoch's weights lie in `run_url`/weights.safetensors."""

    training: Training
    valid: Metrics  # of the best epoch's weights, evaluated again
    test: Metrics

    @property
    def best_epoch(self) -> Epoch:
        return self.training.epochs[self.training.best - 1]

    @property
    def samples_per_s(self) -> float:
        """Of all workers together, over all epochs, validation not counted."""
        epochs = self.training.epochs
        return len(epochs) / sum(1 / epoch.samples_per_s for epoch in epochs)


def run_worker(order: WorkOrder, world: World) -> Outcome:
    """Train, then measure the best epoch's weights on validation and test rows; the same on every rank."""
    torch.set_num_threads(order.num_threads)
    manifest, settings = read_manifest(order.dataset_url), order.model.training
    device = choose_device(world.gpu)
    torch.manual_seed(settings.seed)
    model = build_model(order.model, manifest.num_ids).to(device)
    torch.manual_seed(settings.seed + world.rank)  # each rank drops out units of its own

    shard = Shard(world.rank, world.size, settings.batch_size)

    def read(split: str, epoch: int = 0, seed: int | None = None):
        batches = read_batches(order.dataset_url, manifest, split, shard, epoch=epoch, seed=seed)
        return (batch.to(device) for batch in batches)

    progress = _progress(order, world, manifest, shard)

    def keep(epoch: Epoch, is_best: bool) -> None:
        if world.rank == 0 and is_best:
            save_weights(f"{order.run_url}/{WEIGHTS}", model.state_dict())
        if progress:
            progress.epoch(epoch_metrics(epoch))

    training = train(
        model,
        Optimizer(model, settings.learning_rate),
        world,
        LoopSettings(settings.max_epochs, settings.patience, order.model.w_reg, order.model.v_reg),
        read_train=lambda epoch: read("train", epoch, settings.seed),
        read_valid=lambda: read("valid"),
        on_step=progress.step if progress else lambda *_: None,
        on_epoch=keep,
    )
    _restore_best(model, order, world)
    return Outcome(training, evaluate(model, world, read("valid")), evaluate(model, world, read("test")))


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """One point of each curve, by its name in MLflow."""
    return {
        "epoch": epoch.number,
        "train_logloss": epoch.train_logloss,
        "valid_logloss": epoch.valid.logloss,
        "valid_auc": epoch.valid.auc,
        "valid_calibration": epoch.valid.calibration,
        "samples_per_s": epoch.samples_per_s,
        "epoch_seconds": epoch.seconds,
    }


def choose_device(gpu: int | None) -> torch.device:
    """The worker's GPU (see World.gpu); the CPU where there is none."""
    if gpu is None or not torch.cuda.is_available():
        return torch.device("cpu")
    # A worker that sees fewer GPUs than the host has was given those: CUDA_VISIBLE_DEVICES numbers them anew.
    index = gpu % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _progress(order: WorkOrder, world: World, manifest: Manifest, shard: Shard) -> ProgressWriter | None:
    if world.rank != 0:
        return None
    num_steps = shard.num_steps(manifest.splits["train"].num_rows)
    return ProgressWriter(order.run_url, num_steps=num_steps, max_epochs=order.model.training.max_epochs)


def _restore_best(model: nn.Module, order: WorkOrder, world: World) -> None:
    # Only rank 0 reads: on a shared filesystem the others might still see an older file.
    if world.rank == 0:
        model.load_state_dict(load_weights(f"{order.run_url}/{WEIGHTS}"))
    world.broadcast_(list(model.state_dict().values()), "best")


def outcome_to_json(outcome: Outcome) -> str:
    """For the way back from a worker: numbers only."""
    return json.dumps(asdict(outcome))


def outcome_from_json(text: str) -> Outcome:
    """What `outcome_to_json` wrote."""
    document = json.loads(text)
    epochs = [
        Epoch(**{**epoch, "valid": Metrics(**epoch["valid"])}) for epoch in document["training"]["epochs"]
    ]
    return Outcome(
        Training(epochs, document["training"]["best"]),
        Metrics(**document["valid"]),
        Metrics(**document["test"]),
    )


def failure_url(run_url: str, rank: int) -> str:
    """Where a rank leaves the message of what stopped it."""
    return f"{run_url}/failure-{rank}.json"


def report_failure(order: WorkOrder, world: World, error: Exception, *, by_user: bool) -> None:
    """Leave the message where the driver finds it: Horovod only reports that a process exited."""
    document = {"rank": world.rank, "message": str(error), "type": type(error).__name__, "by_user": by_user}
    storage.write_json(failure_url(order.run_url, world.rank), document)
