"""Typed, frozen settings from YAML; every mistake of a file is reported at once, on the driver."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from deepfm.errors import UserError


class Settings(BaseModel):
    """Base of all settings: an unknown key, a wrong type or a later change is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # To Python true is the number 1: `max_epochs: true` would train for one epoch.
        if _holds_bool(value):
            types = set(_types(cls.model_fields[info.field_name].annotation))
            if types & {int, float} and not types & {bool, Any}:
                raise ValueError("Input should be a number, not true or false")
        return value


S = TypeVar("S", bound=Settings)
#: Names whose values Spark hides too.
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)


def load_settings(path: str | Path, settings_class: type[S]) -> S:
    """Read one YAML file; raise UserError that lists every mistake in it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a readable YAML file, found {error}; check the path") from error
    try:
        return parse_settings(_content(text), settings_class, str(path))
    except RecursionError as error:
        found = "found hundreds, or one that holds itself"
        raise UserError(f"{path}: expected a few levels of YAML, {found}; check its brackets") from error
    except yaml.MarkedYAMLError as error:
        parts = ((error.context, error.context_mark), (error.problem, error.problem_mark))
        # Without the lines that its own text quotes: they may hold a password.
        told = ", ".join(f"{what} (line {at.line + 1}, column {at.column + 1})" for what, at in parts if at)
        raise UserError(f"{path}: is not valid YAML: {told}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from error


def parse_settings(content: Any, settings_class: type[S], where: str) -> S:
    """Settings from plain values (a YAML or JSON document); `where` names their source in errors."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {type(content).__name__}")
    try:
        return settings_class.model_validate(content)
    except ValidationError as error:
        mistakes = [_mistake(details, settings_class) for details in error.errors()]
        many = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "1 mistake"
        raise UserError(f"{where}: {many}: {'; '.join(mistakes)}") from error


def _content(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """The safe one, which besides would let a key's last value win and end in traces of its own."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, lines = super().compose_mapping_node(anchor), {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # what is no text is told to be no key later
            if key.value in lines:
                found = f"found {key.value} in line {lines[key.value]} too"
                told = f"expected each key once, {found}; remove one of them"
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # 2026-13-45 looks like a day and is none
            told = f"{node.value!r:.100} is no value: {error}; put text into quotes"
            raise yaml.MarkedYAMLError(problem=told, problem_mark=node.start_mark) from error


def yaml_text(settings: Settings) -> str:
    """Settings as a YAML that `load_settings` reads, without those that are None."""
    content = settings.model_dump(mode="json", exclude_none=True)
    return yaml.dump(content, Dumper=_ReadableDumper, sort_keys=False, allow_unicode=True)


class _ReadableDumper(yaml.SafeDumper):
    """Lists in one line, as people write them."""


_ReadableDumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _mistake(details: dict, settings_class: type[Settings]) -> str:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"unknown key {key}: {_meant(str(details['loc'][-1]), settings_class)}"
    if details["type"] == "missing":
        return f"{key} is missing"
    message = details["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {_shown(details['input'], key)})" if key else message


def _shown(value: Any, key: str) -> str:
    """A wrong value for people to see, without what must not be seen: messages end in logs."""
    text = repr(_without_secrets(value, key))
    # By the last @: a password may hold one that should have been written %40.
    text = re.sub(r"://[^\s'\"]*@", "://…@", text)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _without_secrets(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(content, str(name)) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(content, key) for content in value]
    return "…" if value is not None and _SECRET.search(key) else value


def _meant(name: str, settings_class: type[Settings]) -> str:
    """What to do about an unknown name; one that is known elsewhere in the file may have lost its indent."""
    paths: dict[str, str] = {}
    for path in _paths(settings_class):
        paths.setdefault(path.rpartition(".")[2], path)
    near = get_close_matches(name, paths, n=1)
    return f"did you mean {paths[near[0]]}?" if near else "remove it or check its spelling"


def _paths(annotation: Any, above: str = "") -> Iterator[str]:
    """training, training.batch_size, …: all that a file may set."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            yield f"{above}{name}"
            yield from _paths(info.annotation, f"{above}{name}.")
    for part in get_args(annotation):
        yield from _paths(part, above)


def _types(annotation: Any) -> Iterator[Any]:
    """int, NoneType, … of int | None and the like."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _types(part)


def _holds_bool(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_bool, value))
    return isinstance(value, bool)
