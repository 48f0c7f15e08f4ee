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
from deepfm.distributed.collectives import World
from deepfm.features.sampling import logit_correction
from deepfm.launch.factory import groups_of, loop_settings, make_optimizer
from deepfm.launch.job_spec import FIRST_STAGE, FIRST_STAGE_WEIGHTS, OPTIMIZER, WEIGHTS, WorkOrder
from deepfm.launch.oom import memory_advice
from deepfm.launch.placement import call_roll
from deepfm.launch.progress import ProgressWriter
from deepfm.launch.prune_signal import ask_driver
from deepfm.metrics.field_counts import FieldTally
from deepfm.metrics.slices import Details, SliceTally
from deepfm.model_factory import build_model
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints, load_weights, save_weights
from deepfm.training.device import choose_device, keep_freed_memory
from deepfm.training.evaluation import buffers_of_ranks, tally_rows
from deepfm.training.loop import LoopSettings, train
from deepfm.training.optimizer import Optimizer
from deepfm.training.profiler import StepTrace
from deepfm.training.result import Outcome
from deepfm.training.state import Epoch, Position, Training


def run_worker(order: WorkOrder, world: World) -> Outcome:
    """Train, then measure the best epoch's weights on validation and test rows; the same on every rank."""
    worker = Worker(order, world)
    with memory_advice(world.rank, order.model, worker.manifest.num_ids):
        return _train_all_stages(order, worker)


def _train_all_stages(order: WorkOrder, worker: "Worker") -> Outcome:
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


