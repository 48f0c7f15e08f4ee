"""Parser of raw rows: Arrow batches -> typed columns; malformed rows are rejected with a reason.

Used for building datasets and for scoring; independent of Spark.
"""

import json
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.labels_and_days import are_days, parse_days, parse_labels
from deepfm.click_log.log_files import partition_values
from deepfm.click_log.row_format import BAD_DAY, BAD_LABEL, BAD_TIME, REASONS, RowFormat
from deepfm.click_log.row_weights import parse_weight_columns, row_weights
from deepfm.click_log.text.columns import Columns, decoded_columns, split_rows
from deepfm.kinds.kind import empty_to_null, tokens_to_null
from deepfm.kinds.time import local_days, parse_times


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
    files: pa.ChunkedArray  # (rows,) string
    kept: pa.Table  # the columns of `keep`, strings or with the types of a columnar log
    bad: pa.Table  # source_file, text, reason
    bad_labels: pa.Array  # (bad rows,) int8, null if the row has no valid label
    bad_days: pa.Array | pa.ChunkedArray  # (bad rows,) string, null if the row has no valid day
    #: {index of a raw field: rows whose value is not of its kind and was taken as missing}
    num_unparsed: dict[int, int] = field(default_factory=dict)
    weights: np.ndarray | None = None  # (rows,) float64; None: every row counts once
    # (rows,) bool: whether the row before is of the same row of an aggregated log; None: not aggregated
    is_second: np.ndarray | None = None

    @property
    def num_good(self) -> int:
        return self.raw.num_rows

    @property
    def num_read(self) -> int:
        """Number of rows of the log, before any filter."""
        num_second = 0 if self.is_second is None else int(self.is_second.sum())
        return self.num_good - num_second + self.bad.num_rows

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
            files=self.files.filter(mask),
            kept=self.kept.filter(mask) if self.kept.num_columns else self.kept,
            weights=None if self.weights is None else self.weights[selected],
            is_second=None if self.is_second is None else self.is_second[selected],
        )


@dataclass
class _TypedRows:
    """Columns of the well-formed rows, and (rows,) the first reason code of each: 0 is good."""

    columns: dict[str, pa.Array]
    faults: np.ndarray
    num_unparsed: dict[int, int]


def parse_rows(batch: pa.Table, row_format: RowFormat) -> ParsedRows:
    """Raw rows (see raw_rows.RawRows) -> typed good rows, and bad rows with a reason."""
    if row_format.is_text:
        batch, strings, reasons = split_rows(batch, row_format)
    else:
        strings, reasons = decoded_columns(batch.select(list(row_format.columns)))
    well_formed = np.flatnonzero(reasons == 0)
    files = batch.column("source_file")
    strings |= _partition_columns(_take(files, well_formed), row_format)
    typed_names = [name for name in batch.column_names if name.startswith("keep:")]
    strings |= {name: _take(batch.column(name), well_formed) for name in typed_names}
    rows = _typed_columns(strings, _take(batch.column("ds"), well_formed), row_format)
    reasons[well_formed] = rows.faults
    good = np.flatnonzero(rows.faults == 0)
    all_good = len(good) == batch.num_rows
    bad_days = _of_bad_rows(rows.columns["day"], well_formed, reasons)
    bad_labels = rows.columns.get("label:parsed", pa.nulls(len(well_formed), pa.int8()))
    typed = rows.columns
    if not all_good:
        typed = {name: column.take(good) for name, column in typed.items()}
    row_hashes = batch.column("row_hash").to_numpy()[reasons == 0]
    files = files if all_good else files.filter(pa.array(reasons == 0))
    labels = typed["label"].to_numpy() if "label" in typed else None
    weighted = row_weights(typed)
    if weighted is not None and weighted.rows is not None:
        typed = {name: column.take(pa.array(weighted.rows)) for name, column in typed.items()}
        row_hashes, labels = row_hashes[weighted.rows], weighted.labels
        files = files.take(pa.array(weighted.rows))
    return ParsedRows(
        raw=pa.table({name: typed[f"field:{name}"] for name in row_format.fields.raw.names}),
        labels=labels,
        days=typed["day"],
        seconds=typed.get("seconds"),
        row_hashes=row_hashes,
        files=files,
        kept=pa.table({name: typed[f"keep:{name}"] for name in row_format.keep}),
        bad=_bad_rows(batch, reasons, row_format, all_good),
        bad_labels=_of_bad_rows(bad_labels, well_formed, reasons),
        # A row rejected for its label may have an invalid day as well.
        bad_days=pc.if_else(pa.array(are_days(bad_days)), bad_days, pa.scalar(None, pa.string())),
        num_unparsed=rows.num_unparsed,
        weights=None if weighted is None else weighted.weights,
        is_second=None if weighted is None else weighted.is_second,
    )


