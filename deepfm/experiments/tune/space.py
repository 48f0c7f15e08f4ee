"""Search spaces, conf/tune/*.yaml: settings of a model and their values, validated before anything trains."""

import difflib
import itertools
import math
import random
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, model_validator
from pydantic import Field as Setting

from deepfm.settings.loader import RENAMED_KEYS, Settings, parse_settings
from deepfm.settings.model import ModelSettings

SEED = "training.seed"
#: Settings that decide how trials are compared must be the same for all trials.
_NOT_SEARCHABLE = {SEED: "use --seeds N", "training.monitor": "set it in the model YAML"}
_MAX_CHECKED = 5000

Label = str | int | float | bool
#: Values of one trial: label or number by the dotted name of the parameter.
Choice = dict[str, Label]


class Parameter(Settings):
    """Values of one setting: a list, or a range of numbers."""

    # A list, or a mapping from labels, which are shown in tables and plots, to values.
    values: tuple[Any, ...] | dict[Label, Any] | None = None
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False  # range: uniform in the logarithm
    step: int | float | None = Setting(default=None, gt=0)  # range: from low in steps of this size
    title: str | None = None  # in tables and plots; default: the dotted name

    @model_validator(mode="after")
    def _require_list_or_range(self):
        is_range = self.low is not None or self.high is not None
        if (self.values is not None) == is_range:
            raise ValueError("expected either values or low and high")
        if is_range and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError("low and high: expected both, low below high")
        if not is_range and not self.values:
            raise ValueError("values: expected at least one")
        if self.log and (self.low is None or self.low <= 0 or self.step):
            raise ValueError("log: requires a range with low above 0 and without step")
        if self.step and not is_range:
            raise ValueError("step: requires low and high")
        if len(self.labels) > len(set(self.labels)):
            raise ValueError(f"values: expected each once, found {list(self.labels)}")
        return self

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels of the listed values, in the order of the file; empty for a range."""
        if isinstance(self.values, dict):
            return tuple(self.values)
        return tuple(v if isinstance(v, Label) else str(v) for v in self.values or ())

    @property
    def probes(self) -> tuple[Label, ...]:
        """Values to validate: all listed ones, or both ends of the range."""
        return self.labels or self.bounds

    @property
    def bounds(self) -> tuple[int | float, int | float]:
        """Both ends of a range."""
        assert self.low is not None and self.high is not None
        return self.low, self.high

    def value_of(self, label: Label) -> Any:
        """Value of a label; a number of a range is its own label."""
        if isinstance(self.values, dict):
            return self.values[label]
        return self.values[self.labels.index(label)] if self.values else label


class SearchSpace(Settings):
    """Search space, sampler and pruner of a study."""

    search: Literal["grid", "tpe"]  # every combination once; tree-structured Parzen estimator
    parameters: dict[str, Parameter] = Setting(min_length=1)  # by dotted name, as in the model YAML
    seed: int = Setting(default=1, ge=0)  # of the sampler
    # median: prune a trial whose best epoch so far is worse than the median of the others at that epoch.
    # hyperband: only about a third of a bracket continues after 1, 3, 9, … epochs (Li et al. 2018).
    pruner: Literal["none", "median", "hyperband"] = "none"
    startup_trials: int = Setting(default=5, ge=1)  # median: finished trials before the first is pruned
    warmup_epochs: int = Setting(default=0, ge=0)  # median: no trial is pruned during these epochs

    @model_validator(mode="after")
    def _require_known_settings(self):
        errors = [error for name in self.parameters for error in self._errors_of(name)]
        if errors:
            raise ValueError("; ".join(errors))
        return self

    def _errors_of(self, name: str) -> Iterator[str]:
        if name in _NOT_SEARCHABLE:
            yield f"parameters.{name}: must be the same in all trials; {_NOT_SEARCHABLE[name]}"
        elif name not in SETTINGS and (new_name := RENAMED_KEYS.get(name.rpartition(".")[2])):
            yield f"parameters.{name}: it was renamed to {new_name}"
        elif name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, n=3, cutoff=0.4) or sorted(SETTINGS)
            yield f"parameters.{name}: no model has such a setting; did you mean {' or '.join(close)}"
        elif not self.parameters[name].labels:
            if self.search == "grid":
                yield f"parameters.{name}: a grid requires values; a range requires search: tpe"
            yield from self._range_errors(name)

    def _range_errors(self, name: str) -> Iterator[str]:
        kind, parameter = number_type(name), self.parameters[name]
        if kind is None:
            yield f"parameters.{name}: is not a number; use values instead of low and high"
        numbers = (*parameter.bounds, parameter.step or 1)
        if kind is int and any(number != int(number) for number in numbers):
            yield f"parameters.{name}: is an integer; low, high and step must be integers"

    def title(self, name: str) -> str:
        """Title of a parameter in tables and plots."""
        return self.parameters[name].title or name

    def settings_of(self, base: ModelSettings, choice: Choice, where: str = "choice") -> ModelSettings:
        """Settings with the values of a trial; UserError if they are invalid."""
        content = base.model_dump()
        for name, label in choice.items():
            value = label if name == SEED else self.parameters[name].value_of(label)
            *sections, key = name.split(".")
            section = content
            for part in sections:
                section[part] = section[part] or {}  # the base has no such section
                section = section[part]
            section[key] = value
        return parse_settings(content, ModelSettings, where)

    def check(self, base: ModelSettings, where: str) -> None:
        """Raise UserError for the first combination that is invalid for the model.

        Ranges are represented by their ends. Of more than 5000 combinations a random sample is validated, and
        each value at least once.
        """
        for choice in self._combinations():
            named = ", ".join(f"{name} = {label}" for name, label in choice.items())
            self.settings_of(base, choice, f"{where}: {named}")

    def _combinations(self) -> Iterator[Choice]:
        probes = {name: parameter.probes for name, parameter in self.parameters.items()}
        if math.prod(map(len, probes.values())) <= _MAX_CHECKED:
            for labels in itertools.product(*probes.values()):
                yield dict(zip(probes, labels, strict=True))
            return
        generator = random.Random(0)
        for name, labels in probes.items():
            for label in labels:
                yield {**{other: generator.choice(values) for other, values in probes.items()}, name: label}
        for _ in range(_MAX_CHECKED):
            yield {name: generator.choice(labels) for name, labels in probes.items()}

    @property
    def grid_size(self) -> int:
        """Number of combinations of a grid."""
        return math.prod(len(parameter.labels) for parameter in self.parameters.values())


def _types_by_name(model: type[BaseModel], prefix: str = "") -> dict[str, set[Any]]:
    """Map the dotted name of each setting, including nested sections, to its types."""
    types: dict[str, set[Any]] = {}
    for name, field in model.model_fields.items():
        is_union = get_origin(field.annotation) in (Union, UnionType)
        kinds = set(get_args(field.annotation)) if is_union else {field.annotation}
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]
        for section in sections:
            types |= _types_by_name(section, f"{prefix}{name}.")
        if not sections:
            types[f"{prefix}{name}"] = kinds
    return types


SETTINGS = _types_by_name(ModelSettings)


def number_type(name: str) -> type[int] | type[float] | None:
    """Number type of a setting; None if it is not a number."""
    return next((kind for kind in (int, float) if kind in SETTINGS[name]), None)
