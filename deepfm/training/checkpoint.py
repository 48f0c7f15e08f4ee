"""Weights on disk: safetensors, seen whole or not at all; loading runs no code."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from deepfm import storage
from deepfm.errors import UserError
from deepfm.training.state import ResumePoint, history_from_dict
from deepfm.weights import load_weights, save_weights

_SUFFIX = ".checkpoint.safetensors"


def is_checkpoint(name: str) -> bool:
    """Whether a file of that name is one."""
    return name.endswith(_SUFFIX)


@dataclass(frozen=True)
class Checkpoints:
    """Where one training of a run can be taken up again: its last two checkpoints, one file each.

    A file holds weights, what the optimizer remembers and the position among the batches. It counts only for
    the training that its fingerprint describes, since another's rows would come in another order.
    """

    run_url: str
    stage: str  # trainings of one run follow each other under names of their own
    fingerprint: dict[str, Any]  # of dataset, settings and number of workers, as JSON

    def save(
        self,
        position: ResumePoint,
        weights: dict[str, Tensor],
        moments: dict[str, Tensor],
        of_ranks: dict[str, Tensor] | None = None,
    ) -> None:
        """Write a checkpoint and remove all but the last two; `of_ranks`: what each rank has of its own.

        None of weights that are no numbers: the next loss will say so, and nothing could go on from them.
        """
        if not all(torch.isfinite(weight.sum()) for weight in weights.values()):
            return
        state = {"fingerprint": self.fingerprint, **asdict(position)}
        tensors = {f"weights/{name}": weight for name, weight in weights.items()}
        tensors |= {f"optimizer/{name}": value for name, value in moments.items()}
        tensors |= {f"ranks/{name}": value for name, value in (of_ranks or {}).items()}
        tensors["state"] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
        save_weights(self._url(len(position.history.epochs), position.step), tensors)
        for place in self._places()[:-2]:
            storage.remove(self._url(*place))

    def latest(self) -> tuple[int, int]:
        """(epochs done, steps of the next) of the last checkpoint; (-1, 0): there is none."""
        return max(self._places(), default=(-1, 0))

    def load(
        self, place: tuple[int, int], rank: int = 0
    ) -> tuple[ResumePoint, dict[str, Tensor], dict[str, Tensor]]:
        """Position, weights as that rank had them, moments; UserError where it is another training's."""
        url = self._url(*place)
        tensors = load_weights(url)
        try:
            state = json.loads(bytes(tensors.pop("state").numpy()))
            found = state.pop("fingerprint")
            position = ResumePoint(**{**state, "history": history_from_dict(state["history"])})
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{url}: expected a checkpoint, found something else; train anew") from error
        for key, expected in self.fingerprint.items():
            if found.get(key) != expected:
                raise UserError(
                    f"{url}: expected a checkpoint of a training with {key} {expected}, found "
                    f"{found.get(key)}; resume with what the run began with, or train anew"
                )
        own = {name: value[rank] for name, value in _part(tensors, "ranks/").items()}
        return position, _part(tensors, "weights/") | own, _part(tensors, "optimizer/")

    def _url(self, num_epochs: int, step: int) -> str:
        return f"{self.run_url}/{self.stage}-{num_epochs:05d}-{step:09d}{_SUFFIX}"

    def _places(self) -> list[tuple[int, int]]:
        """Of all checkpoints, the last one last."""
        names = [child["name"] for child in storage.children(self.run_url)]
        found = [
            name.removeprefix(f"{self.stage}-").removesuffix(_SUFFIX).split("-")
            for name in names
            if name.startswith(f"{self.stage}-") and is_checkpoint(name)
        ]
        return sorted((int(num_epochs), int(step)) for num_epochs, step in found)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
