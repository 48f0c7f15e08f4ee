"""One pass over a click log: counts its rows, values and moments, and sets aside what does not fit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from deepfm.features.blocks import write_block
from deepfm.features.counting import ValueCounts
from deepfm.features.parse import ParsedRows, RowFormat, parse_rows
from deepfm.features.rebatch import rebatched
from deepfm.features.sampling import SAMPLED_OUT, part_codes
from deepfm.features.scaling import FieldMoments, Moments
from deepfm.features.split import OUTSIDE, SPLITS, Split

#: Values counted before a partition hands its counts to Spark, which bounds the memory of a worker.
MAX_VALUES_HELD = 2_000_000

_SCHEMA = (
    "kind string, split string, day string, field int, value string, num long, num_clicks long, "
    "source_file string, text string, mean double, m2 double"
)
_ARROW_SCHEMA = pa.schema(
    [
        (
            "kind",
            pa.string(),
        ),  # rows, bad, value, cut, moments or block: which columns are filled
        ("split", pa.string()),  # rows: train, valid, test, sampled_out or outside
        ("day", pa.string()),  # rows
        ("field", pa.int32()),  # value, cut, moments: index of the field
        ("value", pa.string()),  # value: the value; bad: the reason; block: the name
        ("num", pa.int64()),  # impressions; moments: those with a value; cut: those with too many
        ("num_clicks", pa.int64()),  # rows
        ("source_file", pa.string()),  # bad
        ("text", pa.string()),  # bad
        ("mean", pa.float64()),  # moments: see scaling.Moments
        ("m2", pa.float64()),  # moments
    ]
)


@dataclass(frozen=True)
class RowCounts:
    """Rows of a log: {split: {day: (rows, clicks)}}, and {reason: rows} of those that were set aside."""

    by_day: dict[str, dict[str, tuple[int, int]]]
    bad_by_reason: dict[str, int]

    def num_rows(self, split: str) -> int:
        return sum(rows for rows, _ in self.by_day.get(split, {}).values())

    @property
    def num_bad(self) -> int:
        return sum(self.bad_by_reason.values())

    @property
    def num_read(self) -> int:
        return self.num_bad + sum(self.num_rows(split) for split in self.by_day)


def survey(
    raw: DataFrame,
    row_format: RowFormat,
    split: Split,
    keep_negatives: float = 1.0,
    blocks_url: str | None = None,
) -> DataFrame:
    """raw rows -> a row a (split, day), a rejected row, a training value with a partial count, and a field
    that enters by value with partial moments of its training values.

    With `blocks_url`, a folder, the rows of all parts are also kept there, parsed: a row names each block.
    """

    def survey_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        values, moments = ValueCounts(row_format.fields), FieldMoments(row_format.fields)
        for batch in rebatched(batches):
            parsed = parse_rows(batch, row_format)
            codes = part_codes(parsed, split, keep_negatives)
            yield from _counted_rows(parsed, codes)
            yield from _bad_rows(parsed.bad)
            if blocks_url is not None:
                yield from _block_rows(parsed, codes, blocks_url)
            training = parsed.raw.filter(pa.array(codes == SPLITS.index("train")))
            values.add(training)
            moments.add(training)
            if values.num_held > MAX_VALUES_HELD:
                values.compact()
                if values.num_held > MAX_VALUES_HELD / 2:
                    yield from _value_rows(values)
        yield from _value_rows(values)
        yield from _cut_rows(values)
        yield from _moment_rows(moments)

    return raw.mapInArrow(survey_partition, _SCHEMA)


def row_counts(surveyed: DataFrame) -> RowCounts:
    """What the survey found, brought to the driver: as many rows as there are days and reasons."""
    days = surveyed.filter(F.col("kind") == "rows").groupBy("split", "day")
    by_day: dict[str, dict[str, tuple[int, int]]] = {split: {} for split in SPLITS}
    for row in days.agg(F.sum("num").alias("num"), F.sum("num_clicks").alias("clicks")).collect():
        by_day.setdefault(row.split, {})[row.day or ""] = (row.num, row.clicks)
    reasons = surveyed.filter(F.col("kind") == "bad").groupBy("value").count().collect()
    return RowCounts(
        {name: dict(sorted(days.items())) for name, days in by_day.items()},
        {row.value: row["count"] for row in sorted(reasons, key=lambda row: row.value)},
    )


def value_counts(surveyed: DataFrame) -> pa.Table:
    """(field, value, num) of all training rows, one row a value; brought to the driver."""
    partial = surveyed.filter(F.col("kind") == "value").groupBy("field", "value")
    counts = partial.agg(F.sum("num").alias("num")).toPandas()
    schema = pa.schema([("field", pa.int32()), ("value", pa.string()), ("num", pa.int64())])
    return pa.Table.from_pandas(counts, schema=schema, preserve_index=False)


def block_names(surveyed: DataFrame) -> list[str]:
    """The blocks that were written, in an order that does not matter."""
    return [row.value for row in surveyed.filter(F.col("kind") == "block").select("value").collect()]


def cut_lists(surveyed: DataFrame) -> dict[int, int]:
    """{field: training rows that have more values than max_values} of the fields where there are any."""
    cut = surveyed.filter(F.col("kind") == "cut").groupBy("field").agg(F.sum("num").alias("num"))
    return {row.field: row.num for row in cut.collect()}


def value_moments(surveyed: DataFrame) -> dict[int, Moments]:
    """{field: moments} of all training rows; brought to the driver, a row a partition and field."""
    partial = surveyed.filter(F.col("kind") == "moments").select("field", "num", "mean", "m2")
    moments: dict[int, Moments] = {}
    # Sorted, so that partitions that end in another order are still added in the same one.
    for field, *part in sorted(partial.collect()):
        moments[field] = moments.get(field, Moments()).merged(Moments(*part))
    return moments


def rejected_rows(surveyed: DataFrame) -> DataFrame:
    """source_file, text, reason of every row that was set aside."""
    bad = surveyed.filter(F.col("kind") == "bad")
    return bad.select("source_file", "text", F.col("value").alias("reason"))


def _counted_rows(parsed: ParsedRows, codes: np.ndarray) -> Iterator[pa.RecordBatch]:
    names = np.array([*SPLITS, "sampled_out", "outside"], dtype=object)
    assert (len(SPLITS), -1) == (SAMPLED_OUT, OUTSIDE), "codes are places of names"
    table = pa.table(
        {
            "split": pa.array(names[codes], pa.string()),
            "day": parsed.days,
            "clicks": pa.array(parsed.labels, pa.int64()),
        }
    )
    counted = table.group_by(["split", "day"]).aggregate([("clicks", "count"), ("clicks", "sum")])
    yield from _filled(
        counted.num_rows,
        kind="rows",
        split=counted.column("split"),
        day=counted.column("day"),
        num=counted.column("clicks_count"),
        num_clicks=counted.column("clicks_sum"),
    )


def _block_rows(parsed: ParsedRows, codes: np.ndarray, url: str) -> Iterator[pa.RecordBatch]:
    chosen = (codes >= 0) & (codes < len(SPLITS))
    if chosen.any():
        name = write_block(url, parsed if chosen.all() else parsed.filter(chosen), codes[chosen])
        yield from _filled(1, kind="block", value=pa.array([name]), num=pa.array([int(chosen.sum())]))


def _bad_rows(bad: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from _filled(
        bad.num_rows,
        kind="bad",
        value=bad.column("reason"),
        source_file=bad.column("source_file"),
        text=bad.column("text"),
    )


def _value_rows(values: ValueCounts) -> Iterator[pa.RecordBatch]:
    for index, table in values.drain():
        yield from _filled(
            table.num_rows,
            kind="value",
            field=pa.array(np.full(table.num_rows, index, np.int32)),
            value=table.column("value"),
            num=table.column("num"),
        )


def _cut_rows(values: ValueCounts) -> Iterator[pa.RecordBatch]:
    found = {index: num for index, num in values.num_cut.items() if num}
    yield from _filled(
        len(found),
        kind="cut",
        field=pa.array(found.keys(), pa.int32()),
        num=pa.array(found.values(), pa.int64()),
    )


def _moment_rows(moments: FieldMoments) -> Iterator[pa.RecordBatch]:
    found = {index: of_field for index, of_field in moments.by_index.items() if of_field.num}
    yield from _filled(
        len(found),
        kind="moments",
        field=pa.array(found.keys(), pa.int32()),
        num=pa.array([of_field.num for of_field in found.values()], pa.int64()),
        mean=pa.array([of_field.mean for of_field in found.values()], pa.float64()),
        m2=pa.array([of_field.m2 for of_field in found.values()], pa.float64()),
    )


def _filled(num_rows: int, *, kind: str, **columns) -> Iterator[pa.RecordBatch]:
    """Batches of the survey's schema with the given columns; the others are null."""
    columns["kind"] = pa.array([kind] * num_rows, pa.string())
    arrays = [columns.get(column.name, pa.nulls(num_rows, column.type)) for column in _ARROW_SCHEMA]
    yield from pa.table(arrays, schema=_ARROW_SCHEMA).to_batches()
