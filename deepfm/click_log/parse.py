"""Arrow batches of raw rows -> typed columns; a row that does not fit is set aside with a reason.

One implementation for building a dataset and for scoring a night; no Spark inside.
"""

import json
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.line_columns import decoded_columns, split_lines
from deepfm.click_log.lists import split_lists
from deepfm.click_log.numbers import parse_decimals, parse_integers
from deepfm.click_log.row_format import BAD_COUNT, BAD_DAY, BAD_LABEL, BAD_TIME, BAD_VALUE, REASONS, RowFormat
from deepfm.click_log.times import parse_times, utc_days


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
    bad_days: pa.Array | pa.ChunkedArray  # (bad rows,) string, null where a row says none that can be read

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
        strings, reasons = decoded_columns(batch.select(list(row_format.columns)))
    else:
        if row_format.header_line is not None:
            header = row_format.header_line.encode() + b"\n"
            batch = batch.filter(pc.not_equal(batch.column("line"), header))
        strings, reasons = split_lines(batch.column("line").combine_chunks(), row_format)
    well_formed = np.flatnonzero(reasons == 0)
    typed, faults = _typed_columns(strings, batch.column("ds").take(well_formed), row_format)
    reasons[well_formed] = faults
    good = np.flatnonzero(faults == 0)
    all_good = len(good) == batch.num_rows
    bad_days = _days_of_bad(typed["day"], well_formed, reasons)
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
        bad_days=bad_days,
    )


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


def _days_of_bad(
    days: pa.ChunkedArray | pa.Array, well_formed: np.ndarray, reasons: np.ndarray
) -> pa.Array | pa.ChunkedArray:
    """Days of the well-formed rows, their places in the batch, (rows,) reasons -> those of the bad rows."""
    place = np.full(len(reasons), -1)
    place[well_formed] = np.arange(len(well_formed))
    place = place[reasons != 0]
    found = days.take(pa.array(place, mask=place < 0))
    # One may be bad for its label, and have a day that is none all the same.
    return pc.if_else(pa.array(_are_dates(found)), found, pa.scalar(None, pa.string()))


def _readable(values: pa.ChunkedArray) -> list[str | None]:
    return [
        None if value is None else value.decode(errors="backslashreplace") for value in values.to_pylist()
    ]
