"""What a study searches: a model's settings on the rows of one dataset."""

import hashlib
import json
import re
from dataclasses import dataclass

from deepfm.dataset.manifest import Manifest
from deepfm.errors import UserError
from deepfm.experiments.tune.space import SEED, Choice, SearchSpace
from deepfm.settings.model import ModelSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TuningPlan:
    """What all trials share, and what they differ in."""

    dataset_url: str
    manifest: Manifest
    base: ModelSettings
    space: SearchSpace
    num_workers: int
    num_seeds: int = 1  # trainings of each combination of a grid

    @property
    def goal(self) -> str:
        """logloss or auc of the validation rows, by which epochs, and so trials, are compared."""
        return self.base.training.monitor

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the trainings of one combination."""
        first = self.base.training.seed
        return tuple(range(first, first + self.num_seeds))

    @property
    def identity(self) -> dict[str, str]:
        """Part by part, what must be equal for trials to stand in one study."""
        return {
            "dataset": self.manifest.digest,
            "model": _digest(self.base.model_dump(mode="json")),
            "space": _digest(self.space.model_dump(mode="json")),
            "number of workers": str(self.num_workers),
            "number of seeds": str(self.num_seeds),
        }

    def settings_of(self, choice: Choice) -> ModelSettings:
        """The model that a trial trains."""
        return self.space.settings_of(self.base, choice)

    def num_trials(self, asked: int | None) -> int:
        """How many trials the study has when it is done; UserError where the search needs to be told."""
        if self.space.search == "grid":
            size = self.space.grid_size * self.num_seeds
            return size if asked is None else min(asked, size)
        if asked is None:
            raise UserError("--trials: search: tpe has no end of its own; say how many trials there shall be")
        return asked


def build_plan(
    dataset_url: str,
    manifest: Manifest,
    base: ModelSettings,
    space: SearchSpace,
    *,
    num_workers: int,
    num_seeds: int,
) -> TuningPlan:
    """The plan; UserError where the model's settings refuse a value, before anything trains."""
    if num_seeds > 1 and space.search != "grid":
        raise UserError(
            f"--seeds {num_seeds}: only search: grid repeats its trainings, found search: {space.search}; "
            "leave --seeds out, and train the best settings with several seeds afterwards"
        )
    space.check(base, "--space")
    return TuningPlan(dataset_url, manifest, base, space, num_workers, num_seeds)


def study_name(given: str | None, plan: TuningPlan, title: str) -> str:
    """The name given, else one that the same plan always has; UserError where it cannot name a file."""
    name = given or f"{plan.base.model}-{title}-{_digest(plan.identity)[:8]}"
    if not _NAME.fullmatch(name):
        raise UserError(f"--study: expected letters, digits and . _ -, found {name!r}; choose another name")
    return name


def of_seed(choice: Choice) -> Choice:
    """A choice without its seed: what trainings of one combination share."""
    return {name: label for name, label in choice.items() if name != SEED}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]
