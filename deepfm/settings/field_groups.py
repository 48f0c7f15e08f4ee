"""FieldGroup: fields of a data YAML with the same settings, and the keys that each kind accepts."""

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Setting

from deepfm.fields import Field, FieldName, Pooling, RawKind, Scale
from deepfm.kinds import KINDS

#: Kinds of fields that accept a key.
_KINDS_BY_KEY = {
    key: tuple(name for name, kind in KINDS.items() if key in kind.keys)
    for key in dict.fromkeys(key for kind in KINDS.values() for key in kind.keys)
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
        kind = KINDS[self.kind]
        errors += [
            f"{key}: is missing; {hint}" for key, hint in kind.required_keys.items() if key not in given
        ]
        errors += kind.group_errors(self.names)
        if errors:
            raise ValueError("; ".join(errors))
        return self
