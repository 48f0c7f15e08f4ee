"""Work of one rank: read the dataset, train the model, evaluate it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from deepfm import storage
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import MAX_READERS, Batch, describe_batch, read_batches
from deepfm.dataset.shard import Shard
from deepfm.distributed.collectives import Collectives
from deepfm.features.sampling import logit_correction
from deepfm.launch.factory import build_loop_config, build_optimizer, epoch_steps, gauc_groups
from deepfm.launch.job_spec import FIRST_STAGE, FIRST_STAGE_WEIGHTS, OPTIMIZER, WEIGHTS, TrainJob
from deepfm.launch.placement import gather_placement
from deepfm.launch.progress import ProgressWriter
from deepfm.launch.prune_signal import should_continue
from deepfm.launch.run_channel import RunChannel
from deepfm.launch.worker_errors import explain_out_of_memory
from deepfm.metrics.field_counts import FieldValueCounts
from deepfm.metrics.slices import DetailedCounts, SliceAccumulator
from deepfm.model_factory import build_model
from deepfm.models.fnn import FNN
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.device import choose_device, retain_freed_memory
from deepfm.training.evaluation import evaluate_rows, gather_buffers
from deepfm.training.loop import Callbacks, LoopConfig, TrainingData, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer
from deepfm.training.profiler import StepProfiler
from deepfm.training.result import TrainingResult
from deepfm.training.state import EpochResult, ResumePoint, TrainingHistory
from deepfm.weights import load_weights, save_weights


def run_worker(job: TrainJob, collectives: Collectives) -> TrainingResult:
    """Train, then evaluate the kept weights on validation and test rows; the same result on every rank."""
    worker = Worker(job, collectives)
    with explain_out_of_memory(collectives.rank, job.model, worker.manifest.num_ids):
        return _train_all_stages(job, worker)


def _train_all_stages(job: TrainJob, worker: "Worker") -> TrainingResult:
    if job.model.model != "fnn" or job.start_url:
        return worker.result(*worker.train(job.model, WEIGHTS))
    if job.init_url:
        # Read by every rank, although the broadcast before the training uses those of rank 0.
        fm_weights, first_stage = load_weights(job.init_url), None
    else:
        fm, first_stage = worker.train(job.model.first_stage(), FIRST_STAGE_WEIGHTS, FIRST_STAGE)
        fm_weights = fm.state_dict()
    model, history = worker.train(job.model, WEIGHTS, start_from=fm_weights)
    return worker.result(model, history, first_stage)


class Worker:
    """Dataset, device and progress of one rank, for all trainings of a job."""

    def __init__(self, job: TrainJob, collectives: Collectives):
        torch.set_num_threads(job.num_threads)
        retain_freed_memory()
        self.job, self.collectives = job, collectives
        self.channel = RunChannel(job.run_url)
        self.manifest = read_manifest(job.dataset_url)
        self.device = choose_device(collectives.gpu)
        self.placements = gather_placement(collectives, self.device)
        self.progress = ProgressWriter(self.channel, self.placements) if collectives.rank == 0 else None

    def read(
        self,
        settings: ModelSettings,
        split: str,
        position: ResumePoint | None = None,
        seed: int | None = None,
    ) -> Iterator[Batch]:
        """Yield this rank's batches of a split, from `position` on; see dataset.read.read_batches."""
        position = position or ResumePoint()
        return read_batches(
            self.job.dataset_url,
            self.manifest,
            split,
            Shard(self.collectives.rank, self.collectives.size, settings.training.batch_size),
            epoch=position.epoch,
            seed=seed,
            segments=position.segments,
            num_done=position.step,
            device=self.device,
            # On a CPU the threads of the training steps use all cores.
            num_readers=min(self.job.num_threads, MAX_READERS) if self.device.type == "cuda" else 1,
        )

    def new_model(self, settings: ModelSettings) -> tuple[nn.Module, Optimizer]:
        """Create a model with fresh weights, equal on every rank, on this device, and its optimizer."""
        torch.manual_seed(settings.training.seed)
        fields = self.manifest.fields
        model = build_model(settings, self.manifest.num_ids, fields.num_crossed, fields.num_slots)
        model.to(self.device)
        return model, build_optimizer(model, settings.training)

    def loop_config(self, settings: ModelSettings, position: ResumePoint | None = None) -> LoopConfig:
        """Build the loop configuration of this model on this dataset and device, from `position` on."""
        num_ranks = self.collectives.size
        steps = epoch_steps(settings, self.manifest, num_ranks, position)
        return build_loop_config(self.job, settings, self.manifest, self.device, num_ranks, steps)

    def train(
        self,
        settings: ModelSettings,
        weights_name: str,
        prefix: str = "",
        start_from: dict[str, Tensor] | None = None,
    ) -> tuple[nn.Module, TrainingHistory]:
        """Train a model and return it with the weights to keep, which are also saved in the run folder.

        `prefix`: of the metric names. `start_from`: weights of an FM for an FNN.
        """
        model, optimizer = self.new_model(settings)
        if start_from is not None:
            cast(FNN, model).start_from(start_from)
        if self.job.start_url:
            self._warm_start(model, optimizer, self.loop_config(settings))
        checkpoints = self._checkpoints(settings, Path(weights_name).stem)
        position = self._restore(checkpoints, model, optimizer) if self.job.resume else None
        position = position or ResumePoint(TrainingHistory(num_ranks=[self.collectives.size]))
        config = self.loop_config(settings, position)
        if self.progress:
            self.progress.start(steps=config.steps, max_epochs=config.max_epochs, prefix=prefix)
        with self._profiler(prefix) as profiler:
            # No training starts from the FM of an FNN, so its optimizer state is not saved.
            saves_optimizer = settings.training.save_optimizer and weights_name == WEIGHTS
            output = _Output(weights_name, prefix, saves_optimizer, checkpoints, profiler)
            callbacks = _WorkerCallbacks(self, model, optimizer, output)
            loop = TrainingLoop(model, optimizer, self.collectives, config, callbacks)
            history = loop.run(self._training_data(settings), position)
        # Only rank 0 reads: on a shared filesystem the others might still see an older file.
        if self.collectives.rank == 0:
            model.load_state_dict(load_weights(f"{self.job.run_url}/{weights_name}"))
        self.collectives.broadcast_(list(model.state_dict().values()), "best")
        return model, history

    def _training_data(self, settings: ModelSettings) -> TrainingData:
        seed = settings.training.seed
        return TrainingData(
            read_train=lambda position: self.read(settings, "train", position, seed),
            read_valid=lambda: self.read(settings, "valid"),
            describe=lambda batch: describe_batch(batch, self.manifest.fields),
        )

    def _profiler(self, prefix: str) -> AbstractContextManager[StepProfiler | None]:
        if self.collectives.rank == 0 and self.job.profile_steps:
            return StepProfiler(self.job.run_url, self.job.profile_steps, prefix)
        return nullcontext()

    def _checkpoints(self, settings: ModelSettings, stage: str) -> Checkpoints:
        fingerprint = {"dataset": self.manifest.digest, "model": settings.model_dump(mode="json")}
        return Checkpoints(self.job.run_url, stage, fingerprint, self.collectives.size)

    def _restore(
        self, checkpoints: Checkpoints, model: nn.Module, optimizer: Optimizer
    ) -> ResumePoint | None:
        """Load the last checkpoint; None if there is none yet."""
        # Rank 0 decides which one: ranks could list different files in a shared folder.
        latest = torch.tensor(checkpoints.latest())
        self.collectives.broadcast_([latest], f"{checkpoints.stage}.checkpoint")
        if latest[0] < 0:
            return None
        position, weights, state = checkpoints.load(tuple(latest.tolist()), self.collectives.rank)
        model.load_state_dict(weights)
        optimizer.load_state({key: value.to(self.device) for key, value in state.items()})
        return position

    def _warm_start(self, model: nn.Module, optimizer: Optimizer, config: LoopConfig) -> None:
        """Load the weights of another training, and its optimizer state if it was saved."""
        url = self.job.start_url
        model.load_state_dict(load_weights(f"{url}/{WEIGHTS}"))
        if storage.exists(f"{url}/{OPTIMIZER}"):
            state = load_weights(f"{url}/{OPTIMIZER}")
            optimizer.load_state({key: value.to(self.device) for key, value in state.items()})
        assert config.schedule is not None
        optimizer.set_rate(config.schedule.factor(1))
        optimizer.refit_state_to_weights()

    def result(
        self, model: nn.Module, history: TrainingHistory, first_stage: TrainingHistory | None = None
    ) -> TrainingResult:
        """Evaluate the finished model; for a training stopped early, return the metrics of its best epoch."""
        num_weights = sum(weight.numel() for weight in model.parameters())
        if history.stopped:
            valid = history.epochs[history.best - 1].valid
            return TrainingResult(history, valid, None, num_weights, first_stage)
        fields = self.manifest.fields
        weighted = self.manifest.data.weight_column is not None
        counts = FieldValueCounts(fields, self.device, weighted=weighted)
        slices = SliceAccumulator(fields, self.job.slice_fields, self.device, weighted=weighted)
        (valid_metrics, valid_gauc), (test_metrics, test_gauc) = (
            evaluate_rows(
                model,
                self.collectives,
                self.read(self.job.model, split),
                logit_correction(self.manifest.data.keep_negatives),
                gauc_groups(self.job.model, fields),
                details,
            )
            for split, details in (("valid", None), ("test", DetailedCounts(counts, slices)))
        )
        return TrainingResult(
            history,
            valid_metrics.compute(valid_gauc),
            test_metrics.compute(test_gauc),
            num_weights,
            first_stage,
            test_metrics.score_counts(),
            counts.counts.tolist(),
            slices.compute(),
        )


