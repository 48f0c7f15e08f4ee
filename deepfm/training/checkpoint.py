"""Checkpoints of a training: weights, optimizer state and position, one safetensors file each."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from deepfm import storage
from deepfm.dataset.shard import Segment
from deepfm.errors import UserError
from deepfm.training.state import ResumePoint, history_from_dict
from deepfm.weights import load_weights, save_weights

_SUFFIX = ".checkpoint.safetensors"
#: Key of the number of ranks, in the fingerprint of a file.
_NUM_RANKS = "workers"


def is_checkpoint(name: str) -> bool:
    """Whether a file name is that of a checkpoint."""
    return name.endswith(_SUFFIX)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training of a run; the last two are kept.

    A file holds weights, optimizer state and the position among the batches. It is only valid for the
    training described by its fingerprint, because another training reads its rows in another order. Another
    number of ranks can resume it: they share the rows of the epoch that are left.
    """

    run_url: str
    stage: str  # name of the training within the run
    fingerprint: dict[str, Any]  # dataset and settings, as JSON
    num_ranks: int = 1

    def save(
        self,
        position: ResumePoint,
        weights: dict[str, Tensor],
        moments: dict[str, Tensor],
        rank_buffers: dict[str, Tensor] | None = None,
    ) -> None:
        """Write a checkpoint and remove all but the last two.

        `rank_buffers`: (world size, ...) buffers that differ by rank. Nothing is written if a weight is NaN
        or infinite: the training could not resume from it, and its next loss reports it.
        """
        if not all(torch.isfinite(weight.sum()) for weight in weights.values()):
            return
        state = {"fingerprint": {**self.fingerprint, _NUM_RANKS: self.num_ranks}, **asdict(position)}
        tensors = {f"weights/{name}": weight for name, weight in weights.items()}
        tensors |= {f"optimizer/{name}": value for name, value in moments.items()}
        tensors |= {f"ranks/{name}": value for name, value in (rank_buffers or {}).items()}
        tensors["state"] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
        save_weights(self._url(len(position.history.epochs), position.step), tensors)
        for num_epochs, step in self._positions()[:-2]:
            storage.remove(self._url(num_epochs, step))

    def latest(self) -> tuple[int, int]:
        """(finished epochs, steps of the next epoch) of the last checkpoint; (-1, 0) if there is none."""
        return max(self._positions(), default=(-1, 0))

    def load(
        self, at: tuple[int, int], rank: int = 0
    ) -> tuple[ResumePoint, dict[str, Tensor], dict[str, Tensor]]:
        """Load position, weights as `rank` had them, and optimizer state.

        If another number of ranks wrote it, buffers that differed by rank are the mean over those ranks.
        Raises UserError if the checkpoint belongs to another training.
        """
        url = self._url(*at)
        tensors = load_weights(url)
        try:
            state = json.loads(bytes(tensors.pop("state").numpy()))
            actual = state.pop("fingerprint")
            num_ranks = int(actual[_NUM_RANKS])
            position = _position_from_dict(state, num_ranks)
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{url}: expected a checkpoint, found another safetensors file; start a new training"
            ) from error
        for key, expected in self.fingerprint.items():
            if actual.get(key) != expected:
                raise UserError(
                    f"{url}: expected a checkpoint of a training with {key} {expected}, found "
                    f"{actual.get(key)}; resume with the original settings, or start a new training"
                )
        buffers, is_same = _part(tensors, "ranks/"), num_ranks == self.num_ranks
        local = {name: value[rank] if is_same else value.mean(0) for name, value in buffers.items()}
        position = position.resumed_by(self.num_ranks)
        return position, _part(tensors, "weights/") | local, _part(tensors, "optimizer/")

    def _url(self, num_epochs: int, step: int) -> str:
        return f"{self.run_url}/{self.stage}-{num_epochs:05d}-{step:09d}{_SUFFIX}"

    def _positions(self) -> list[tuple[int, int]]:
        """Positions of all checkpoints, the latest last."""
        names = [child["name"] for child in storage.children(self.run_url)]
        parts = [
            name.removeprefix(f"{self.stage}-").removesuffix(_SUFFIX).split("-")
            for name in names
            if name.startswith(f"{self.stage}-") and is_checkpoint(name)
        ]
        return sorted((int(num_epochs), int(step)) for num_epochs, step in parts)


def _position_from_dict(state: dict[str, Any], num_ranks: int) -> ResumePoint:
    """Rebuild a position; one of an earlier version has neither segments nor numbers of ranks."""
    history = history_from_dict(state["history"])
    history.num_ranks = history.num_ranks or [num_ranks]
    segments = [Segment(*segment) for segment in state.get("segments", [])]
    return ResumePoint(**{**state, "history": history, "segments": segments})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
