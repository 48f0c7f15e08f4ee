"""Plan of a hyperparameter search on one dataset."""

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
    """Settings that all trials share, and the space of those that differ."""

    dataset_url: str
    manifest: Manifest
    base: ModelSettings
    space: SearchSpace
    num_workers: int
    num_seeds: int = 1  # trainings of each combination of a grid

    @property
    def goal(self) -> str:
        """Validation metric, logloss or auc, that compares epochs and trials."""
        return self.base.training.monitor

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings of one combination."""
        first = self.base.training.seed
        return tuple(range(first, first + self.num_seeds))

    @property
    def identity(self) -> dict[str, str]:
        """Properties that must be equal for trials of one study."""
        return {
            "dataset": self.manifest.digest,
            "model": _digest(self.base.model_dump(mode="json")),
            "space": _digest(self.space.model_dump(mode="json")),
            "number of workers": str(self.num_workers),
            "number of seeds": str(self.num_seeds),
        }

    def settings_of(self, choice: Choice) -> ModelSettings:
        """Settings of the model that a trial trains."""
        return self.space.settings_of(self.base, choice)

    def num_trials(self, requested: int | None) -> int:
        """Number of trials of the finished study; UserError if it is required and not given."""
        if self.space.search == "grid":
            size = self.space.grid_size * self.num_seeds
            return size if requested is None else min(requested, size)
        if requested is None:
            raise UserError("--trials is required with search: tpe; give the number of trials")
        return requested


def build_plan(
    dataset_url: str,
    manifest: Manifest,
    base: ModelSettings,
    space: SearchSpace,
    *,
    num_workers: int,
    num_seeds: int,
) -> TuningPlan:
    """Build the plan; UserError if a value of the space is invalid for the model."""
    if num_seeds > 1 and space.search != "grid":
        raise UserError(
            f"--seeds {num_seeds}: only search: grid repeats trainings, found search: {space.search}; remove "
            "--seeds, and train the best settings with several seeds afterwards"
        )
    space.check(base, "--space")
    return TuningPlan(dataset_url, manifest, base, space, num_workers, num_seeds)


def study_name(given: str | None, plan: TuningPlan, title: str) -> str:
    """Return `given`, else a name derived from the plan; UserError if it is not a valid file name."""
    name = given or f"{plan.base.model}-{title}-{_digest(plan.identity)[:8]}"
    if not _NAME.fullmatch(name):
        raise UserError(f"--study: expected letters, digits and . _ -, found {name!r}; choose another name")
    return name


def without_seed(choice: Choice) -> Choice:
    """Remove the seed from a choice: trainings of one combination differ only in it."""
    return {name: label for name, label in choice.items() if name != SEED}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]
