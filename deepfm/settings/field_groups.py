"""FieldGroup: fields of a data YAML with the same settings, and the keys that each kind accepts."""

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Setting

from deepfm.fields import TIME_NAMES, Field, FieldName, Pooling, RawKind, Scale

#: Kinds of fields that accept a key.
_KINDS_BY_KEY = {
    "min_count": ("count", "category", "list"),
    "max_size": ("count", "category", "list"),
    "scale": ("value",),
    "hash_buckets": ("category", "list"),
    "unknown_buckets": ("category", "list"),
    "max_values": ("list",),
    "separator": ("list",),
    "pooling": ("list",),
    "quantile_buckets": ("quantile",),
}


class FieldGroup(BaseModel):
    """Fields with the same settings; keys that are not given have Field's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: RawKind
    names: tuple[FieldName, ...] = Setting(min_length=1)
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
        return [Field(name=name, **given) for name in self.names]

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
        if self.kind == "quantile" and self.quantile_buckets is None:
            errors.append("quantile_buckets: is missing; set the number of buckets, such as 50")
        if self.kind == "list" and self.max_values is None:
            errors.append(
                "max_values: is missing; set the maximum number of values per impression, such as 5"
            )
        unknown = sorted(set(self.names) - set(TIME_NAMES)) if self.kind == "time" else []
        if unknown:
            errors.append(
                f"names: fields of kind time are {', '.join(TIME_NAMES)}, found {', '.join(unknown)}"
            )
        if errors:
            raise ValueError("; ".join(errors))
        return self