def _take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    return column if len(rows) == len(column) else column.take(rows)


def _partition_columns(files: pa.ChunkedArray, row_format: RowFormat) -> Columns:
    """Columns that are folders KEY=VALUE of the files."""
    if not row_format.partitions:
        return {}
    encoded = files.combine_chunks().dictionary_encode()
    values = [partition_values(file) for file in encoded.dictionary.to_pylist()]
    return {
        name: pa.array([one.get(name) for one in values], pa.string()).take(encoded.indices)
        for name in sorted(row_format.columns_to_read & set(row_format.partitions))
    }


def _typed_columns(strings: Columns, folder_days: pa.ChunkedArray, row_format: RowFormat) -> _TypedRows:
    """String columns -> label, day, field and kept columns."""
    faults = np.zeros(len(folder_days), np.int8)
    typed = {
        f"keep:{name}": strings[name if f"keep:{name}" not in strings else f"keep:{name}"]
        for name in row_format.keep
    }
    if row_format.label is not None:
        labels = _labels(strings[row_format.label], row_format)
        faults[np.asarray(labels.is_null())] = BAD_LABEL
        typed["label:parsed"], typed["label"] = labels, pc.fill_null(labels, 0)
    if row_format.is_weighted:
        columns, weight_faults = parse_weight_columns(strings, row_format)
        typed |= columns
        np.copyto(faults, weight_faults, where=faults == 0)
    fields, num_unparsed = _parse_fields(strings, row_format, faults)
    typed |= fields
    typed["day"] = folder_days
    if row_format.day_column is not None:
        days = tokens_to_null(strings[row_format.day_column], row_format.null_values)
        typed["day"] = parse_days(days, row_format.day_format, row_format.time_zone)
        faults[np.asarray(typed["day"].is_null()) & (faults == 0)] = BAD_DAY
    elif row_format.time_column is not None:
        assert row_format.time_format is not None
        times = tokens_to_null(strings[row_format.time_column], row_format.null_values)
        seconds, _ = parse_times(empty_to_null(times), row_format.time_format, row_format.time_zone)
        typed["day"], typed["seconds"] = (local_days(seconds, row_format.time_zone), seconds)
        faults[np.asarray(seconds.is_null()) & (faults == 0)] = BAD_TIME
    return _TypedRows(typed, faults, num_unparsed)


def _labels(strings: pa.Array, row_format: RowFormat) -> pa.Array:
    if row_format.missing_is_negative:
        strings = tokens_to_null(strings, row_format.null_values)
    return parse_labels(
        strings, row_format.positive, row_format.negative, missing_is_negative=row_format.missing_is_negative
    )


def _parse_fields(
    strings: Columns, row_format: RowFormat, faults: np.ndarray
) -> tuple[Columns, dict[int, int]]:
    """Parse the raw fields; mark rows with invalid values in `faults`, or count them by field."""
    # By kind, column and separator: several time fields derive from one column.
    parsed: dict[tuple[str, str, str], tuple[pa.Array, np.ndarray | None]] = {}
    typed, num_unparsed = {}, {}
    for index, one in enumerate(row_format.fields.raw):
        key = one.kind, one.column, one.separator
        if key not in parsed:
            texts = tokens_to_null(strings[one.column], row_format.null_values)
            parsed[key] = one.behaviour.parse(texts, one)
        typed[f"field:{one.name}"], is_valid = parsed[key]
        if is_valid is None or is_valid.all():
            continue
        if row_format.bad_is_missing:
            num_unparsed[index] = int((~is_valid).sum())
        else:
            faults[~is_valid & (faults == 0)] = REASONS.index(one.behaviour.rejection)
    return typed, num_unparsed


def _bad_rows(batch: pa.Table, reasons: np.ndarray, row_format: RowFormat, all_good: bool) -> pa.Table:
    rows = batch.take(np.flatnonzero(reasons)) if not all_good else batch.slice(0, 0)
    if not row_format.is_text:
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


def _of_bad_rows(
    column: pa.ChunkedArray | pa.Array, well_formed: np.ndarray, reasons: np.ndarray
) -> pa.Array | pa.ChunkedArray:
    """Values of the well-formed rows, their row indices, and (rows,) reasons -> values of the bad rows."""
    index = np.full(len(reasons), -1)
    index[well_formed] = np.arange(len(well_formed))
    index = index[reasons != 0]
    return column.take(pa.array(index, mask=index < 0))


def _readable(values: pa.ChunkedArray) -> list[str | None]:
    return [
        None if value is None else value.decode(errors="backslashreplace") for value in values.to_pylist()
    ]
