"""FieldGroup: fields of a data YAML with the same settings, and the keys that each kind accepts."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator, model_validator
from pydantic import Field as Setting

from deepfm.field_name import field_name_of
from deepfm.fields import ColumnName, Field, FieldName, Pooling, RawKind, Scale
from deepfm.kinds import KINDS

#: Kinds of fields that accept a key.
_KINDS_BY_KEY = {
    key: tuple(name for name, kind in KINDS.items() if key in kind.keys)
    for key in dict.fromkeys(key for kind in KINDS.values() for key in kind.keys)
}


class NamedColumn(BaseModel):
    """A field and its column of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FieldName
    column: ColumnName


class FieldGroup(BaseModel):
    """Fields with the same settings; keys that are not given have Field's defaults.

    An entry of `names` is a column, or `{name: FIELD, column: COLUMN}`. The name of a column that is no
    field name gives the field's name: `user-id` -> `user_id`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: RawKind
    names: tuple[NamedColumn, ...] = Setting(min_length=1)
    min_count: int | None = Setting(default=None, ge=1)  # this and the following: see Field
    max_size: int | None = Setting(default=None, ge=1, lt=2**31 - 2)
    scale: Scale | None = None
    hash_buckets: int | None = Setting(default=None, ge=1, lt=2**31 - 2)
    unknown_buckets: int | None = Setting(default=None, ge=1, lt=2**31 - 2)
    quantile_buckets: int | None = Setting(default=None, ge=2, le=1000)
    max_values: int | None = Setting(default=None, ge=1, le=1000)
    separator: str | None = Setting(default=None, min_length=1)
    pooling: Pooling | None = None

    @property
    def field_list(self) -> list[Field]:
        """Fields of the group."""
        given = self.model_dump(exclude={"names"}, exclude_none=True)
        return [
            Field(name=one.name, source="" if one.column == one.name else one.column, **given)
            for one in self.names
        ]

    @field_validator("names", mode="before")
    @classmethod
    def _complete_names(cls, names: Any) -> Any:
        if not isinstance(names, (list, tuple)):
            return names
        return [_to_named_column(entry) for entry in names]

    @field_serializer("names")
    def _shorten_names(self, names: tuple[NamedColumn, ...]) -> list[str | dict]:
        # As before columns could have names of their own, so that older versions can read it.
        return [one.column if one.name == field_name_of(one.column) else one.model_dump() for one in names]

    @model_validator(mode="after")
    def _check_keys(self):
        given = {key for key in _KINDS_BY_KEY if getattr(self, key) is not None}
        errors = [
            f"{key}: only for fields of kind {' or '.join(kinds)}, not {self.kind}; remove it"
            for key, kinds in _KINDS_BY_KEY.items()
            if key in given and self.kind not in kinds
        ]
        if "hash_buckets" in given:
            errors += [
                f"{key}: a field with hash_buckets has no rare or unknown values; remove one of the two"
                for key in ("min_count", "max_size", "unknown_buckets")
                if key in given
            ]
        kind = KINDS[self.kind]
        errors += [
            f"{key}: is missing; {hint}" for key, hint in kind.required_keys.items() if key not in given
        ]
        errors += kind.group_errors(tuple(one.name for one in self.names))
        if self.kind == "time" and any(one.name != one.column for one in self.names):
            errors.append("names: fields of kind time derive from time_column; remove `column`")
        if errors:
            raise ValueError("; ".join(errors))
        return self


def _to_named_column(entry: Any) -> Any:
    """Complete an entry of `names` that is only a column."""
    if isinstance(entry, (bool, int, float)):
        # YAML reads no as false, and 109_14 as 10914.
        raise ValueError(f"expected a column's name, found {entry!r}; put it in quotes")
    if not isinstance(entry, str):
        return entry
    name = field_name_of(entry)
    if not name:
        raise ValueError(f"{entry!r} gives no field name; write it as {{name: FIELD, column: {entry!r}}}")
    return {"name": name, "column": entry}
