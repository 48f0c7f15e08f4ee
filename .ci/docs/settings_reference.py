"""Page of every YAML key: type, default and comment, from the typed settings."""

from __future__ import annotations

from datetime import date
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from comments import Comment, field_comments
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deepfm.experiments.tune.space import SearchSpace
from deepfm.fields import Field
from deepfm.settings.data import DataSettings
from deepfm.settings.deployment import Profile
from deepfm.settings.field_groups import FieldGroup
from deepfm.settings.labels import LabelSettings
from deepfm.settings.model import ModelSettings

#: Title, flag, and class of each kind of file.
FILES = (
    ("Data YAML", "`build_features.py --data`, `conf/data/`", DataSettings),
    ("Label YAML", "`evaluate.py --labels-data`", LabelSettings),
    ("Model YAML", "`train.py --model`, `conf/model/`", ModelSettings),
    ("Profile", "`--profile` of every job, `conf/profile/`", Profile),
    ("Search space", "`tune.py --space`, `conf/tune/`", SearchSpace),
)
#: Where keys are explained: all of FieldGroup, and those of LabelSettings that have no comment.
EXPLAINED_BY = {LabelSettings: DataSettings, FieldGroup: Field}
PRIMITIVES = {str: "text", int: "integer", float: "number", bool: "boolean", date: "date", Any: "any value"}
BOUNDS = ((annotated_types.Ge, "≥", "ge"), (annotated_types.Gt, ">", "gt"),
          (annotated_types.Le, "≤", "le"), (annotated_types.Lt, "<", "lt"))  # fmt: skip


def settings_page() -> str:
    """Return the page as Markdown."""
    parts = [
        "# YAML keys",
        "Generated from the settings classes. An unknown key is an error. `null` stands for an absent key.",
    ]
    for title, flag, settings_class in FILES:
        parts += [f"## {title}", f"File of {flag}."]
        for section in sections(settings_class):
            if section is not settings_class:
                parts.append(f"### {section.__name__}")
            parts += [first_paragraph(section), table(section)]
    return "\n\n".join(parts) + "\n"


def sections(settings_class: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the class and the classes of its keys, of their keys, and so on."""
    found = [settings_class]
    for section in found:
        for field in section.model_fields.values():
            found += [one for one in dict.fromkeys(nested(field.annotation)) if one not in found]
    return found


def nested(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for argument in get_args(annotation) for one in nested(argument)]


def table(section: type[BaseModel]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    comments, other = field_comments(section), EXPLAINED_BY.get(section)
    other_comments = field_comments(other) if other else {}
    for name, field in section.model_fields.items():
        comment, explained = comments[name], field
        if other and name in other_comments and (section is FieldGroup or not comment.text):
            comment = other_comments[name]
            explained = other.model_fields[name] if section is FieldGroup else field
        cells = [f"`{name}`", type_text(field.annotation, field.metadata), default_text(explained)]
        rows.append("| " + " | ".join(map(escape, [*cells, meaning(comment, field)])) + " |")
    return "\n".join(rows)


def meaning(comment: Comment, field: FieldInfo) -> str:
    """Return the comment of a key, else what the class of its value says."""
    if comment.see:
        return f"see `{comment.see}`"
    classes = [] if comment.text else nested(field.annotation)
    text = first_paragraph(classes[0]) if len(classes) == 1 else comment.text
    return text.replace("*", r"\*").replace("None", "null")


def type_text(annotation: Any, metadata: Any = ()) -> str:
    """Return the type in the words of YAML, with its limits."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return type_text(inner, [m for one in more for m in getattr(one, "metadata", [one])])
    limits = [f"{sign} {getattr(one, name):,}" for one in metadata
              for kind, sign, name in BOUNDS if isinstance(one, kind)]  # fmt: skip
    return " ".join([plain_type(annotation), ", ".join(limits)]).strip()


def plain_type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(type_text(one) for one in arguments if one is not NoneType)
    if origin is tuple:
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return PRIMITIVES.get(annotation, "text")


def default_text(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(str(value) for value in field.default)}]`"
    text = yaml.safe_dump(field.default, default_flow_style=True).removesuffix("\n...\n").strip()
    return f"`{text}`"


def first_paragraph(section: type) -> str:
    return " ".join((section.__doc__ or "").split("\n\n")[0].split())


def escape(cell: str) -> str:
    return cell.replace("|", r"\|").replace("<", "&lt;")
