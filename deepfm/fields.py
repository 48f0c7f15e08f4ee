"""Field and FieldSet: names, kinds and order of the columns a model is made of; what every stage speaks."""

from functools import cached_property
from itertools import accumulate
from keyword import iskeyword
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic import Field as Setting

#: Ids every field reserves before its first known value; a field with unknown_buckets has more unknown ids.
MISSING_ID = 0
UNKNOWN_ID = 1
FIRST_KNOWN_ID = 2
#: The other id of a field that enters by value: it has no vocabulary, so no value of it is unknown.
PRESENT_ID = 1
#: In the slots of a list that an impression has no values for; no row of a table.
PADDING = -1


def _no_keyword(name: str) -> str:
    if iskeyword(name):
        raise ValueError("is a word of Python's, which Petastorm cannot name a column; rename it in the log")
    return name


#: A field is also a column of the dataset and an attribute of what Petastorm reads from it.
FieldName = Annotated[str, Setting(pattern=r"^[A-Za-z][A-Za-z0-9_]*$"), AfterValidator(_no_keyword)]
#: Of the fields that are made of one column of the log.
RawKind = Literal["count", "category", "list", "value", "quantile", "time"]
Kind = Literal[RawKind, "cross"]
Scale = Literal["standard", "log"]
Pooling = Literal["mean", "sum"]
TimeFormat = Literal["iso", "unix_s", "unix_ms"]
#: The fields that can be made of a time.
TIME_NAMES = ("hour", "weekday", "day_part")


class Field(BaseModel):
    """A column of the click log, or a cross of several, and how its raw value becomes a feature.

    A `count` (an integer such as I1..I13) is bucketed by floor(log(x)^2) first, a `category` is taken as it
    is; either way the value then gets an id from the field's vocabulary, or, of a category with hash_buckets,
    one by its hash. A `list` is several categories an impression, whose weights and embeddings are pooled. A
    `quantile` is a number, bucketed so that the training values fill all buckets alike. A
    `value` is a number x that its field's weight and embedding are multiplied by. A `time` is the hour, the
    weekday or the part of the day that a time column says. A `cross` is no column: its id is a hash of its
    parts'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: FieldName
    kind: Kind
    min_count: int = Setting(
        default=1, ge=1
    )  # training impressions below which a value is rare: the unknown id; of counts, categories and lists
    # Of counts, categories and lists: the most frequent values are known, up to so many; 0: no limit.
    max_size: int = Setting(default=0, ge=0)
    # Of a category or list: ids that unseen and rare values share by their hash; the known ones follow.
    unknown_buckets: int = Setting(default=1, ge=1)
    # Of a category or list: how many ids values share by their hash, in place of a vocabulary; 0: it has one.
    hash_buckets: int = Setting(default=0, ge=0)
    # Of a quantile: its buckets; fewer where many values are equal.
    quantile_buckets: int = Setting(default=0, ge=0)
    # Of a list: the first so many values of an impression count. What lies between two values; empty: the
    # log's column is an array.
    max_values: int = Setting(default=0, ge=0)
    separator: str = ""
    pooling: Pooling = "mean"
    scale: Scale = "standard"  # of a value: standardised as it is, or sign(x) log(1 + |x|) is
    # Of a time: the log's column and how times are written there.
    source: str = ""
    time_format: TimeFormat | None = None
    # Of a cross: the fields whose ids make its id, and how many ids it has. JSON knows no tuples.
    parts: tuple[FieldName, ...] = Setting(default=(), strict=False)
    buckets: int = Setting(default=0, ge=0)

    @property
    def column(self) -> str:
        """The log's column that it is made of."""
        return self.source or self.name

    @property
    def first_known_id(self) -> int:
        """The id of the most frequent known value."""
        return FIRST_KNOWN_ID - 1 + self.unknown_buckets

    @property
    def is_counted(self) -> bool:
        """Whether its ids are learnt from how often each value occurs."""
        return self.kind in ("count", "category", "list", "quantile") and not self.hash_buckets

    @property
    def has_known_values(self) -> bool:
        """Whether ids from `first_known_id` on stand for a value each."""
        return self.is_counted and self.kind != "quantile"

    @property
    def is_array(self) -> bool:
        """Whether it is a list whose column in the log is an array."""
        return self.kind == "list" and not self.separator

    @property
    def pools_mean(self) -> bool:
        """Whether its values are averaged, not added."""
        return self.kind == "list" and self.pooling == "mean"

    @property
    def slots(self) -> tuple[str, ...]:
        """The dataset's columns that hold it: one, but of a list one a value."""
        if self.kind != "list":
            return (self.name,)
        return tuple(f"{self.name}__{place}" for place in range(1, self.max_values + 1))


class FieldSet:
    """The ordered fields of one model; the order is that of the columns on disk and of the F in (B, F).

    A field has one column on disk, its slot, and a list several: (B, S), where S is F without lists.

    Crossed fields stand last, so that a model may leave them out of (B, F) by a slice.
    """

    def __init__(self, fields: list[Field] | tuple[Field, ...]):
        self.fields = tuple(fields)
        crossed = [field.kind == "cross" for field in self.fields]
        if crossed != sorted(crossed):
            raise ValueError("expected crossed fields after all others")
        self.names = tuple(field.name for field in self.fields)
        self.slots = tuple(slot for field in self.fields for slot in field.slots)

    @property
    def raw(self) -> "FieldSet":
        """The fields that are made of columns of the log: all but the crossed ones."""
        return FieldSet(self.fields[: len(self) - self.num_crossed])

    @property
    def columns(self) -> tuple[str, ...]:
        """The log's columns that the fields are made of, each once."""
        return tuple(dict.fromkeys(field.column for field in self.raw))

    @property
    def num_crossed(self) -> int:
        return sum(field.kind == "cross" for field in self.fields)

    @property
    def are_values(self) -> tuple[bool, ...]:
        """(F,): which fields enter the model by value."""
        return tuple(field.kind == "value" for field in self.fields)

    @property
    def num_slots(self) -> tuple[int, ...]:
        """(F,): how many columns on disk each field has."""
        return tuple(len(field.slots) for field in self.fields)

    @cached_property
    def slot_ranges(self) -> dict[str, slice]:
        """Which of the S columns are each field's."""
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
