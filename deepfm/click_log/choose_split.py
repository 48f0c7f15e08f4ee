"""The split a log calls for: by the days it is given, by a share of its time, or by a hash."""

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
from deepfm.click_log.split import HashSplit, Split, TimeSplit, day_split
from deepfm.errors import UserError
from deepfm.fields import FieldSet
from deepfm.settings.data import DataSettings, Shares

_HOUR_S = 3600


def choose_split(
    spark: SparkSession, log: ClickLog, settings: DataSettings, day_ranges: tuple[str | None, ...]
) -> Split:
    """By days where the log has any; with time_split by the time that leaves it those shares; else by hash.

    `day_ranges`: what the flags of that name say. UserError where they do not fit the log.
    """
    if settings.time_split:
        if log.day_folders is not None or any(day_ranges):
            raise UserError(
                f"{log.url} has days, but time_split is for logs without: remove it, "
                "or leave out the days and name the folder or file below ds="
            )
        return fit_time_split(raw_rows(spark, log), log.row_format, settings.time_split, log.url)
    if log.has_days and not all(day_ranges):
        raise UserError(f"{log.url} has days: give --train-days, --valid-days and --test-days")
    if not log.has_days and any(day_ranges):
        raise UserError(f"{log.url} has no days: leave out --train-days, --valid-days and --test-days")
    if log.has_days:
        return day_split(*day_ranges)
    return HashSplit(settings.hash_split.valid, settings.hash_split.test)


def fit_time_split(raw: RawRows, row_format: RowFormat, shares: Shares, log_url: str) -> TimeSplit:
    """The seconds at which the latest `valid` + `test` and the latest `test` of the rows begin.

    Exact to the second: rows of one second fall together. Rows that are set aside for their fields count.
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
            f"{log_url}: expected rows at different times, but those of {shares.valid:.0%} for validation "
            "share a second with others; give time_split larger shares or leave it out"
        )
    return split


def _rows_by_second(raw: RawRows, row_format: RowFormat) -> DataFrame:
    """(second, num) of the rows that say a time and a label."""
    times_alone = replace(row_format, fields=FieldSet(()), keep=())

    def count_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for table in tables:
            seconds, nums = np.unique(np.asarray(parse_rows(table, times_alone).seconds), return_counts=True)
            yield pa.RecordBatch.from_arrays([pa.array(seconds), pa.array(nums)], names=["second", "num"])

    partial = raw.map(count_partition, "second long, num long")
    return partial.groupBy("second").agg(F.sum("num").alias("num"))


def _second_after(counts: DataFrame, by_hour: dict[int, int], num_before: int) -> int:
    """The second before which at least `num_before` rows lie, the earliest such."""
    num, reached = 0, max(by_hour, default=0)
    for hour in sorted(by_hour):
        if num + by_hour[hour] >= num_before:
            reached = hour
            break
        num += by_hour[hour]
    of_hour = counts.filter(_hour() == reached).orderBy("second").collect()
    for row in of_hour:
        num += row.num
        if num >= num_before:
            return row.second + 1
    return (reached + 1) * _HOUR_S


def _hour() -> Column:
    return F.floor(F.col("second") / _HOUR_S)
