"""Whether a training is worth another epoch: rank 0 asks the driver, by a file in the run's folder."""

import logging
import time

import torch

from deepfm import storage
from deepfm.distributed.collectives import Collectives

_FILE = "verdict.json"
_LOOK_EVERY_S = 0.2
#: A driver that is gone takes its workers along; one that only cannot answer must not cost the training.
_ANSWER_WITHIN_S = 120.0

logger = logging.getLogger(__name__)


def answer_prune_signal(run_url: str, epoch: int, go_on: bool) -> None:
    """The driver's side: what becomes of the training after an epoch."""
    storage.write_json(f"{run_url}/{_FILE}", {"epoch": epoch, "go_on": go_on})


def should_continue(run_url: str, collectives: Collectives, epoch: int) -> bool:
    """Every rank's side: wait until the driver has judged an epoch -> whether to go on, the same on all.

    Rank 0 alone looks: on a shared folder ranks could see different files, and those that go on would wait
    for ever for those that stop.
    """
    go_on = torch.ones(1, dtype=torch.int64)
    if collectives.rank == 0:
        go_on[0] = _wait_for_verdict(f"{run_url}/{_FILE}", epoch)
    collectives.broadcast_([go_on], "verdict")
    return bool(go_on[0])


def _wait_for_verdict(url: str, epoch: int) -> bool:
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    while time.monotonic() < deadline:
        if storage.exists(url):
            verdict = storage.read_json(url)
            if verdict["epoch"] == epoch:
                return verdict["go_on"]
        time.sleep(_LOOK_EVERY_S)
    logger.warning("epoch %d was not judged within %.0f s; training goes on", epoch, _ANSWER_WITHIN_S)
    return True
