"""Arrow batches of raw rows -> typed columns; a row that does not fit is set aside with a reason.

One implementation for building a dataset and for scoring a night; no Spark inside.
"""

import csv
import json
from codecs import BOM_UTF8
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from deepfm.features.lists import split_lists
from deepfm.features.number_text import parse_decimals, parse_integers
from deepfm.features.times import parse_times, utc_days
from deepfm.fields import FieldSet, TimeFormat

#: Why a row was set aside; the index is its code, 0 says the row is good.
REASONS = (
    "good",
    "not_utf8",  # the text is not UTF-8
    "wrong_number_of_columns",
    "label_not_0_or_1",
    "count_not_an_integer",
    "day_not_a_date",  # the day column is not YYYY-MM-DD
    "value_not_a_number",  # no finite decimal number
    "time_not_a_time",  # not as time_format says; or missing where the day comes from it
)
NOT_UTF8, WRONG_WIDTH, BAD_LABEL, BAD_COUNT, BAD_DAY, BAD_VALUE, BAD_TIME = range(1, len(REASONS))


@dataclass(frozen=True)
class RowFormat:
    """How a row of one located log is read; plain values that travel to executors."""

    columns: tuple[str, ...]  # of the file, in order
    fields: FieldSet  # of the model; the crossed ones are no columns
    delimiter: str | None  # None: the rows come as columns already (Parquet)
    quote: str | None = None
    header_line: str | None = None  # a line like this one is the header of a file and no row
    label: str | None = None  # None: impressions to be scored come without
    day_column: str | None = None  # None: the day comes with the row's folder or time, or there is none
    time_column: str | None = None  # of which the day is made; None: it is not made of a time
    time_format: TimeFormat | None = None  # of the time column
    keep: tuple[str, ...] = ()  # columns passed through as text

    @property
    def has_days(self) -> bool:
        """Whether rows say their day themselves."""
        return self.day_column is not None or self.time_column is not None

    @property
    def wanted(self) -> set[str]:
        """The columns that are read."""
        named = {self.label, self.day_column, self.time_column} - {None}
        return {*self.fields.columns, *self.keep, *named}


@dataclass
class ParsedRows:
    """The good rows as typed columns, the bad ones with their text; together all rows that were read."""

    # A column a raw field: int64 (count; time: seconds), string (category), strings (list), float64 (value,
    # quantile); null: missing. Counts and categories are dictionary-encoded: what is done for each distinct
    # value is done once.
    raw: pa.Table
    labels: np.ndarray | None  # (rows,) int8
    days: pa.ChunkedArray | pa.Array  # (rows,) string, null where the log has no days
    seconds: pa.Array | None  # (rows,) int64 since 1970; None where no time column is read
    row_hashes: np.ndarray  # (rows,) int64
    kept: pa.Table  # the columns of `keep`, strings
    bad: pa.Table  # source_file, text, reason

    @property
    def num_good(self) -> int:
        return self.raw.num_rows

    def filter(self, chosen: np.ndarray) -> "ParsedRows":
        """The good rows for which (rows,) bool is true; the bad ones stay as they are."""
        mask = pa.array(chosen)
        return replace(
            self,
            raw=self.raw.filter(mask),
            labels=None if self.labels is None else self.labels[chosen],
            days=self.days.filter(mask),
            seconds=None if self.seconds is None else self.seconds.filter(mask),
            row_hashes=self.row_hashes[chosen],
            kept=self.kept.filter(mask) if self.kept.num_columns else self.kept,
        )


def parse_rows(batch: pa.Table, row_format: RowFormat) -> ParsedRows:
    """Raw rows (see raw_rows.RawRows) -> good rows typed, bad rows with a reason."""
    if row_format.delimiter is None:
        strings, reasons = _decoded_columns(batch.select(list(row_format.columns)))
    else:
        if row_format.header_line is not None:
            header = row_format.header_line.encode() + b"\n"
            batch = batch.filter(pc.not_equal(batch.column("line"), header))
        strings, reasons = _split_lines(batch.column("line").combine_chunks(), row_format)
    well_formed = np.flatnonzero(reasons == 0)
    typed, faults = _typed_columns(strings, batch.column("ds").take(well_formed), row_format)
    reasons[well_formed] = faults
    good = np.flatnonzero(faults == 0)
    all_good = len(good) == batch.num_rows
    if not all_good:
        typed = {name: column.take(good) for name, column in typed.items()}
    labels = typed.get("label")
    return ParsedRows(
        raw=pa.table({name: typed[f"field:{name}"] for name in row_format.fields.raw.names}),
        labels=None if labels is None else labels.to_numpy(),
        days=typed["day"],
        seconds=typed.get("seconds"),
        row_hashes=batch.column("row_hash").to_numpy()[reasons == 0],
        kept=pa.table({name: typed[f"keep:{name}"] for name in row_format.keep}),
        bad=_bad_rows(batch, reasons, row_format, all_good),
    )


