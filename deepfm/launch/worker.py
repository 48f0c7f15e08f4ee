"""What one worker does, from a dataset's address to metrics: the glue between dataset, model and loop."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from deepfm import storage
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import Batch, Shard, describe_batch, read_batches
from deepfm.distributed.collectives import Collectives
from deepfm.features.sampling import logit_correction
from deepfm.launch.factory import build_loop_config, build_optimizer, gauc_groups
from deepfm.launch.job_spec import FIRST_STAGE, FIRST_STAGE_WEIGHTS, OPTIMIZER, WEIGHTS, TrainJob
from deepfm.launch.oom import explain_out_of_memory
from deepfm.launch.placement import gather_placement
from deepfm.launch.progress import ProgressWriter
from deepfm.launch.prune_signal import should_continue
from deepfm.metrics.field_counts import FieldValueCounts
from deepfm.metrics.slices import Details, SliceAccumulator
from deepfm.model_factory import build_model
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.device import choose_device, retain_freed_memory
from deepfm.training.evaluation import buffers_of_ranks, evaluate_rows
from deepfm.training.loop import LoopConfig, train
from deepfm.training.optimizer import Optimizer
from deepfm.training.profiler import StepProfiler
from deepfm.training.result import TrainingResult
from deepfm.training.state import EpochResult, ResumePoint, TrainingHistory
from deepfm.weights import load_weights, save_weights


def run_worker(job: TrainJob, collectives: Collectives) -> TrainingResult:
    """Train, then measure the best epoch's weights on validation and test rows; the same on every rank."""
    worker = Worker(job, collectives)
    with explain_out_of_memory(collectives.rank, job.model, worker.manifest.num_ids):
        return _train_all_stages(job, worker)


def _train_all_stages(job: TrainJob, worker: "Worker") -> TrainingResult:
    if job.model.model != "fnn" or job.start_url:
        model, training = worker.train(job.model, WEIGHTS)
        return worker.result(model, training)
    if job.init_url:
        # By every rank, though the broadcast at the start of the training takes rank 0's.
        fm_weights, first_stage = load_weights(job.init_url), None
    else:
        fm, first_stage = worker.train(job.model.first_stage(), FIRST_STAGE_WEIGHTS, FIRST_STAGE)
        fm_weights = fm.state_dict()
    model, training = worker.train(job.model, WEIGHTS, start_from=fm_weights)
    return worker.result(model, training, first_stage)


