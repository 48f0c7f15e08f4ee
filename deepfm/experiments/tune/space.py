"""conf/tune/*.yaml: which settings of a model are tried, with what values; checked before anything trains."""

import difflib
import itertools
import math
import random
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, model_validator
from pydantic import Field as Setting

from deepfm.settings.loader import Settings, parse_settings
from deepfm.settings.model import ModelSettings

SEED = "training.seed"
#: What decides how trials are compared must be the same for all of them.
_NOT_TO_BE_TRIED = {SEED: "give --seeds N", "training.monitor": "set it in the model's YAML"}
_MAX_CHECKED = 5000

Label = str | int | float | bool
#: What one trial tries: label or number by the parameter's dotted name.
Choice = dict[str, Label]


class Parameter(Settings):
    """One setting's values: those listed, or a range of numbers."""

    # Listed, or by a label that stands for each in tables and plots.
    values: tuple[Any, ...] | dict[Label, Any] | None = None
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False  # a range: evenly by its logarithm
    step: int | float | None = Setting(default=None, gt=0)  # a range: from low in such steps
    title: str | None = None  # in tables and plots; the dotted name where absent

    @model_validator(mode="after")
    def _is_a_list_or_a_range(self):
        is_range = self.low is not None or self.high is not None
        if (self.values is not None) == is_range:
            raise ValueError("expected either values or low and high")
        if is_range and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError("low and high: expected both, low below high")
        if not is_range and not self.values:
            raise ValueError("values: expected at least one")
        if self.log and (self.low is None or self.low <= 0 or self.step):
            raise ValueError("log: only a range from above 0 and without step can have it")
        if self.step and not is_range:
            raise ValueError("step: only a range has steps")
        if len(self.labels) > len(set(self.labels)):
            raise ValueError(f"values: each may be there once, found {list(self.labels)}")
        return self

    @property
    def labels(self) -> tuple[Label, ...]:
        """Of the listed values, in the order of the file; empty of a range."""
        if isinstance(self.values, dict):
            return tuple(self.values)
        return tuple(v if isinstance(v, Label) else str(v) for v in self.values or ())

    @property
    def probes(self) -> tuple[Label, ...]:
        """What must be valid for all to be: the listed, or both ends of the range."""
        return self.labels or (self.low, self.high)

    def value_of(self, label: Label) -> Any:
        """The setting that a label stands for; a number of a range stands for itself."""
        if isinstance(self.values, dict):
            return self.values[label]
        return self.values[self.labels.index(label)] if self.values else label


class SearchSpace(Settings):
    """What a study tries, how it chooses and when it gives a trial up."""

    search: Literal["grid", "tpe"]  # every combination of listed values once; tree of Parzen estimators
    parameters: dict[str, Parameter] = Setting(min_length=1)  # by dotted name, as in the model's YAML
    seed: int = Setting(default=1, ge=0)  # of the search
    # median: a trial is given up whose best epoch so far is worse than the median of the others at that
    # epoch; hyperband: only about a third of a bracket goes on after 1, 3, 9, … epochs (Li et al. 2018).
    pruner: Literal["none", "median", "hyperband"] = "none"
    startup_trials: int = Setting(default=5, ge=1)  # median: so many are finished before one is given up
    warmup_epochs: int = Setting(default=0, ge=0)  # median: none is given up before the epoch after these

    @model_validator(mode="after")
    def _fits_the_models_settings(self):
        mistakes = [mistake for name in self.parameters for mistake in self._mistakes_of(name)]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _mistakes_of(self, name: str) -> Iterator[str]:
        if name in _NOT_TO_BE_TRIED:
            yield f"parameters.{name}: is the same in all trials; {_NOT_TO_BE_TRIED[name]}"
        elif name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, n=3, cutoff=0.4) or sorted(SETTINGS)
            yield f"parameters.{name}: no model has such a setting; perhaps {' or '.join(close)}"
        elif not self.parameters[name].labels:
            if self.search == "grid":
                yield f"parameters.{name}: a grid needs values; a range is for search: tpe"
            yield from self._mistakes_of_range(name)

    def _mistakes_of_range(self, name: str) -> Iterator[str]:
        kind, parameter = number_type(name), self.parameters[name]
        if kind is None:
            yield f"parameters.{name}: is no number; give values in place of low and high"
        numbers = (parameter.low, parameter.high, parameter.step or 1)
        if kind is int and any(number != int(number) for number in numbers):
            yield f"parameters.{name}: is a whole number; low, high and step must be such"

    def title(self, name: str) -> str:
        """Of a parameter, in tables and plots."""
        return self.parameters[name].title or name

    def settings_of(self, base: ModelSettings, choice: Choice, where: str = "choice") -> ModelSettings:
        """The model with what a trial tries; UserError where the model's settings refuse it."""
        content = base.model_dump()
        for name, label in choice.items():
            value = label if name == SEED else self.parameters[name].value_of(label)
            *sections, key = name.split(".")
            section = content
            for part in sections:
                section[part] = section[part] or {}  # a section that the base does not have
                section = section[part]
            section[key] = value
        return parse_settings(content, ModelSettings, where)

    def check(self, base: ModelSettings, where: str) -> None:
        """UserError for the first combination that the model's settings refuse.

        Of ranges their ends are tried; of more than 5000 combinations as many by chance, and each value.
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
        chance = random.Random(0)
        for name, labels in probes.items():
            for label in labels:
                yield {**{other: chance.choice(own) for other, own in probes.items()}, name: label}
        for _ in range(_MAX_CHECKED):
            yield {name: chance.choice(labels) for name, labels in probes.items()}

    @property
    def grid_size(self) -> int:
        """Combinations of a grid."""
        return math.prod(len(parameter.labels) for parameter in self.parameters.values())


def _types_by_name(model: type[BaseModel], prefix: str = "") -> dict[str, set[type]]:
    """{dotted name: types it may have} of all settings, those of its sections included."""
    types: dict[str, set[type]] = {}
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
    """What numbers a setting takes; None where it takes none."""
    return next((kind for kind in (int, float) if kind in SETTINGS[name]), None)
