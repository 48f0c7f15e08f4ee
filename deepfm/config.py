"""Typed, frozen settings from YAML; every mistake of a file is reported at once, on the driver."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from deepfm.errors import UserError


class Settings(BaseModel):
    """Base of all settings: an unknown key, a wrong type or a later change is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def load_settings(path: str | Path, settings_class: type[S]) -> S:
    """Read one YAML file; raise UserError that lists every mistake in it."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a readable YAML file, found {error}; check the path") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from error
    return parse_settings(content, settings_class, str(path))


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
    return f"{key}: {message} (found {details['input']!r})" if key else message


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
