"""Settings of a YAML file with values from the command line, `--set training.learning_rate=0.002`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from deepfm.errors import UserError
from deepfm.settings.loader import Settings, parse_settings, parse_yaml, read_yaml

S = TypeVar("S", bound=Settings)


def load_with_overrides(path: str | Path, settings_class: type[S], assignments: Sequence[str]) -> S:
    """Read a YAML file and replace values by KEY=VALUE; raise a UserError that lists all errors.

    A value is read as in the file. A key of several parts is separated by dots; an entry of a list is its
    index, as in fields.0.min_count.
    """
    content = override(read_yaml(path), assignments)
    return parse_settings(content, settings_class, describe_source(str(path), assignments))


def override_settings(settings: S, assignments: Sequence[str], where: str) -> S:
    """Return validated settings with other values; `where` names their source in errors."""
    content = override(settings.model_dump(), assignments)
    return parse_settings(content, type(settings), describe_source(where, assignments))


def describe_source(where: str, assignments: Sequence[str]) -> str:
    """Name of a file and of the flags that change it."""
    return " ".join([where, *(f"--set {assignment}" for assignment in assignments)])


def override(content: Any, assignments: Sequence[str]) -> Any:
    """Return a copy of a document with other values; the last assignment of a key counts."""
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not all(key.split(".")):
            raise UserError(
                f"--set {assignment}: expected KEY=VALUE, such as training.learning_rate=0.002; "
                "write the key with its sections, separated by dots"
            )
        value = parse_yaml(text, f"--set {assignment}")
        content = _assign(content, key.split("."), value, f"--set {assignment}")
    return content


def _assign(content: Any, keys: Sequence[str], value: Any, where: str) -> Any:
    """Copy the containers on the way: YAML's *aliases share them with other sections."""
    if not keys:
        return value
    first, *others = keys
    if isinstance(content, (list, tuple)):
        index = _index(first, len(content), where)
        return [*content[:index], _assign(content[index], others, value, where), *content[index + 1 :]]
    if content is None:  # a section that is absent or empty
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{where}: {first} cannot be set, its section is the value {content!r:.100}")
    return {**content, first: _assign(content.get(first), others, value, where)}


def _index(text: str, length: int, where: str) -> int:
    if not text.isdecimal() or int(text) >= length:
        raise UserError(
            f"{where}: expected the index of an entry, 0 to {length - 1}, found {text}; count from 0"
        )
    return int(text)
