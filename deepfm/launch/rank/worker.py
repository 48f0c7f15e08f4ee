"""Dataset, device and progress of one rank, and the training of one model on it."""

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
from deepfm.launch.job_spec import OPTIMIZER, WEIGHTS, TrainJob
from deepfm.launch.placement import gather_placement
from deepfm.launch.progress import ProgressWriter
from deepfm.launch.rank.callbacks import StageCallbacks, StageOutput
from deepfm.launch.run_channel import RunChannel
from deepfm.metrics.binary import Metrics
from deepfm.model_factory import build_model
from deepfm.models.layers import StartsFromPart
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.device import choose_device, retain_freed_memory
from deepfm.training.evaluation import evaluate
from deepfm.training.loop import LoopConfig, TrainingData, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer, RowRates
from deepfm.training.optimizers.row_rates import count_rows, row_rates, shrink_initial_rows
from deepfm.training.optimizers.weights import field_embeddings
from deepfm.training.profiler import StepProfiler
from deepfm.training.state import ResumePoint, TrainingHistory
from deepfm.weights import load_weights, save_weights


@dataclass(frozen=True)
class StartWeights:
    """Weights that a stage starts from."""

    weights: dict[str, Tensor]  # of the model of the stage before
    baseline: Metrics | None = None  # its validation metrics: only better epochs are kept


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
        self._row_counts: dict[int, Tensor] = {}  # by the number of id columns

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
        rates = self._row_rates(model, settings) if settings.training.rare_id_damping else None
        if rates is not None:
            shrink_initial_rows(model, rates)
        return model, build_optimizer(model, settings.training, rates)

    def _row_rates(self, model: nn.Module, settings: ModelSettings) -> RowRates:
        """Factors of the learning rates of table rows; the training rows are counted once per job."""
        slots = {table.num_slots for table in field_embeddings(model)}
        if not slots <= self._row_counts.keys():
            self._row_counts |= count_rows(model, self.read(settings, "train"), self.collectives)
        part, damping = self.manifest.splits["train"], settings.training.rare_id_damping
        ctr = part.num_clicks / part.num_rows
        return {number: row_rates(self._row_counts[number], ctr, damping) for number in slots}

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
        start: StartWeights | None = None,
    ) -> tuple[nn.Module, TrainingHistory]:
        """Train a model and return it with the weights to keep, which are also saved in the run folder.

        `prefix`: of the metric names. `start`: weights of the stage before, if there was one.
        """
        model, optimizer = self.new_model(settings)
        if start:
            cast(StartsFromPart, model).start_from(start.weights)
        if self.job.start_url:
            self._warm_start(model, optimizer, self.loop_config(settings))
        checkpoints = self._checkpoints(settings, Path(weights_name).stem)
        position = self._restore(checkpoints, model, optimizer) if self.job.resume else None
        if position is None:
            position = self._first_position(model, settings, start)
            if position.history.baseline and self.collectives.rank == 0:
                save_weights(f"{self.job.run_url}/{weights_name}", model.state_dict())
        config = self.loop_config(settings, position)
        if self.progress:
            self.progress.start(steps=config.steps, max_epochs=config.max_epochs, prefix=prefix)
        with self._profiler(prefix) as profiler:
            # A warm start begins with the last stage, so that only its optimizer state is saved.
            saves_optimizer = settings.training.save_optimizer and weights_name == WEIGHTS
            output = StageOutput(weights_name, prefix, saves_optimizer, checkpoints, profiler)
            callbacks = StageCallbacks(self, model, optimizer, output)
            loop = TrainingLoop(model, optimizer, self.collectives, config, callbacks)
            history = loop.run(self._training_data(settings), position)
        # Only rank 0 reads: on a shared filesystem the others might still see an older file.
        if self.collectives.rank == 0:
            model.load_state_dict(load_weights(f"{self.job.run_url}/{weights_name}"))
        self.collectives.broadcast_(list(model.state_dict().values()), "best")
        return model, history

    def _first_position(
        self, model: nn.Module, settings: ModelSettings, start: StartWeights | None
    ) -> ResumePoint:
        """Return the start of a training; a staged one keeps only what is better than its start."""
        history = TrainingHistory(num_ranks=[self.collectives.size])
        if start:
            history.baseline = start.baseline
        elif self.job.start_url and settings.is_staged and settings.training.keep == "best":
            valid = self.read(settings, "valid")
            correction, groups = self.logit_correction, gauc_groups(settings, self.manifest.fields)
            history.baseline = evaluate(model, self.collectives, valid, correction, groups)
        return ResumePoint(history)

    @property
    def logit_correction(self) -> float:
        """Term of the logits that corrects for down-sampled negatives."""
        return logit_correction(self.manifest.data.keep_negatives)

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
