"""Steps of an epoch: reported when they have finished, on a GPU two steps after they were started."""

import pytest
import torch

from deepfm.distributed.collectives import SingleProcess
from deepfm.models.fm import FM
from deepfm.training.epoch import NotFiniteError, RunningEpoch, StartedStep
from deepfm.training.gradient_sync import GradientSynchronizer
from deepfm.training.state import ResumePoint
from deepfm.training.step_loss import StepLoss


class Rows:
    """A batch of four rows."""

    num_rows_all_ranks = 4


@pytest.fixture
def reported():
    return []


@pytest.fixture
def start_epoch(reported):
    """Return a function that starts an epoch on a device; no GPU is needed to count its steps."""

    def start(device, position=None):
        synchronizer = GradientSynchronizer(FM([3], 2), SingleProcess())
        return RunningEpoch(
            position or ResumePoint(),
            synchronizer,
            torch.device(device),
            lambda epoch, step, logloss, speed: reported.append((epoch, step, logloss)),
            lambda batch: "described",
        )

    return start


def step(number, loss, wants_checkpoint=False):
    value = torch.tensor([loss], dtype=torch.float64)
    return StartedStep(number, Rows(), {}, StepLoss(value, value, wants_checkpoint))


def test_on_a_cpu_a_step_is_reported_at_once(start_epoch, reported):
    epoch = start_epoch("cpu")
    epoch.add(step(1, 4.0))
    assert reported == [(1, 1, 1.0)]
    epoch.add(step(2, 8.0))
    assert reported[1:] == [(1, 2, 1.5)]


def test_on_a_gpu_two_steps_are_in_flight(start_epoch, reported):
    epoch = start_epoch("cuda")
    for number in (1, 2):
        epoch.add(step(number, 4.0))
    assert reported == []
    epoch.add(step(3, 4.0))
    assert [number for _, number, _ in reported] == [1]
    epoch.finish_steps()
    assert [number for _, number, _ in reported] == [1, 2, 3]
    assert (epoch.sum_logloss, epoch.num_rows) == (12.0, 12)


def test_a_checkpoint_waits_for_the_steps_in_flight(start_epoch):
    epoch = start_epoch("cuda", ResumePoint(step=5, sum_logloss=1.0, num_rows=20))
    for number in (6, 7, 8):
        epoch.add(step(number, 2.0, wants_checkpoint=number == 6))
    assert epoch.wants_checkpoint
    position = epoch.resume_point()
    assert (position.step, position.sum_logloss, position.num_rows) == (8, 7.0, 32)
    assert not epoch.wants_checkpoint


def test_a_bad_loss_is_reported_with_its_own_step_and_rows(start_epoch):
    epoch = start_epoch("cuda")
    epoch.add(step(1, 4.0))
    epoch.add(step(2, float("nan")))
    epoch.add(step(3, float("nan")))
    with pytest.raises(NotFiniteError, match="^epoch 1, step 2: the loss is nan; described; lower"):
        epoch.add(step(4, float("nan")))
