"""Statistics of a click log in one pass: row and value counts, moments, rejected rows, parsed blocks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row, SparkSession

from deepfm.click_log.parse import ParsedRows, parse_rows
from deepfm.click_log.raw_rows import RawRows
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.split import SPLITS, Split
from deepfm.features.counting import ValueCounts, sum_counts
from deepfm.features.moments import FieldMoments
from deepfm.features.parsed_blocks import to_parsed_block
from deepfm.features.row_counts import RowCounts, count_rows, sum_row_counts
from deepfm.features.sampling import part_codes
from deepfm.kinds.scaling import Moments
from deepfm.spark.index_frame import scratch_rows
from deepfm.spark.scratch import read_table, write_table

#: Number of buffered value counts after which a task writes them out, to bound a worker's memory.
MAX_BUFFERED_VALUES = 2_000_000

_SCHEMA = (
    "kind string, split string, day string, field int, reason string, num long, num_clicks long, "
    "mean double, m2 double, file string, num_second long, weight double, click_weight double"
)
_ARROW_SCHEMA = pa.schema(
    [
        # rows, bad, value, cut, unparsed, moments or block: which columns are filled
        ("kind", pa.string()),
        ("split", pa.string()),  # rows: train, valid, test, sampled_out or outside
        ("day", pa.string()),  # rows
        ("field", pa.int32()),  # cut, unparsed, moments: index of the field
        ("reason", pa.string()),  # bad
        # Impressions; value: counts; moments: non-missing; cut: truncated lists; unparsed: invalid values.
        ("num", pa.int64()),
        ("num_clicks", pa.int64()),  # rows; bad: rows whose label is a click
        ("mean", pa.float64()),  # moments: see scaling.Moments
        ("m2", pa.float64()),  # moments
        ("file", pa.string()),  # bad, value, block: the table in the scratch folder
        ("num_second", pa.int64()),  # rows: see row_counts.count_rows, also the next two
        ("weight", pa.float64()),
        ("click_weight", pa.float64()),
    ]
)
_REJECTED = "source_file string, text string, reason string"


@dataclass(frozen=True)
class LogStatistics:
    """Result of the pass; tables are given by their names in the scratch folder."""

    scratch_url: str
    counts: RowCounts
    moments: dict[int, Moments]  # by field, of the training rows
    num_truncated: dict[int, int]  # by index of a list field: training rows with more than max_values
    num_unparsed: dict[int, int]  # by index of a raw field: values that were taken as missing
    blocks: tuple[str, ...]  # rows of all splits, see parsed_blocks.to_parsed_block
    count_tables: dict[str, int]  # tables of (field, value, num) of training rows, and their lengths
    bad_tables: tuple[str, ...]  # tables of (source_file, text, reason)


def collect_statistics(
    raw: RawRows, row_format: RowFormat, split: Split, scratch_url: str, keep_negatives=1.0
) -> LogStatistics:
    """Read the rows once and store their content in `scratch_url`, which workers and driver can reach."""
    rows = map_statistics(raw, row_format, split, scratch_url, keep_negatives).collect()
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    return LogStatistics(
        scratch_url,
        _row_counts(by_kind.get("rows", []), by_kind.get("bad", [])),
        _moments(by_kind.get("moments", [])),
        _sums_by_field(by_kind.get("cut", [])),
        _sums_by_field(by_kind.get("unparsed", [])),
        tuple(row.file for row in by_kind.get("block", [])),
        {row.file: row.num for row in by_kind.get("value", [])},
        tuple(dict.fromkeys(row.file for row in by_kind.get("bad", []))),
    )


def map_statistics(
    raw: RawRows, row_format: RowFormat, split: Split, scratch_url: str, keep_negatives: float = 1.0
) -> DataFrame:
    """Map raw rows to a few rows per task (see _ARROW_SCHEMA), which name tables in the scratch folder."""

    def partition_statistics(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        values, moments = ValueCounts(row_format.fields), FieldMoments(row_format.fields)
        for table in tables:
            parsed = parse_rows(table, row_format)
            codes = part_codes(parsed, split, keep_negatives)
            yield from _count_rows(parsed, codes)
            yield from _bad_rows(parsed, scratch_url)
            yield from _counts_by_field("unparsed", parsed.num_unparsed)
            yield from _block_rows(parsed, codes, scratch_url)
            is_training = codes == SPLITS.index("train")
            training = parsed.raw.filter(pa.array(is_training))
            impressions = None
            if row_format.impressions is not None and parsed.weights is not None:
                impressions = parsed.weights[is_training]
            values.update(training, impressions)
            moments.update(training, impressions)
            if values.num_buffered > MAX_BUFFERED_VALUES:
                values.compact()
                if values.num_buffered > MAX_BUFFERED_VALUES / 2:
                    yield from _value_rows(values, scratch_url)
        yield from _value_rows(values, scratch_url)
        yield from _counts_by_field("cut", values.num_truncated)
        yield from _moment_rows(moments)

    return raw.map(partition_statistics, _SCHEMA)


def value_counts(stats: LogStatistics) -> pa.Table:
    """(field, value, num) of all training rows, one row per value, summed on the driver."""
    return sum_counts(read_table(stats.scratch_url, name) for name in stats.count_tables)


def num_values_by_field(values: pa.Table) -> dict[int, int]:
    """(field, value, num), a row per value -> {field: number of distinct values}."""
    counted = pc.value_counts(values.column("field"))
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def rejected_rows(spark: SparkSession, stats: LogStatistics) -> DataFrame:
    """source_file, text and reason of every rejected row."""
    return scratch_rows(spark, stats.scratch_url, list(stats.bad_tables), _REJECTED)


def _sums_by_field(rows: list[Row]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for row in rows:
        sums[row.field] = sums.get(row.field, 0) + row.num
    return sums


def _row_counts(rows: list[Row], bad: list[Row]) -> RowCounts:
    by_reason: dict[str, int] = {}
    bad_clicks: dict[str, int] = {}
    for row in sorted(bad, key=lambda row: row.reason):
        by_reason[row.reason] = by_reason.get(row.reason, 0) + row.num
        bad_clicks[row.reason] = bad_clicks.get(row.reason, 0) + row.num_clicks
    return sum_row_counts(rows, by_reason, bad_clicks)


def _moments(rows: list[Row]) -> dict[int, Moments]:
    moments: dict[int, Moments] = {}
    # Sorted, so that the order in which partitions finish does not change the sums.
    for field, *part in sorted((row.field, row.num, row.mean, row.m2) for row in rows):
        moments[field] = moments.get(field, Moments()).merge(Moments(*part))
    return moments


def _count_rows(parsed: ParsedRows, codes: np.ndarray) -> Iterator[pa.RecordBatch]:
    counts = count_rows(parsed, codes)
    columns = {name: counts.column(name) for name in counts.column_names}
    yield from _to_batches(counts.num_rows, kind="rows", **columns)


def _bad_rows(parsed: ParsedRows, url: str) -> Iterator[pa.RecordBatch]:
    bad = parsed.bad
    if not bad.num_rows:
        return
    clicks = pc.fill_null(parsed.bad_labels, 0).cast(pa.int64())
    reasons = pa.table({"reason": bad.column("reason"), "click": clicks})
    grouped = reasons.group_by("reason").aggregate([("reason", "count"), ("click", "sum")])
    yield from _to_batches(
        grouped.num_rows,
        kind="bad",
        reason=grouped.column("reason"),
        num=grouped.column("reason_count"),
        num_clicks=grouped.column("click_sum"),
        file=pa.array([write_table(url, bad)] * grouped.num_rows),
    )


def _block_rows(parsed: ParsedRows, codes: np.ndarray, url: str) -> Iterator[pa.RecordBatch]:
    selected = (codes >= 0) & (codes < len(SPLITS))
    if selected.any():
        block = to_parsed_block(parsed if selected.all() else parsed.filter(selected), codes[selected])
        counts, files = pa.array([block.num_rows]), pa.array([write_table(url, block)])
        yield from _to_batches(1, kind="block", num=counts, file=files)


def _value_rows(values: ValueCounts, url: str) -> Iterator[pa.RecordBatch]:
    drained = values.drain()
    if drained:
        fields = [pa.array(np.full(table.num_rows, index, np.int32)) for index, table in drained]
        tables = [
            table.add_column(0, "field", column) for column, (_, table) in zip(fields, drained, strict=True)
        ]
        counts = pa.concat_tables(tables)
        yield from _to_batches(
            1, kind="value", num=pa.array([counts.num_rows]), file=pa.array([write_table(url, counts)])
        )


def _counts_by_field(kind: str, by_field: dict[int, int]) -> Iterator[pa.RecordBatch]:
    counts = {index: num for index, num in by_field.items() if num}
    yield from _to_batches(
        len(counts),
        kind=kind,
        field=pa.array(counts.keys(), pa.int32()),
        num=pa.array(counts.values(), pa.int64()),
    )


def _moment_rows(moments: FieldMoments) -> Iterator[pa.RecordBatch]:
    by_index = {index: moment for index, moment in moments.by_index.items() if moment.num}
    yield from _to_batches(
        len(by_index),
        kind="moments",
        field=pa.array(by_index.keys(), pa.int32()),
        num=pa.array([moment.num for moment in by_index.values()], pa.int64()),
        mean=pa.array([moment.mean for moment in by_index.values()], pa.float64()),
        m2=pa.array([moment.m2 for moment in by_index.values()], pa.float64()),
    )


def _to_batches(num_rows: int, *, kind: str, **columns) -> Iterator[pa.RecordBatch]:
    """Yield batches of _ARROW_SCHEMA with the given columns; the others are null."""
    columns["kind"] = pa.array([kind] * num_rows, pa.string())
    arrays = [columns.get(column.name, pa.nulls(num_rows, column.type)) for column in _ARROW_SCHEMA]
    yield from pa.table(arrays, schema=_ARROW_SCHEMA).to_batches()