class Worker:
    """One rank's dataset, device and progress, for as many trainings as the order takes."""

    def __init__(self, order: WorkOrder, world: World):
        torch.set_num_threads(order.num_threads)
        keep_freed_memory()
        self.order, self._world = order, world
        self.manifest = read_manifest(order.dataset_url)
        self.device = choose_device(world.gpu)
        self.places = call_roll(world, self.device)
        self._progress = ProgressWriter(order.run_url, self.places) if world.rank == 0 else None

    def read(
        self, settings: ModelSettings, split: str, epoch: int = 0, num_done: int = 0, seed: int | None = None
    ) -> Iterator[Batch]:
        """This rank's batches of a split, after the first `num_done`; see dataset.read.read_batches."""
        shard = Shard(self._world.rank, self._world.size, settings.training.batch_size)
        batches = read_batches(self.order.dataset_url, self.manifest, split, shard, epoch=epoch, seed=seed)
        return (batch.to(self.device) for batch in islice(batches, num_done, None))

    def num_steps(self, settings: ModelSettings) -> int:
        """Of an epoch."""
        shard = Shard(0, self._world.size, settings.training.batch_size)
        return shard.num_steps(self.manifest.splits["train"].num_rows)

    def new_model(self, settings: ModelSettings) -> tuple[nn.Module, Optimizer]:
        """A model of fresh weights on this rank's device, the same on every rank, and what will train it."""
        torch.manual_seed(settings.training.seed)
        fields = self.manifest.fields
        model = build_model(settings, self.manifest.num_ids, fields.num_crossed, fields.num_slots)
        model.to(self.device)
        return model, make_optimizer(model, settings.training)

    def loop_settings(self, settings: ModelSettings) -> LoopSettings:
        """How the loop trains this model on this dataset and device."""
        return loop_settings(
            self.order, settings, self.manifest, self.device, self._world.size, self.num_steps(settings)
        )

    def train(
        self,
        settings: ModelSettings,
        weights_name: str,
        curves: str = "",
        start_from: dict[str, Tensor] | None = None,
    ) -> tuple[nn.Module, Training]:
        """A model with its best epoch's weights, kept in the run's folder; `curves`: their names' prefix."""
        weights_url = f"{self.order.run_url}/{weights_name}"
        model, optimizer = self.new_model(settings)
        loop_settings = self.loop_settings(settings)
        if start_from is not None:
            model.start_from(start_from)
        if self.order.start_url:
            self._go_on(model, optimizer, loop_settings)
        checkpoints = self._checkpoints(settings, Path(weights_name).stem)
        position = self._restore(checkpoints, model, optimizer) if self.order.resume else None
        progress = self._progress
        if progress:
            progress.begin(
                num_steps=loop_settings.steps_per_epoch, max_epochs=loop_settings.max_epochs, curves=curves
            )

        def keep(epoch: Epoch, is_best: bool) -> None:
            if self._world.rank == 0 and is_best:
                save_weights(weights_url, model.state_dict())
                # An FNN's FM is not what a later training goes on from.
                if settings.training.save_optimizer and weights_name == WEIGHTS:
                    save_weights(f"{self.order.run_url}/{OPTIMIZER}", optimizer.state())
            if progress:
                progress.epoch(epoch.curves(curves))

        def save_checkpoint(position: Position) -> None:
            if self.order.checkpoint_every_n_steps is None:
                return
            # Averaged, batch norm's statistics would depend on when checkpoints were written.
            of_ranks = buffers_of_ranks(model, self._world)
            if self._world.rank == 0:
                checkpoints.save(position, model.state_dict(), optimizer.state(), of_ranks)

        def go_on(epoch: Epoch) -> bool:
            # An FNN's first stage has curves of its own, which say nothing of what the model will be.
            is_asked = self.order.asks_driver and not curves
            return not is_asked or ask_driver(self.order.run_url, self._world, epoch.number)

        with self._traced(curves) as trace:

            def on_step(*figures) -> None:
                if progress:
                    progress.step(*figures)
                if trace:
                    trace.step()

            training = train(
                model,
                optimizer,
                self._world,
                loop_settings,
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
        if self._world.rank == 0:
            model.load_state_dict(load_weights(weights_url))
        self._world.broadcast_(list(model.state_dict().values()), "best")
        return model, training

    def _traced(self, prefix: str) -> AbstractContextManager[StepTrace | None]:
        if self._world.rank == 0 and self.order.profile_steps:
            return StepTrace(self.order.run_url, self.order.profile_steps, prefix)
        return nullcontext()

    def _checkpoints(self, settings: ModelSettings, stage: str) -> Checkpoints:
        fingerprint = {
            "dataset": self.manifest.digest,
            "workers": self._world.size,
            "model": settings.model_dump(mode="json"),
        }
        return Checkpoints(self.order.run_url, stage, fingerprint)

    def _restore(self, checkpoints: Checkpoints, model: nn.Module, optimizer: Optimizer) -> Position | None:
        """Take up the last checkpoint; None where there is none yet."""
        # Which one rank 0 says: listing a shared folder, ranks could see different ones.
        place = torch.tensor(checkpoints.latest())
        self._world.broadcast_([place], f"{checkpoints.stage}.checkpoint")
        if place[0] < 0:
            return None
        position, weights, moments = checkpoints.load(tuple(place.tolist()), self._world.rank)
        model.load_state_dict(weights)
        optimizer.load_state({key: value.to(self.device) for key, value in moments.items()})
        return position

    def _go_on(self, model: nn.Module, optimizer: Optimizer, settings: LoopSettings) -> None:
        """Take up another training's weights and what its optimizer remembers, where that was kept."""
        url = self.order.start_url
        model.load_state_dict(load_weights(f"{url}/{WEIGHTS}"))
        if storage.exists(f"{url}/{OPTIMIZER}"):
            state = load_weights(f"{url}/{OPTIMIZER}")
            optimizer.load_state({key: value.to(self.device) for key, value in state.items()})
        optimizer.set_rate(settings.schedule.factor(1))
        optimizer.take_up_weights()

    def outcome(self, model: nn.Module, training: Training, first_stage: Training | None = None) -> Outcome:
        """The finished model, measured; of one that was stopped what its best epoch came to."""
        num_weights = sum(weight.numel() for weight in model.parameters())
        if training.stopped:
            return Outcome(training, training.epochs[training.best - 1].valid, None, num_weights, first_stage)
        fields = self.manifest.fields
        of_fields = FieldTally(fields, self.device)
        of_slices = SliceTally(fields, self.order.slice_fields, self.device)
        (valid, valid_gauc), (test, test_gauc) = (
            tally_rows(
                model,
                self._world,
                self.read(self.order.model, split),
                logit_correction(self.manifest.data.keep_negatives),
                groups_of(self.order.model, fields),
                details,
            )
            for split, details in (("valid", None), ("test", Details(of_fields, of_slices)))
        )
        return Outcome(
            training,
            valid.metrics(valid_gauc),
            test.metrics(test_gauc),
            num_weights,
            first_stage,
            test.score_counts(),
            of_fields.counts.tolist(),
            of_slices.metrics(),
        )
