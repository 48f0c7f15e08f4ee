"""Loading of typed, frozen settings from YAML; all errors of a file are reported at once, on the driver."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from deepfm.errors import UserError


class Settings(BaseModel):
    """Base class of all settings: unknown keys, wrong types and assignments are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # In Python, True is an int: `max_epochs: true` would train for one epoch.
        if _contains_bool(value):
            assert info.field_name is not None
            types = set(_types(cls.model_fields[info.field_name].annotation))
            if types & {int, float} and not types & {bool, Any}:
                raise ValueError("Input should be a number, not true or false")
        return value


S = TypeVar("S", bound=Settings)
#: Keys of earlier versions and their present names.
RENAMED_KEYS = {"wire": "gradient_compression"}
#: Names whose values are hidden in errors, as in Spark.
_SECRET = re.compile(r"secret|password|token|webhook|access[.]?key", re.IGNORECASE)


def load_settings(path: str | Path, settings_class: type[S]) -> S:
    """Read a YAML file. Raise a UserError that lists all errors in it."""
    return parse_settings(read_yaml(path), settings_class, str(path))


def read_yaml(path: str | Path) -> Any:
    """Read the plain values of a YAML file. Raise a UserError if it is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the YAML file: {error}; check the path") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return the plain values of a YAML text; `where` names its source in errors."""
    try:
        return _load_yaml(text)
    except RecursionError as error:
        raise _recursion_error(where) from error
    except yaml.MarkedYAMLError as error:
        parts = ((error.context, error.context_mark), (error.problem, error.problem_mark))
        # str(error) would quote lines of the file, which may contain a password.
        message = ", ".join(
            f"{text} (line {mark.line + 1}, column {mark.column + 1})" for text, mark in parts if mark
        )
        raise UserError(f"{where}: is not valid YAML: {message}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not valid YAML: {error}") from error


def _recursion_error(where: str) -> UserError:
    return UserError(
        f"{where}: YAML values are nested too deeply or containing themselves; check its brackets"
    )


def parse_settings(content: Any, settings_class: type[S], where: str) -> S:
    """Validate plain values (a YAML or JSON document); `where` names their source in errors."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {type(content).__name__}")
    try:
        return settings_class.model_validate(content)
    except RecursionError as error:  # by *aliases of YAML
        raise _recursion_error(where) from error
    except ValidationError as error:
        errors = [_format_error(details, settings_class) for details in error.errors()]
        count = f"{len(errors)} errors" if len(errors) > 1 else "1 error"
        raise UserError(f"{where}: {count}: {'; '.join(errors)}") from error


def _load_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Safe loader that also rejects duplicate keys and reports invalid values with their line."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # reported later as an invalid key
            if key.value in lines:
                message = f"duplicate key {key.value}, first in line {lines[key.value]}; remove one of them"
                raise yaml.MarkedYAMLError(problem=message, problem_mark=key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as 2026-13-45, which has the form of a date
            message = f"{node.value!r:.100} is not a valid value: {error}; quote it if it is text"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark) from error


# Only true and false are booleans, as in YAML 1.2: a column may be called no or on.
_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def yaml_text(settings: Settings) -> str:
    """Format settings as YAML for `load_settings`, without settings that are None."""
    content = settings.model_dump(mode="json", exclude_none=True)
    return yaml.dump(content, Dumper=_ReadableDumper, sort_keys=False, allow_unicode=True)


class _ReadableDumper(yaml.SafeDumper):
    """Dumper that writes lists on one line."""


_ReadableDumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def with_current_names(content: Any) -> Any:
    """Rename the keys of a document that an earlier version wrote."""
    if isinstance(content, dict):
        return {RENAMED_KEYS.get(key, key): with_current_names(value) for key, value in content.items()}
    return [with_current_names(value) for value in content] if isinstance(content, list) else content


def _format_error(details: ErrorDetails, settings_class: type[Settings]) -> str:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden" and (new_name := RENAMED_KEYS.get(str(details["loc"][-1]))):
        return f"unknown key {key}: it was renamed to {new_name}"
    if details["type"] == "extra_forbidden":
        return f"unknown key {key}: {_suggestion(str(details['loc'][-1]), settings_class)}"
    if details["type"] == "missing":
        return f"{key} is missing"
    message = details["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {_redacted(details['input'], key)})" if key else message


def _redacted(value: Any, key: str) -> str:
    """Format an invalid value without secrets, because messages end up in logs."""
    text = repr(_without_secrets(value, key))
    # Up to the last @, because a password may contain an @ that is not escaped as %40.
    text = re.sub(r"://[^\s'\"]*@", "://…@", text)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _without_secrets(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(content, str(name)) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(content, key) for content in value]
    return "…" if value is not None and _SECRET.search(key) else value


def _suggestion(name: str, settings_class: type[Settings]) -> str:
    """Suggest a fix for an unknown key; a key that is known elsewhere may have the wrong indentation."""
    paths: dict[str, str] = {}
    for path in _paths(settings_class):
        paths.setdefault(path.rpartition(".")[2], path)
    near = get_close_matches(name, paths, n=1)
    return f"did you mean {paths[near[0]]}?" if near else "remove it or check its spelling"


def _paths(annotation: Any, above: str = "") -> Iterator[str]:
    """Yield all dotted keys of a file, such as training and training.batch_size."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            yield f"{above}{name}"
            yield from _paths(info.annotation, f"{above}{name}.")
    for part in get_args(annotation):
        yield from _paths(part, above)


def _types(annotation: Any) -> Iterator[Any]:
    """Yield the types in an annotation: int and NoneType for int | None."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _types(part)


def _contains_bool(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_contains_bool, value))
    return isinstance(value, bool)