@dataclass(frozen=True)
class _Output:
    """Files and names that one training writes."""

    weights_name: str
    prefix: str  # of the metric names
    saves_optimizer: bool
    checkpoints: Checkpoints
    profiler: StepProfiler | None


class _WorkerCallbacks(Callbacks):
    """Saves weights and checkpoints, sends progress, and asks the driver whether to continue."""

    def __init__(self, worker: Worker, model: nn.Module, optimizer: Optimizer, output: _Output):
        self._worker, self._model, self._optimizer, self._output = worker, model, optimizer, output
        self._is_rank_0 = worker.collectives.rank == 0

    def on_step(self, epoch: int, step: int, logloss: float, samples_per_s: float) -> None:
        if self._worker.progress:
            self._worker.progress.on_step(epoch, step, logloss, samples_per_s)
        if self._output.profiler:
            self._output.profiler.step()

    def on_epoch(self, epoch: EpochResult, is_best: bool) -> None:
        run_url = self._worker.job.run_url
        if self._is_rank_0 and is_best:
            save_weights(f"{run_url}/{self._output.weights_name}", self._model.state_dict())
            if self._output.saves_optimizer:
                save_weights(f"{run_url}/{OPTIMIZER}", self._optimizer.state())
        if self._worker.progress:
            self._worker.progress.on_epoch(epoch.curves(self._output.prefix))

    def on_checkpoint(self, position: ResumePoint) -> None:
        if self._worker.job.checkpoint_every_n_steps is None:
            return
        # Averaged buffers would make batch norm's statistics depend on when checkpoints are written.
        rank_buffers = gather_buffers(self._model, self._worker.collectives)
        if self._is_rank_0:
            weights, state = self._model.state_dict(), self._optimizer.state()
            self._output.checkpoints.save(position, weights, state, rank_buffers)

    def should_continue(self, epoch: EpochResult) -> bool:
        # The metrics of an FNN's first stage do not predict those of the model.
        if not self._worker.job.asks_prune_signal or self._output.prefix:
            return True
        return should_continue(self._worker.channel, self._worker.collectives, epoch.number)
