"""FieldKind: what one kind of field does with the values of a log, from parsing to display."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.kinds.dictionary import dictionary_encode
from deepfm.kinds.literals import Pooling, Scale, TimeFormat
from deepfm.kinds.scaling import Scaling


class FieldSettings(Protocol):
    """Settings of a field that kinds read; see deepfm.fields.Field."""

    name: str
    unknown_buckets: int
    hash_buckets: int
    max_values: int
    separator: str
    pooling: Pooling
    scale: Scale
    source: str
    time_format: TimeFormat | None
    time_zone: str
    parts: tuple[str, ...]
    buckets: int

    @property
    def column(self) -> str: ...

    @property
    def first_known_id(self) -> int: ...


@dataclass(frozen=True)
class FittedField:
    """What was fitted to the training days for one field."""

    values: pa.Array  # known values as strings, in the order of their ids
    subset_ids: np.ndarray | None = None  # ids of `values` if they are only a part of the known values
    scaling: Scaling | None = None  # of a value field
    boundaries: tuple[float, ...] = ()  # of a quantile field


#: Encodes one field of B rows: (raw columns, arrays encoded so far by slot) -> one (B,) array per slot.
FieldEncoder = Callable[[pa.Table, dict[str, np.ndarray]], list[np.ndarray]]
#: What clients may send for a field: text, an array of texts, or text and any number type.
ColumnType = Literal["string", "array", "any"]


class FieldKind:
    """One kind of field, without state: settings are passed as a Field, fitted numbers as a FittedField."""

    name: ClassVar[str]
    #: Keys of a data YAML that fields of this kind accept, and those they require, with a hint.
    keys: ClassVar[tuple[str, ...]] = ()
    required_keys: ClassVar[dict[str, str]] = {}
    has_column: ClassVar[bool] = True  # derives from a column of the log
    uses_counts: ClassVar[bool] = False  # ids or buckets are fitted to value counts
    has_vocabulary: ClassVar[bool] = False  # each id from first_known_id on stands for one value
    is_value: ClassVar[bool] = False  # enters the model as a number
    is_list: ClassVar[bool] = False  # several values per impression
    is_bucketed: ClassVar[bool] = False  # few ordered ids, all displayed
    can_be_crossed: ClassVar[bool] = False
    is_text: ClassVar[bool] = False  # raw values are text
    rejection: ClassVar[str] = "good"  # reason for rejecting rows whose text is not a value of this kind

    def group_errors(self, names: tuple[str, ...]) -> list[str]:
        """Validate the names of fields in a data YAML."""
        return []

    def parse(self, strings: pa.Array, field: FieldSettings) -> tuple[pa.Array, np.ndarray | None]:
        """(n,) strings -> (n,) typed values, null if missing, and (n,) bool validity (None: all)."""
        raise NotImplementedError

    def countable_values(self, column: pa.ChunkedArray, field: FieldSettings) -> tuple[pa.Array, int]:
        """Values of a typed column to count, and the number of rows whose values were truncated."""
        return column, 0

    def count_texts(self, distinct: pa.Array, counts: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        """(m,) distinct values and their counts -> the texts that are counted, and their counts."""
        return distinct.cast(pa.string()), counts

    def encoder(self, field: FieldSettings, fitted: FittedField) -> FieldEncoder:
        """Create the function that turns typed columns into ids or numbers."""
        raise NotImplementedError

    def num_ids(self, field: FieldSettings, num_known: int, boundaries: tuple[float, ...]) -> int:
        """Number of ids, with those that are missing and unknown."""
        return field.first_known_id + num_known

    def digest_settings(self, field: FieldSettings, fitted: FittedField) -> list:
        """Everything except known values that determines an id or number, for the fingerprint."""
        return []

    def expected(self, field: FieldSettings) -> str:
        """Values that `parse` accepts, for error messages."""
        return "values"

    def example(self, field: FieldSettings, fitted: FittedField) -> tuple[list, object]:
        """Up to two raw values with known ids, and one unusual raw value."""
        raise NotImplementedError

    def column_type(self, field: FieldSettings, known: pa.Array) -> ColumnType:
        """Type of the column in the MLflow signature."""
        return "any"

    def value_name(self, field: FieldSettings, position: int, fitted: FittedField) -> str:
        """Display name of the id at `position` after first_known_id."""
        return fitted.values[position].as_py()

    def value_order(self, position: int, fitted: FittedField) -> int:
        """Sort key of the id at `position` among the buckets of a field."""
        return position


def take_distinct(
    column: pa.ChunkedArray, ids_of: Callable[[pa.Array], np.ndarray], missing: int
) -> np.ndarray:
    """Compute ids once per distinct value of a column: (B,) int32, `missing` for null."""
    encoded = dictionary_encode(column)
    # The last entry is for missing values.
    ids = np.append(ids_of(encoded.dictionary), np.int32(missing))
    return ids[np.asarray(encoded.indices.fill_null(len(ids) - 1))]


def empty_to_null(strings: pa.Array) -> pa.Array:
    """Replace empty strings by null."""
    return pc.if_else(pc.equal(strings, ""), pa.scalar(None, pa.string()), strings)


def tokens_to_null(strings: pa.Array, tokens: Sequence[str]) -> pa.Array:
    """Replace the texts that mean missing by null."""
    if not tokens:
        return strings
    are_tokens = pc.is_in(strings, pa.array(tokens, pa.string()))
    return pc.if_else(are_tokens, pa.scalar(None, pa.string()), strings)


def encode_dictionary(strings: pa.Array) -> pa.DictionaryArray:
    """Dictionary-encode strings; empty ones become null."""
    encoded = strings.dictionary_encode()
    empty = pc.index(encoded.dictionary, "").as_py()
    if empty < 0:
        return encoded
    null = pa.scalar(None, pa.int32())
    indices = pc.if_else(pc.equal(encoded.indices, empty), null, encoded.indices)
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary)