def _split_lines(lines: pa.Array, row_format: RowFormat) -> tuple[dict[str, pa.Array], np.ndarray]:
    """(n,) lines with their newlines -> string columns of the well-formed rows, and (n,) reason codes."""
    reasons = np.zeros(len(lines), np.int8)
    columns = _split_quickly(lines, row_format)
    if columns is not None:
        return columns, reasons
    texts = _decoded(pa.array(_without_newlines(lines), pa.binary()), reasons)
    decoded = np.flatnonzero(reasons == 0)
    # A carriage return before the newline belongs to the line's end, not to its last column.
    if pc.any(pc.ends_with(texts, "\r")).as_py():
        texts = pc.ascii_rtrim(texts, "\r")
    if row_format.quote is None:
        parts = pc.split_pattern(texts, row_format.delimiter)
    else:
        parts = _split_quoted(texts, row_format)
    width = len(row_format.columns)
    fits = np.asarray(pc.equal(pc.list_value_length(parts), width))
    reasons[decoded[~fits]] = WRONG_WIDTH
    values = (parts if fits.all() else parts.filter(pa.array(fits))).flatten()
    starts = np.arange(0, len(values), width)
    # Of two hundred columns a model may use twenty: only those are cut out.
    positions = {name: row_format.columns.index(name) for name in row_format.wanted}
    return {name: values.take(pa.array(starts + at)) for name, at in positions.items()}, reasons


def _split_quickly(lines: pa.Array, row_format: RowFormat) -> dict[str, pa.Array] | None:
    """String columns by Arrow's own parser; None where a line is not well formed, or may not be.

    It gives up at the first such line, calls a carriage return the end of one, and takes neither quotes as
    ours nor a delimiter beyond ASCII: such batches go the slower way, which tells good lines from bad ones.
    """
    if row_format.quote is not None or not row_format.delimiter.isascii() or not len(lines):
        return None
    content = _content_of(lines)
    # What it would take for the end of a line, for a mark that is no part of the text, and for a row of
    # empty columns.
    if b"\r" in content or content.startswith(BOM_UTF8) or pc.min(pc.binary_length(lines)).as_py() <= 1:
        return None
    try:
        columns = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=len(content) + 1, column_names=list(row_format.columns)
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=row_format.delimiter, quote_char=False, ignore_empty_lines=False
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(row_format.columns, pa.string()),
                include_columns=sorted(row_format.wanted),
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowCapacityError):
        return None
    return {name: columns.column(name).combine_chunks() for name in columns.column_names}


def _content_of(lines: pa.Array) -> bytes:
    """The bytes of lines that lie one behind the other, as those of an array do."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]].tobytes()


def _without_newlines(lines: pa.Array) -> list[bytes]:
    return _content_of(lines).split(b"\n")[:-1] if len(lines) else []


def _decoded_columns(columns: pa.Table) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Text columns of a Parquet log -> those of the rows that are UTF-8, and (n,) reason codes."""
    reasons = np.zeros(columns.num_rows, np.int8)
    for column in columns.columns:
        # Spark vouches for no encoding: whatever bytes a file calls a string arrive here.
        _decoded(pc.fill_null(column.combine_chunks().cast(pa.binary()), b""), reasons)
    if reasons.any():
        columns = columns.filter(pa.array(reasons == 0))
    return {name: columns.column(name).combine_chunks() for name in columns.column_names}, reasons


def _decoded(lines: pa.Array, reasons: np.ndarray) -> pa.Array:
    """The lines that are UTF-8, as strings; marks the others in `reasons`."""
    try:
        return lines.cast(pa.string())
    except pa.ArrowInvalid:
        for row, line in enumerate(lines.to_pylist()):
            try:
                line.decode()
            except UnicodeDecodeError:
                reasons[row] = NOT_UTF8
        return lines.filter(pa.array(reasons == 0)).cast(pa.string())


def _split_quoted(texts: pa.Array, row_format: RowFormat) -> pa.Array:
    # Line by line: with a faulty quote a parser of whole blocks would swallow the lines that follow.
    split = [split_line(text, row_format.delimiter, row_format.quote) for text in texts.to_pylist()]
    return pa.array(split, pa.list_(pa.string()))


def split_line(text: str, delimiter: str, quote: str | None) -> list[str]:
    """The values of one line without its end; none where its quotes do not fit."""
    if quote is None:
        return text.split(delimiter)
    csv.field_size_limit(1 << 30)  # its default of 128 KiB is for files that were meant to be small
    try:
        return next(csv.reader([text], delimiter=delimiter, quotechar=quote, strict=True), [])
    except csv.Error:
        return []


