"""Callbacks of a rank: weights, checkpoints, progress, and whether to continue."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn

from deepfm.distributed.collectives import Collectives
from deepfm.launch.job_spec import OPTIMIZER, TrainJob
from deepfm.launch.progress import ProgressWriter
from deepfm.launch.prune_signal import should_continue
from deepfm.launch.run_channel import RunChannel
from deepfm.training.checkpoint import Checkpoints
from deepfm.training.evaluation import gather_buffers
from deepfm.training.loop import Callbacks
from deepfm.training.optimizers.optimizer import Optimizer
from deepfm.training.profiler import StepProfiler
from deepfm.training.state import EpochResult, ResumePoint
from deepfm.weights import save_weights


class RankContext(Protocol):
    """What the callbacks need of a rank."""

    job: TrainJob
    collectives: Collectives
    channel: RunChannel
    progress: ProgressWriter | None  # of rank 0


@dataclass(frozen=True)
class StageOutput:
    """Files and names that one training writes."""

    weights_name: str
    prefix: str  # of the metric names
    saves_optimizer: bool
    checkpoints: Checkpoints
    profiler: StepProfiler | None


class StageCallbacks(Callbacks):
    """Saves weights and checkpoints, sends progress, and asks the driver whether to continue."""

    def __init__(self, worker: RankContext, model: nn.Module, optimizer: Optimizer, output: StageOutput):
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
        # The metrics of an earlier stage do not predict those of the model.
        if not self._worker.job.asks_prune_signal or self._output.prefix:
            return True
        return should_continue(self._worker.channel, self._worker.collectives, epoch.number)
