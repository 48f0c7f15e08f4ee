"""Label log of a published day: only its key columns and its label are read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm import storage
from deepfm.click_log.click_log import ClickLog, find_click_log
from deepfm.click_log.day_paths import find_day_paths
from deepfm.click_log.log_files import list_files
from deepfm.click_log.parse import ParsedRows, parse_rows
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.split import days_between
from deepfm.click_log.text.split_line import split_line
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.labels import LabelSettings


@dataclass(frozen=True)
class LabelOptions:
    """How the labels of a day are read and joined."""

    description: LabelSettings | None = None  # None: the format of the model's log
    max_delay: int = 0  # days; labels of a later day up to this many days count as well
    missing_is_negative: bool = False  # a scored row without a label row was not clicked

    def days(self, day: str) -> list[str]:
        """Days whose label rows may belong to impressions of `day`."""
        last = date.fromisoformat(day) + timedelta(days=self.max_delay)
        return days_between(day, last.isoformat())

    def settings(self, data: DataSettings) -> DataSettings:
        """Return the settings of the label log, without fields, from those of the model's log."""
        if self.description is not None:
            return self.description.merge_into(data)
        return data.model_copy(update={"fields": (), "cross": (), "split_files": None})


#: Sums of the weights of a key's rows with and without a click.
WEIGHTS = ("click_weight", "other_weight")
#: Labels in the format of the model's log, of the scored day alone.
DEFAULT_OPTIONS = LabelOptions()


def find_labels(
    url: str, data: DataSettings, key: tuple[str, ...], days: Sequence[str], options: LabelOptions
) -> ClickLog:
    """Inspect a label log. Raise UserError if it lacks a key column, the label or the folder of a day.

    Without a description the log may have all columns of the model's log or only some of them. A day or
    time column that it lacks is not expected: such a log is read whole.
    """
    settings = options.settings(data)
    if options.description is not None:
        is_labelled = options.description.label is not None
        return find_click_log(url, settings, days=days, labelled=is_labelled, keep=key)
    if settings.format == "delimited" and not settings.header and storage.exists(url):
        columns = _columns_without_header(url, settings, key, days)
        settings = settings.model_copy(update={"columns": columns})
    without_days = {"day_column": None, "time_column": None, "time_format": None}
    log = find_click_log(url, settings.model_copy(update=without_days), days=days, keep=key)
    names = log.column_types or log.row_format.columns
    if log.day_paths is not None:
        return log
    if settings.day_column in names:
        return find_click_log(url, settings, days=days, keep=key)
    if settings.time_column in names:
        return find_click_log(url, settings.model_copy(update={"day_column": None}), days=days, keep=key)
    return log


def _columns_without_header(
    url: str, settings: DataSettings, key: tuple[str, ...], days: Sequence[str]
) -> tuple[str, ...]:
    """Columns of a label log without header: all, or key, label and perhaps the day, in the order of all."""
    files = list_files(url, find_day_paths(url, settings.model_copy(update={"day_column": None})), days)
    if not files:
        return settings.columns
    lines = [line.decode(errors="replace").rstrip("\r") for line in storage.first_lines(files[0][0], 100)]
    widths = Counter(len(split_line(line, settings)) for line in lines)
    width = widths.most_common(1)[0][0]
    needed = {*key, settings.label}
    short = tuple(name for name in settings.columns if name in needed)
    dated = tuple(name for name in settings.columns if name in {*needed, settings.day_column})
    by_width = {len(columns): columns for columns in (settings.columns, dated, short)}
    if width not in by_width:
        raise UserError(
            f"{files[0][0]}: expected lines of {', '.join(short)}, or of all {len(settings.columns)} columns "
            f"of the model's log, found lines of {width}; describe the columns with --labels-data"
        )
    return by_width[width]


def read_labels(spark: SparkSession, log: ClickLog, days: Sequence[str]) -> DataFrame:
    """One row per key of the days: `key:NAME` as text, label, num_labels, num_rejected.

    The label is 1 if any label of the key is, and null if all its rows were rejected. The keys of rejected
    rows are not read: such rows have null keys. In a weighted log also click_weight and other_weight: sums of
    the weights of the key's rows with and without a click.
    """
    row_format = log.row_format
    names = [f"key:{name}" for name in row_format.keep]

    def parse_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for raw_table in tables:
            parsed = parse_rows(raw_table, row_format)
            table = _label_table(parsed, names)
            if row_format.has_days:
                table = table.filter(pc.is_in(parsed.days, pa.array(days, pa.string())))
            yield from table.to_batches()
            nulls = {column.name: pa.nulls(1, column.type) for column in table.schema}
            num_rejected = pa.array([_num_rejected(parsed, days, row_format.has_days)], pa.int64())
            yield pa.RecordBatch.from_pydict({**nulls, "num_rejected": num_rejected})

    keys = ", ".join(f"`{name}` string" for name in names)
    schema = f"{keys}, label int, num_labels long, num_rejected long"
    sums = ["num_labels", "num_rejected"]
    if row_format.is_weighted:
        schema += "".join(f", {name} double" for name in WEIGHTS)
        sums += list(WEIGHTS)
    rows = raw_rows(spark, log, days).map(parse_partition, schema)
    return rows.groupBy(*[F.col(f"`{name}`") for name in names]).agg(
        F.max("label").alias("label"), *[F.sum(name).alias(name) for name in sums]
    )


def _label_table(parsed: ParsedRows, names: Sequence[str]) -> pa.Table:
    """Keys, label and counts of each good row; no label column: each row is a click."""
    num_good = parsed.num_good if parsed.raw.num_columns else len(parsed.row_hashes)
    labels = np.ones(num_good, np.int8) if parsed.labels is None else parsed.labels
    # An aggregated row is two rows with one label of the log.
    is_second = np.zeros(num_good, bool) if parsed.is_second is None else parsed.is_second
    columns = dict(zip(names, parsed.kept.columns, strict=True))
    columns["label"] = pa.array(labels, pa.int32())
    columns["num_labels"] = pa.array((~is_second).astype(np.int64))
    columns["num_rejected"] = pa.array(np.zeros(num_good, np.int64))
    if parsed.weights is not None:
        for name, label in zip(WEIGHTS, (1, 0), strict=True):
            columns[name] = pa.array(np.where(labels == label, parsed.weights, 0.0))
    return pa.table(columns)


def _num_rejected(parsed: ParsedRows, days: Sequence[str], has_days: bool) -> int:
    """Rejected rows of the days; one whose day is unknown may be of them."""
    if not has_days:
        return parsed.bad.num_rows
    is_other = pc.and_(pc.is_valid(parsed.bad_days), pc.invert(pc.is_in(parsed.bad_days, pa.array(days))))
    return parsed.bad.num_rows - (pc.sum(is_other).as_py() or 0)
