"""Field and FieldSet: names, kinds and order of a model's fields, shared by all stages."""

from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Setting

from deepfm.field_name import ColumnName, FieldName
from deepfm.kinds import KINDS, FieldKind
from deepfm.kinds.literals import (
    FIRST_KNOWN_ID,
    MISSING_ID,
    PADDING,
    PRESENT_ID,
    TIME_NAMES,
    UNKNOWN_ID,
    Pooling,
    Scale,
    TimeFormat,
)

__all__ = [
    "FIRST_KNOWN_ID",
    "MISSING_ID",
    "PADDING",
    "PRESENT_ID",
    "TIME_NAMES",
    "UNKNOWN_ID",
    "ColumnName",
    "Field",
    "FieldName",
    "FieldSet",
    "Kind",
    "Pooling",
    "RawKind",
    "Scale",
    "TimeFormat",
]


if TYPE_CHECKING:  # types that are computed are unknown to a type checker
    Kind = str
    RawKind = str
else:
    Kind = Literal[tuple(KINDS)]
    #: Kinds of fields that derive from one column of the log.
    RawKind = Literal[tuple(name for name, kind in KINDS.items() if kind.has_column)]


class Field(BaseModel):
    """A column of the click log or a cross of several, and its conversion to a feature.

    `count`: an integer (such as I1..I13), bucketed by floor(log(x)^2); the bucket gets an id from the field's
    vocabulary. `category`: a value gets an id from the vocabulary or, with hash_buckets, by its hash. `list`:
    several categories per impression, whose weights and embeddings are pooled. `quantile`: a number, bucketed
    so that training values fill the buckets evenly. `value`: a number x that multiplies the field's weight
    and embedding. `time`: the hour, weekday or part of the day of a time column. `cross`: has no column; its
    id is a hash of the ids of its parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: FieldName
    kind: Kind
    # count, category, list: values with fewer training impressions are rare and get an unknown id.
    min_count: int = Setting(default=1, ge=1)
    # count, category, list: maximum number of known values, the most frequent ones; 0: no limit.
    max_size: int = Setting(default=0, ge=0)
    # category, list: number of ids to which unseen and rare values are hashed; known values follow.
    unknown_buckets: int = Setting(default=1, ge=1)
    # category, list: number of ids to which all values are hashed instead of a vocabulary; 0: vocabulary.
    hash_buckets: int = Setting(default=0, ge=0)
    # quantile: number of buckets; there are fewer if many values are equal.
    quantile_buckets: int = Setting(default=0, ge=0)
    # list: maximum number of values per impression (the first ones), and the text between two values; an
    # empty separator means that the log's column is an array.
    max_values: int = Setting(default=0, ge=0)
    separator: str = ""
    pooling: Pooling = "mean"
    scale: Scale = "standard"  # value: standardize x itself, or sign(x) log(1 + |x|)
    # The log's column if it has another name than the field; always set for fields of kind time.
    source: str = ""
    time_format: TimeFormat | None = None
    time_zone: str = "UTC"  # time: of times without an offset, and of hours and weekdays
    # cross: the fields whose ids are combined, and the number of ids. Not strict: JSON has no tuples.
    parts: tuple[FieldName, ...] = Setting(default=(), strict=False)
    buckets: int = Setting(default=0, ge=0)

    @property
    def behaviour(self) -> FieldKind:
        """Behaviour of the field's kind."""
        return KINDS[self.kind]

    @property
    def column(self) -> str:
        """Name of the log's column."""
        return self.source or self.name

    @property
    def first_known_id(self) -> int:
        """Id of the most frequent known value."""
        return FIRST_KNOWN_ID - 1 + self.unknown_buckets

    @property
    def is_counted(self) -> bool:
        """Whether ids or buckets are fitted to value counts."""
        return self.behaviour.uses_counts and not self.hash_buckets

    @property
    def has_known_values(self) -> bool:
        """Whether each id from `first_known_id` on stands for one value."""
        return self.is_counted and self.behaviour.has_vocabulary

    @property
    def is_list(self) -> bool:
        """Whether an impression has several values."""
        return self.behaviour.is_list

    @property
    def is_value(self) -> bool:
        """Whether the field enters the model as a number."""
        return self.behaviour.is_value

    @property
    def is_cross(self) -> bool:
        """Whether the field combines other fields instead of having a column."""
        return not self.behaviour.has_column

    @property
    def is_array(self) -> bool:
        """Whether it is a list stored as an array in the log."""
        return self.is_list and not self.separator

    @property
    def pools_mean(self) -> bool:
        """Whether list values are averaged rather than summed."""
        return self.is_list and self.pooling == "mean"

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the dataset's columns for this field: one, or one per value of a list."""
        if not self.is_list:
            return (self.name,)
        return tuple(f"{self.name}__{position}" for position in range(1, self.max_values + 1))


class FieldSet:
    """Ordered fields of one model, in the order of the columns on disk and of the F in (B, F).

    A field has one column on disk (slot), a list has several: (B, S), where S = F without lists. Crossed
    fields come last, so that a model can exclude them from (B, F) by a slice.
    """

    def __init__(self, fields: list[Field] | tuple[Field, ...]):
        self.fields = tuple(fields)
        crossed = [field.is_cross for field in self.fields]
        if crossed != sorted(crossed):
            raise ValueError("expected crossed fields after all others")
        self.names = tuple(field.name for field in self.fields)
        self.slots = tuple(slot for field in self.fields for slot in field.slots)

    @property
    def raw(self) -> "FieldSet":
        """Fields that derive from columns of the log: all but the crossed ones."""
        return FieldSet(self.fields[: len(self) - self.num_crossed])

    @property
    def columns(self) -> tuple[str, ...]:
        """Distinct columns of the log from which the fields derive."""
        return tuple(dict.fromkeys(field.column for field in self.raw))

    @property
    def num_crossed(self) -> int:
        return sum(field.is_cross for field in self.fields)

    @property
    def are_values(self) -> tuple[bool, ...]:
        """(F,): whether each field is a value field."""
        return tuple(field.is_value for field in self.fields)

    @property
    def num_slots(self) -> tuple[int, ...]:
        """(F,): number of columns on disk of each field."""
        return tuple(len(field.slots) for field in self.fields)

    @cached_property
    def slot_ranges(self) -> dict[str, slice]:
        """Range of each field in the S columns."""
        stops = accumulate(self.num_slots)
        ranges = zip(self.names, self.num_slots, stops, strict=True)
        return {name: slice(stop - num, stop) for name, num, stop in ranges}

    def __iter__(self):
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, index: int) -> Field:
        return self.fields[index]

    def __eq__(self, other) -> bool:
        return isinstance(other, FieldSet) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)
