"""FieldGroup: fields of a data YAML that are treated alike, and which keys a kind of field takes."""

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Setting

from deepfm.fields import TIME_NAMES, Field, FieldName, Pooling, RawKind, Scale

#: The kinds of field that take a key.
_KINDS_OF_KEY = {
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
    """Fields that are treated alike; a key that is not given is Field's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: RawKind
    names: tuple[FieldName, ...] = Setting(min_length=1)
    min_count: int | None = Setting(default=None, ge=1)  # see Field, as for all that follow
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
        """The group's fields."""
        given = self.model_dump(exclude={"names"}, exclude_none=True)
        return [Field(name=name, **given) for name in self.names]

    @model_validator(mode="after")
    def _keys_fit_the_kind(self):
        given = {key for key in _KINDS_OF_KEY if getattr(self, key) is not None}
        mistakes = [
            f"{key}: only a field of kind {' or '.join(kinds)} has one, not a {self.kind}; remove it"
            for key, kinds in _KINDS_OF_KEY.items()
            if key in given and self.kind not in kinds
        ]
        if "hash_buckets" in given:
            mistakes += [
                f"{key}: a field with hash_buckets has no rare or unknown values; remove one of the two"
                for key in ("min_count", "max_size", "unknown_buckets")
                if key in given
            ]
        if self.kind == "quantile" and self.quantile_buckets is None:
            mistakes.append("quantile_buckets: is missing; say how many buckets, such as 50")
        if self.kind == "list" and self.max_values is None:
            mistakes.append("max_values: is missing; say how many values of an impression count, such as 5")
        strange = sorted(set(self.names) - set(TIME_NAMES)) if self.kind == "time" else []
        if strange:
            mistakes.append(f"names: a time gives {', '.join(TIME_NAMES)}, found {', '.join(strange)}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