def _typed_columns(strings: dict, folder_days, row_format: RowFormat) -> tuple[dict, np.ndarray]:
    """String columns -> label, day, field and kept columns, and the first reason of each row (0: good)."""
    num_rows = len(folder_days)
    faults = np.zeros(num_rows, np.int8)
    typed = {f"keep:{name}": strings[name] for name in row_format.keep}
    if row_format.label is not None:
        labels = pc.index_in(strings[row_format.label], pa.array(["0", "1"]))
        faults[np.asarray(labels.is_null())] = BAD_LABEL
        typed["label"] = pc.fill_null(labels, 0).cast(pa.int8())
    times: dict[str, tuple[pa.Array, np.ndarray]] = {}  # several fields are made of one time
    for field in row_format.fields.raw:
        strings_of_field = strings[field.column]
        if field.kind == "category":
            column = _distinct(strings_of_field)
        elif field.kind == "count":
            column, is_number = _distinct_counts(strings_of_field)
            faults[~is_number & (faults == 0)] = BAD_COUNT
        elif field.kind == "time":
            if field.column not in times:
                times[field.column] = parse_times(_none_where_empty(strings_of_field), field.time_format)
            column, is_time = times[field.column]
            faults[~is_time & (faults == 0)] = BAD_TIME
        elif field.kind == "list":
            column = split_lists(strings_of_field, field.separator)
        else:
            column, is_number = parse_decimals(_none_where_empty(strings_of_field))
            faults[~is_number & (faults == 0)] = BAD_VALUE
        typed[f"field:{field.name}"] = column
    typed["day"] = folder_days
    if row_format.day_column is not None:
        typed["day"] = strings[row_format.day_column]
        faults[~_are_dates(typed["day"]) & (faults == 0)] = BAD_DAY
    elif row_format.time_column is not None:
        seconds, _ = parse_times(_none_where_empty(strings[row_format.time_column]), row_format.time_format)
        typed["day"], typed["seconds"] = utc_days(seconds), seconds
        faults[np.asarray(seconds.is_null()) & (faults == 0)] = BAD_TIME
    return typed, faults


def _distinct(strings: pa.Array) -> pa.DictionaryArray:
    """The same strings dictionary-encoded, null where empty."""
    encoded = strings.dictionary_encode()
    empty = pc.index(encoded.dictionary, "").as_py()
    if empty < 0:
        return encoded
    indices = pc.if_else(pc.equal(encoded.indices, empty), pa.scalar(None, pa.int32()), encoded.indices)
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary)


def _distinct_counts(strings: pa.Array) -> tuple[pa.DictionaryArray, np.ndarray]:
    """(n,) strings -> (n,) int64, dictionary-encoded, and (n,) bool: False where the text is no integer.

    Two texts of one number are two entries of the dictionary.
    """
    encoded = _distinct(strings)
    numbers, are_numbers = parse_integers(_none_where_empty(encoded.dictionary))
    # The last entry is for missing ones.
    is_number = np.append(are_numbers, True)[np.asarray(encoded.indices.fill_null(len(are_numbers)))]
    return pa.DictionaryArray.from_arrays(encoded.indices, numbers), is_number


def _none_where_empty(strings: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(strings, ""), pa.scalar(None, pa.string()), strings)


def _are_dates(strings: pa.Array) -> np.ndarray:
    """(n,) strings -> (n,) bool: whether each is a calendar day as YYYY-MM-DD."""
    unique = pc.unique(strings)
    valid = pa.array([text for text in unique.to_pylist() if text is not None and is_day(text)], pa.string())
    return np.asarray(pc.is_in(strings, valid))


def is_day(text: str) -> bool:
    """Whether the text is a calendar day, written YYYY-MM-DD and in no other way."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _bad_rows(batch: pa.Table, reasons: np.ndarray, row_format: RowFormat, all_good: bool) -> pa.Table:
    rows = batch.take(np.flatnonzero(reasons)) if not all_good else batch.slice(0, 0)
    if row_format.delimiter is None:
        columns = {name: _readable(rows.column(name).cast(pa.binary())) for name in row_format.columns}
        texts = [
            json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
        ]
    else:
        texts = [line.removesuffix("\n") for line in _readable(rows.column("line"))]
    return pa.table(
        {
            "source_file": rows.column("source_file").cast(pa.string()),
            "text": pa.array(texts, pa.string()),
            "reason": pa.array([REASONS[code] for code in reasons[reasons != 0]], pa.string()),
        }
    )


def _readable(values: pa.ChunkedArray) -> list[str | None]:
    return [
        None if value is None else value.decode(errors="backslashreplace") for value in values.to_pylist()
    ]
