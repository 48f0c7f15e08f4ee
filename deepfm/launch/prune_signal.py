"""Early stopping by the driver: rank 0 asks after each epoch whether to train another one."""

import logging

import torch

from deepfm.distributed.collectives import Collectives
from deepfm.launch.run_channel import RunChannel, wait_until

MESSAGE = "prune_signal"
_POLL_EVERY_S = 0.2
#: The workers of a driver that is lost end with it. One that cannot answer must not stop the training.
_TIMEOUT_S = 120.0

logger = logging.getLogger(__name__)


def answer_prune_signal(channel: RunChannel, epoch: int, should_continue: bool) -> None:
    """Answer, on the driver, whether to train another epoch after `epoch`."""
    channel.send(MESSAGE, {"epoch": epoch, "should_continue": should_continue})


def should_continue(channel: RunChannel, collectives: Collectives, epoch: int) -> bool:
    """Wait, on every rank, for the answer of the driver after `epoch`; the same on all ranks.

    Only rank 0 reads it: ranks could see different files in a shared folder, and those that continue would
    wait forever for those that stop.
    """
    answer = torch.ones(1, dtype=torch.int64)
    if collectives.rank == 0:
        answer[0] = _wait_for_answer(channel, epoch)
    collectives.broadcast_([answer], "prune_signal")
    return bool(answer[0])


def _wait_for_answer(channel: RunChannel, epoch: int) -> bool:
    def is_answered() -> bool:
        message = channel.receive(MESSAGE)
        return message is not None and message["epoch"] == epoch

    if wait_until(is_answered, _TIMEOUT_S, _POLL_EVERY_S):
        answer = channel.receive(MESSAGE)
        assert answer is not None
        return answer["should_continue"]
    logger.warning(
        "no answer of the driver for epoch %d within %.0f s; the training continues", epoch, _TIMEOUT_S
    )
    return True
