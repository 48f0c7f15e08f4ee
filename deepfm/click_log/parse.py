"""Parser of raw rows: Arrow batches -> typed columns; malformed rows are rejected with a reason.

Used for building datasets and for scoring; independent of Spark.
"""

import json
import re
from dataclasses import dataclass, replace
from datetime import date
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.line_columns import decoded_columns, split_lines
from deepfm.click_log.row_format import BAD_DAY, BAD_LABEL, BAD_TIME, REASONS, RowFormat
from deepfm.kinds.kind import empty_to_null, tokens_to_null
from deepfm.kinds.time import parse_times, utc_days


@dataclass
class ParsedRows:
    """Good rows as typed columns and bad rows as text; together all rows that were read."""

    # One column per raw field: int64 (count; time: seconds), string (category), strings (list), float64
    # (value, quantile); null: missing. Counts and categories are dictionary-encoded, so that work per
    # distinct value is done once.
    raw: pa.Table
    labels: np.ndarray | None  # (rows,) int8
    days: pa.ChunkedArray | pa.Array  # (rows,) string, null if the log has no days
    seconds: pa.Array | None  # (rows,) int64 since 1970; None if no time column is read
    row_hashes: np.ndarray  # (rows,) int64
    kept: pa.Table  # the columns of `keep`, strings or with the types of a Parquet log
    bad: pa.Table  # source_file, text, reason
    bad_days: pa.Array | pa.ChunkedArray  # (bad rows,) string, null if the row has no valid day

    @property
    def num_good(self) -> int:
        return self.raw.num_rows

    def filter(self, selected: np.ndarray) -> "ParsedRows":
        """Keep the good rows for which `selected`, (rows,) bool, is true; bad rows stay."""
        mask = pa.array(selected)
        return replace(
            self,
            raw=self.raw.filter(mask),
            labels=None if self.labels is None else self.labels[selected],
            days=self.days.filter(mask),
            seconds=None if self.seconds is None else self.seconds.filter(mask),
            row_hashes=self.row_hashes[selected],
            kept=self.kept.filter(mask) if self.kept.num_columns else self.kept,
        )


def parse_rows(batch: pa.Table, row_format: RowFormat) -> ParsedRows:
    """Raw rows (see raw_rows.RawRows) -> typed good rows, and bad rows with a reason."""
    if row_format.delimiter is None:
        strings, reasons = decoded_columns(batch.select(list(row_format.columns)))
    else:
        if row_format.header_line is not None:
            header = row_format.header_line.encode() + b"\n"
            batch = batch.filter(pc.not_equal(batch.column("line"), header))
        strings, reasons = split_lines(batch.column("line").combine_chunks(), row_format)
    well_formed = np.flatnonzero(reasons == 0)
    typed_names = [name for name in batch.column_names if name.startswith("keep:")]
    strings |= {name: batch.column(name).take(well_formed) for name in typed_names}
    typed, faults = _typed_columns(strings, batch.column("ds").take(well_formed), row_format)
    reasons[well_formed] = faults
    good = np.flatnonzero(faults == 0)
    all_good = len(good) == batch.num_rows
    bad_days = _bad_row_days(typed["day"], well_formed, reasons)
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
    """String columns -> label, day, field and kept columns, and the first reason code per row (0: good)."""
    num_rows = len(folder_days)
    faults = np.zeros(num_rows, np.int8)
    typed = {f"keep:{name}": strings.get(f"keep:{name}", strings.get(name)) for name in row_format.keep}
    if row_format.label is not None:
        labels = parse_labels(strings[row_format.label])
        faults[np.asarray(labels.is_null())] = BAD_LABEL
        typed["label"] = pc.fill_null(labels, 0)
    parsed: dict[tuple[str, str], tuple[pa.Array, np.ndarray | None]] = {}  # by kind and column
    for field in row_format.fields.raw:
        key = field.kind, field.column  # several time fields derive from one column
        if key not in parsed:
            texts = tokens_to_null(strings[field.column], row_format.null_values)
            parsed[key] = field.behaviour.parse(texts, field)
        typed[f"field:{field.name}"], is_valid = parsed[key]
        if is_valid is not None:
            faults[~is_valid & (faults == 0)] = REASONS.index(field.behaviour.rejection)
    typed["day"] = folder_days
    if row_format.day_column is not None:
        typed["day"] = strings[row_format.day_column]
        faults[~_are_dates(typed["day"]) & (faults == 0)] = BAD_DAY
    elif row_format.time_column is not None:
        assert row_format.time_format is not None
        times = tokens_to_null(strings[row_format.time_column], row_format.null_values)
        seconds, _ = parse_times(empty_to_null(times), row_format.time_format)
        typed["day"], typed["seconds"] = utc_days(seconds), seconds
        faults[np.asarray(seconds.is_null()) & (faults == 0)] = BAD_TIME
    return typed, faults


def parse_labels(strings: pa.Array) -> pa.Array:
    """(n,) strings -> (n,) int8: 0 or 1 for 0, 0.0, false, 1, 1.0 and true in any case; null for others."""
    labels = pc.index_in(strings, pa.array(["0", "1"])).cast(pa.int8())
    if not labels.null_count:
        return labels
    distinct = strings.dictionary_encode()
    meanings = [_label_of(text) for text in distinct.dictionary.to_pylist()]
    return pa.array(meanings, pa.int8()).take(distinct.indices)


def _label_of(text: str) -> int | None:
    if text.lower() in ("true", "false"):
        return int(text.lower() == "true")
    is_number = re.fullmatch(r"[01](\.0*)?", text)
    return int(text[0]) if is_number else None


def _are_dates(strings: pa.Array) -> np.ndarray:
    """(n,) strings -> (n,) bool: whether each is a calendar day as YYYY-MM-DD."""
    unique = pc.unique(strings)
    valid = pa.array([text for text in unique.to_pylist() if text is not None and is_day(text)], pa.string())
    return np.asarray(pc.is_in(strings, valid))


def is_day(text: str) -> bool:
    """Whether the text is a valid calendar day written as YYYY-MM-DD."""
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
        texts = [line.removesuffix("\n") for line in cast(list[str], _readable(rows.column("line")))]
    return pa.table(
        {
            "source_file": rows.column("source_file").cast(pa.string()),
            "text": pa.array(texts, pa.string()),
            "reason": pa.array([REASONS[code] for code in reasons[reasons != 0]], pa.string()),
        }
    )


def _bad_row_days(
    days: pa.ChunkedArray | pa.Array, well_formed: np.ndarray, reasons: np.ndarray
) -> pa.Array | pa.ChunkedArray:
    """Days of the well-formed rows, their row indices, and (rows,) reasons -> days of the bad rows."""
    index = np.full(len(reasons), -1)
    index[well_formed] = np.arange(len(well_formed))
    index = index[reasons != 0]
    bad_days = days.take(pa.array(index, mask=index < 0))
    # A row rejected for its label may have an invalid day as well.
    return pc.if_else(pa.array(_are_dates(bad_days)), bad_days, pa.scalar(None, pa.string()))


def _readable(values: pa.ChunkedArray) -> list[str | None]:
    return [
        None if value is None else value.decode(errors="backslashreplace") for value in values.to_pylist()
    ]
