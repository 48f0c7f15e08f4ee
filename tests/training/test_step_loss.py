"""The loss of a step, by itself and over all ranks."""

import pytest
import torch

from deepfm.training.step_loss import StepLoss


def double(value):
    return torch.tensor([value], dtype=torch.float64)


def test_a_single_process_has_one_loss_and_its_own_wish():
    for wants_checkpoint in (True, False):
        loss = StepLoss(double(2.5), double(2.5), wants_checkpoint)
        assert (loss.sum_logloss, loss.local_is_finite) == (2.5, True)
        assert loss.wants_checkpoint is wants_checkpoint


def test_the_sum_over_ranks_and_the_wish_of_rank_0_arrive_in_the_precision_of_the_gradients():
    loss = StepLoss(double(2.5), torch.tensor([5.5]), torch.tensor([1.0]))
    assert (loss.sum_logloss, loss.wants_checkpoint) == (5.5, True)
    assert not StepLoss(double(2.5), torch.tensor([5.5]), torch.tensor([0.0])).wants_checkpoint


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_rank_with_a_bad_loss_is_told_from_the_others(bad):
    assert not StepLoss(double(bad), double(bad), False).local_is_finite
    assert StepLoss(double(1.0), double(bad), False).local_is_finite
