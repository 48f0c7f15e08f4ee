"""Choice of the train/valid/test split of a log: by day ranges, by shares of its time, or by row hash."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import RawRows, raw_rows
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.split import FileSplit, HashSplit, Split, TimeSplit, day_split
from deepfm.errors import UserError
from deepfm.fields import FieldSet
from deepfm.settings.data import DataSettings, Shares

_HOUR_S = 3600


def choose_split(
    spark: SparkSession, log: ClickLog, settings: DataSettings, day_ranges: tuple[str | None, ...]
) -> Split:
    """Split by days if the log has days, by time if `time_split` is set, else by row hash.

    `day_ranges`: values of --train-days, --valid-days and --test-days. Raise UserError if they do not fit
    the log.
    """
    if settings.time_split:
        if log.day_paths is not None or any(day_ranges):
            raise UserError(
                f"{log.url} has days, but time_split is for logs without days. Remove time_split, "
                "or omit the day ranges and pass the folder or file below ds= as --input"
            )
        return fit_time_split(raw_rows(spark, log), log.row_format, settings.time_split, log.url)
    if log.has_days and not all(day_ranges):
        raise UserError(f"{log.url} has days: give --train-days, --valid-days and --test-days")
    if not log.has_days and any(day_ranges):
        raise UserError(f"{log.url} has no days: remove --train-days, --valid-days and --test-days")
    if log.has_days:
        return day_split(*(days for days in day_ranges if days))
    return split_without_days(settings)


def split_without_days(settings: DataSettings) -> FileSplit | HashSplit:
    """Split by the names of files if `split_files` is set, else by row hash."""
    if settings.split_files:
        names = settings.split_files
        return FileSplit((names.train, names.valid, names.test))
    return HashSplit(settings.hash_split.valid, settings.hash_split.test)


def fit_time_split(raw: RawRows, row_format: RowFormat, shares: Shares, log_url: str) -> TimeSplit:
    """Compute the seconds at which the latest `valid` + `test` and the latest `test` share of rows start.

    Exact to the second: rows of the same second stay together. Rows rejected for one of their fields count.
    """
    counts = _rows_by_second(raw, row_format).persist()
    try:
        hours = counts.groupBy(F.floor(F.col("second") / _HOUR_S).alias("hour")).agg(
            F.sum("num").alias("num")
        )
        by_hour = {row.hour: row.num for row in hours.collect()}
        num_rows = sum(by_hour.values())
        if not num_rows:
            raise UserError(
                f"{log_url}: expected rows with a time and a label, found none; check time_column, "
                "time_format and label in the data YAML"
            )
        split = TimeSplit(
            _second_after(counts, by_hour, num_rows - round((shares.valid + shares.test) * num_rows)),
            _second_after(counts, by_hour, num_rows - round(shares.test * num_rows)),
        )
    finally:
        counts.unpersist()
    if split.valid_from == split.test_from:
        raise UserError(
            f"{log_url}: expected rows at different times, but the validation rows ({shares.valid:.0%}) "
            "share a second with other rows. Use larger shares in time_split, or remove it"
        )
    return split


def _rows_by_second(raw: RawRows, row_format: RowFormat) -> DataFrame:
    """(second, num) of the rows with a valid time and label."""
    time_only_format = replace(row_format, fields=FieldSet(()), keep=())

    def count_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for table in tables:
            parsed = parse_rows(table, time_only_format)
            seconds, counts = np.unique(np.asarray(parsed.seconds), return_counts=True)
            yield pa.RecordBatch.from_arrays([pa.array(seconds), pa.array(counts)], names=["second", "num"])

    partial = raw.map(count_partition, "second long, num long")
    return partial.groupBy("second").agg(F.sum("num").alias("num"))


def _second_after(counts: DataFrame, by_hour: dict[int, int], num_before: int) -> int:
    """Earliest second before which there are at least `num_before` rows."""
    num_rows, boundary_hour = 0, max(by_hour, default=0)
    for hour in sorted(by_hour):
        if num_rows + by_hour[hour] >= num_before:
            boundary_hour = hour
            break
        num_rows += by_hour[hour]
    seconds = counts.filter(_hour() == boundary_hour).orderBy("second").collect()
    for row in seconds:
        num_rows += row.num
        if num_rows >= num_before:
            return row.second + 1
    return (boundary_hour + 1) * _HOUR_S


def _hour() -> Column:
    return F.floor(F.col("second") / _HOUR_S)
