"""A kept column of a Parquet log is read unchanged, or refused before rows are read."""

import zoneinfo
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.click_log.columnar.columns import ColumnarColumns, ColumnarRange, read_columns
from deepfm.click_log.columnar.files import read_footers
from deepfm.click_log.columnar.kept_columns import kept_types
from deepfm.click_log.columnar.published_types import published_type, to_published
from deepfm.errors import UserError

_TIMES = st.datetimes(datetime(1700, 1, 1), datetime(2260, 1, 1))
_SECONDS = _TIMES.map(lambda time: time.replace(microsecond=0))
_MILLISECONDS = _TIMES.map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000))
_INSTANTS = _TIMES.map(lambda time: time.replace(tzinfo=timezone.utc))
_TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=5)


def _integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


#: Values of each type that is published.
VALUES = {
    pa.bool_(): st.booleans(),
    **{kind: _integers(kind.bit_width) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{
        kind: _integers(kind.bit_width, signed=False)
        for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.decimal128(38, 0): st.decimals(-(10**37), 10**37, places=0),
    pa.decimal128(7, 7): st.decimals("-0.9999999", "0.9999999", places=7),
    pa.string(): _TEXTS,
    pa.large_string(): _TEXTS,
    pa.binary(): st.binary(max_size=5),
    pa.large_binary(): st.binary(max_size=5),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(),
    pa.timestamp("s"): _SECONDS,
    pa.timestamp("ms"): _MILLISECONDS,
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "Europe/Berlin"): _INSTANTS,
    pa.timestamp("ns"): _TIMES,
    pa.timestamp("ns", "UTC"): _INSTANTS,
}
REFUSED = (
    pa.time32("s"), pa.time64("us"), pa.time64("ns"), pa.duration("us"), pa.decimal256(50, 2), pa.float16(),
    pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8()), pa.list_(pa.time64("us")),
    pa.dictionary(pa.int8(), pa.time32("s")), pa.month_day_nano_interval(),
)  # fmt: skip


@st.composite
def columns(draw) -> pa.Array:
    """Arrays of the types above, also as lists and dictionaries, and slices of them."""
    kind = draw(st.sampled_from(list(VALUES)))
    values = st.none() | VALUES[kind]
    form = draw(st.sampled_from(["plain", "list", "large_list", "fixed_size_list", "dictionary"]))
    if form == "list":
        kind, values = pa.list_(kind), st.none() | st.lists(values, max_size=3)
    elif form == "large_list":
        kind, values = pa.large_list(kind), st.none() | st.lists(values, max_size=3)
    elif form == "fixed_size_list":
        kind, values = pa.list_(kind, 2), st.none() | st.lists(values, min_size=2, max_size=2)
    array = pa.array(draw(st.lists(values, min_size=1, max_size=8)), kind, from_pandas=False)
    if form == "dictionary" and not pa.types.is_date64(kind):
        array = array.dictionary_encode()
    return array.slice(draw(st.integers(0, len(array))))


def plain(values: list) -> list:
    """Values of which equal ones have equal forms: NaN, -0.0, instants of any zone, integers of any type."""
    forms = []
    for value in values:
        if isinstance(value, list):
            forms.append(plain(value))
        elif isinstance(value, datetime):
            zone = value.tzinfo and zoneinfo.ZoneInfo("UTC")
            forms.append(str(value.astimezone(zone) if zone else value))
        elif isinstance(value, float):
            forms.append(repr(value))
        else:
            forms.append(value)
    return forms


@given(columns())
def test_a_published_value_equals_the_value_that_was_read(column):
    kind = published_type(column.type)
    published = to_published(column, kind)
    assert published.type == kind
    assert plain(published.to_pylist()) == plain(column.to_pylist())
    published.validate(full=True)


@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_other_types_are_refused(kind):
    assert published_type(kind) is None


@pytest.fixture
def write(tmp_path):
    """Write columns as files and return their footers."""

    def write_files(*tables: dict, **options):
        for index, table in enumerate(tables):
            pq.write_table(pa.table(table), tmp_path / f"{index}.parquet", **options)
        return read_footers([f"file://{tmp_path}/{index}.parquet" for index in range(len(tables))])

    return write_files


def read(file, types) -> pa.Table:
    (table,) = read_columns(ColumnarRange(file.url, None, (0,)), ColumnarColumns((), (), kept=types))
    return table


def test_integers_of_several_widths_get_the_widest(write):
    small, large, empty = {"a": pa.array([1, 2], pa.int8())}, {"a": pa.array([2**40, 1])}, {"b": [1, 2]}
    files = write(small, large, empty)
    types = kept_types(files, ["a"])
    assert types == {"a": pa.int64()}
    assert [read(file, types).column("keep:a").to_pylist() for file in files] == [
        [1, 2], [2**40, 1], [None, None],
    ]  # fmt: skip


@pytest.mark.parametrize("other", [pa.float64(), pa.string(), pa.decimal128(5, 2)], ids=str)
def test_types_without_a_common_one_are_refused(write, other):
    files = write({"a": pa.array([1])}, {"a": pa.nulls(1, other)})
    with pytest.raises(
        UserError, match="--keep a: expected one type in all files, found int64 in .*0.parquet"
    ):
        kept_types(files, ["a"])


def test_times_of_nanoseconds_are_kept_if_they_are_whole_microseconds(write):
    (file,) = write({"a": pa.array([5_000, None], pa.timestamp("ns"))})
    assert read(file, kept_types([file], ["a"])).column("keep:a").cast(pa.int64()).to_pylist() == [5, None]
    (file,) = write({"a": pa.array([5_001], pa.timestamp("ns"))})
    with pytest.raises(UserError, match="--keep a: expected times of whole microseconds, found nanoseconds"):
        kept_types([file], ["a"])


def test_timestamps_that_spark_writes_by_default_are_instants(write):
    values = pa.array([datetime(2026, 1, 1), None], pa.timestamp("us"))
    (file,) = write({"a": values}, use_deprecated_int96_timestamps=True)
    types = kept_types([file], ["a"])
    assert types == {"a": pa.timestamp("us", "UTC")}
    assert (
        read(file, types).column("keep:a").cast(pa.int64()).to_pylist() == values.cast(pa.int64()).to_pylist()
    )


def test_96_bit_times_that_arrow_cannot_read_are_refused(write):
    values = pa.array([datetime(2026, 1, 1), datetime(9999, 12, 31)], pa.timestamp("us"))
    (file,) = write({"a": values}, use_deprecated_int96_timestamps=True)
    with pytest.raises(
        UserError, match="--keep a: expected times of the years 1678 to 2261, found others in"
    ):
        kept_types([file], ["a"])