class Worker:
    """One rank's dataset, device and progress, for as many trainings as the order takes."""

    def __init__(self, job: TrainJob, collectives: Collectives):
        torch.set_num_threads(job.num_threads)
        retain_freed_memory()
        self.job, self._collectives = job, collectives
        self.manifest = read_manifest(job.dataset_url)
        self.device = choose_device(collectives.gpu)
        self.places = gather_placement(collectives, self.device)
        self._progress = ProgressWriter(job.run_url, self.places) if collectives.rank == 0 else None

    def read(
        self, settings: ModelSettings, split: str, epoch: int = 0, num_done: int = 0, seed: int | None = None
    ) -> Iterator[Batch]:
        """This rank's batches of a split, after the first `num_done`; see dataset.read.read_batches."""
        shard = Shard(self._collectives.rank, self._collectives.size, settings.training.batch_size)
        batches = read_batches(self.job.dataset_url, self.manifest, split, shard, epoch=epoch, seed=seed)
        return (batch.to(self.device) for batch in islice(batches, num_done, None))

    def num_steps(self, settings: ModelSettings) -> int:
        """Of an epoch."""
        shard = Shard(0, self._collectives.size, settings.training.batch_size)
        return shard.num_steps(self.manifest.splits["train"].num_rows)

    def new_model(self, settings: ModelSettings) -> tuple[nn.Module, Optimizer]:
        """A model of fresh weights on this rank's device, the same on every rank, and what will train it."""
        torch.manual_seed(settings.training.seed)
        fields = self.manifest.fields
        model = build_model(settings, self.manifest.num_ids, fields.num_crossed, fields.num_slots)
        model.to(self.device)
        return model, build_optimizer(model, settings.training)

    def loop_config(self, settings: ModelSettings) -> LoopConfig:
        """How the loop trains this model on this dataset and device."""
        return build_loop_config(
            self.job, settings, self.manifest, self.device, self._collectives.size, self.num_steps(settings)
        )

    def train(
        self,
        settings: ModelSettings,
        weights_name: str,
        curves: str = "",
        start_from: dict[str, Tensor] | None = None,
    ) -> tuple[nn.Module, TrainingHistory]:
        """A model with its best epoch's weights, kept in the run's folder; `curves`: their names' prefix."""
        weights_url = f"{self.job.run_url}/{weights_name}"
        model, optimizer = self.new_model(settings)
        config = self.loop_config(settings)
        if start_from is not None:
            model.start_from(start_from)
        if self.job.start_url:
            self._go_on(model, optimizer, config)
        checkpoints = self._checkpoints(settings, Path(weights_name).stem)
        position = self._restore(checkpoints, model, optimizer) if self.job.resume else None
        progress = self._progress
        if progress:
            progress.begin(
                num_steps=config.steps_per_epoch,
                max_epochs=config.max_epochs,
                curves=curves,
            )

        def keep(epoch: EpochResult, is_best: bool) -> None:
            if self._collectives.rank == 0 and is_best:
                save_weights(weights_url, model.state_dict())
                # An FNN's FM is not what a later training goes on from.
                if settings.training.save_optimizer and weights_name == WEIGHTS:
                    save_weights(f"{self.job.run_url}/{OPTIMIZER}", optimizer.state())
            if progress:
                progress.epoch(epoch.curves(curves))

        def save_checkpoint(position: ResumePoint) -> None:
            if self.job.checkpoint_every_n_steps is None:
                return
            # Averaged, batch norm's statistics would depend on when checkpoints were written.
            of_ranks = buffers_of_ranks(model, self._collectives)
            if self._collectives.rank == 0:
                checkpoints.save(position, model.state_dict(), optimizer.state(), of_ranks)

        def go_on(epoch: EpochResult) -> bool:
            # An FNN's first stage has curves of its own, which say nothing of what the model will be.
            is_asked = self.job.asks_prune_signal and not curves
            return not is_asked or should_continue(self.job.run_url, self._collectives, epoch.number)

        with self._traced(curves) as trace:

            def on_step(*figures) -> None:
                if progress:
                    progress.step(*figures)
                if trace:
                    trace.step()

            training = train(
                model,
                optimizer,
                self._collectives,
                config,
                read_train=lambda epoch, num_done: self.read(
                    settings, "train", epoch, num_done, settings.training.seed
                ),
                read_valid=lambda: self.read(settings, "valid"),
                on_step=on_step,
                on_epoch=keep,
                on_checkpoint=save_checkpoint,
                go_on=go_on,
                describe=lambda batch: describe_batch(batch, self.manifest.fields),
                position=position,
            )
        # Only rank 0 reads: on a shared filesystem the others might still see an older file.
        if self._collectives.rank == 0:
            model.load_state_dict(load_weights(weights_url))
        self._collectives.broadcast_(list(model.state_dict().values()), "best")
        return model, training

    def _traced(self, prefix: str) -> AbstractContextManager[StepProfiler | None]:
        if self._collectives.rank == 0 and self.job.profile_steps:
            return StepProfiler(self.job.run_url, self.job.profile_steps, prefix)
        return nullcontext()

    def _checkpoints(self, settings: ModelSettings, stage: str) -> Checkpoints:
        fingerprint = {
            "dataset": self.manifest.digest,
            "workers": self._collectives.size,
            "model": settings.model_dump(mode="json"),
        }
        return Checkpoints(self.job.run_url, stage, fingerprint)

    def _restore(
        self, checkpoints: Checkpoints, model: nn.Module, optimizer: Optimizer
    ) -> ResumePoint | None:
        """Take up the last checkpoint; None where there is none yet."""
        # Which one rank 0 says: listing a shared folder, ranks could see different ones.
        place = torch.tensor(checkpoints.latest())
        self._collectives.broadcast_([place], f"{checkpoints.stage}.checkpoint")
        if place[0] < 0:
            return None
        position, weights, moments = checkpoints.load(tuple(place.tolist()), self._collectives.rank)
        model.load_state_dict(weights)
        optimizer.load_state({key: value.to(self.device) for key, value in moments.items()})
        return position

    def _go_on(self, model: nn.Module, optimizer: Optimizer, settings: LoopConfig) -> None:
        """Take up another training's weights and what its optimizer remembers, where that was kept."""
        url = self.job.start_url
        model.load_state_dict(load_weights(f"{url}/{WEIGHTS}"))
        if storage.exists(f"{url}/{OPTIMIZER}"):
            state = load_weights(f"{url}/{OPTIMIZER}")
            optimizer.load_state({key: value.to(self.device) for key, value in state.items()})
        optimizer.set_rate(settings.schedule.factor(1))
        optimizer.refit_state_to_weights()

    def result(
        self, model: nn.Module, training: TrainingHistory, first_stage: TrainingHistory | None = None
    ) -> TrainingResult:
        """The finished model, measured; of one that was stopped what its best epoch came to."""
        num_weights = sum(weight.numel() for weight in model.parameters())
        if training.stopped:
            return TrainingResult(
                training, training.epochs[training.best - 1].valid, None, num_weights, first_stage
            )
        fields = self.manifest.fields
        of_fields = FieldValueCounts(fields, self.device)
        of_slices = SliceAccumulator(fields, self.job.slice_fields, self.device)
        (valid, valid_gauc), (test, test_gauc) = (
            evaluate_rows(
                model,
                self._collectives,
                self.read(self.job.model, split),
                logit_correction(self.manifest.data.keep_negatives),
                gauc_groups(self.job.model, fields),
                details,
            )
            for split, details in (("valid", None), ("test", Details(of_fields, of_slices)))
        )
        return TrainingResult(
            training,
            valid.compute(valid_gauc),
            test.compute(test_gauc),
            num_weights,
            first_stage,
            test.score_counts(),
            of_fields.counts.tolist(),
            of_slices.compute(),
        )
