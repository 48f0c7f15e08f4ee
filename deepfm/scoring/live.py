"""Metrics of a published day, computed when its labels have arrived."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import RawRows, raw_rows
from deepfm.click_log.row_format import RowFormat
from deepfm.errors import UserError
from deepfm.fields import FieldSet
from deepfm.metrics.binary import BinaryMetrics, Metrics
from deepfm.scoring.days import day_url
from deepfm.settings.data import DataSettings
from deepfm.value_text import to_texts

_MIN_PROBABILITY = 1e-12  # keeps logits finite
#: Columns of weighted labels: the weight, and whether the row is the second one of an aggregated row.
_WEIGHT_COLUMNS = ("weight", "is_second")


@dataclass(frozen=True)
class LiveMetrics:
    """Metrics of one day on its labels."""

    metrics: Metrics  # of the rows that have a label
    rows_without_label: int
    labels_without_score: int


def live_metrics(
    spark: SparkSession,
    scores_url: str,
    day: str,
    log_url: str,
    settings: DataSettings,
    key: tuple[str, ...],
) -> LiveMetrics:
    """Join a published day and its labelled log by `key`, columns that both have, and evaluate the day.

    Raise UserError if a key column is missing, a key occurs twice on one side, or no key matches.
    """
    scores = spark.read.parquet(day_url(scores_url, day))
    absent = [name for name in key if name not in scores.columns]
    if absent:
        raise UserError(
            f"--key {', '.join(absent)}: expected among the columns of {day_url(scores_url, day)}, found "
            f"{', '.join(scores.columns)}; score the day again with --keep {','.join(key)} --overwrite"
        )
    log = find_click_log(log_url, settings, days=[day], keep=key)
    labels = _labels(raw_rows(spark, log, [day]), log.row_format, day)
    scores = _with_text_keys(scores, key)
    # An aggregated row has its key in two rows.
    first_labels = labels.filter("not is_second") if log.row_format.is_weighted else labels
    for side, rows in (("scores", scores), ("labels", first_labels)):
        _require_unique(rows, [f"key:{name}" for name in key], side, day)
    # Null is a key like any other: one row without a key is still one row.
    same_key = [scores[f"`key:{name}`"].eqNullSafe(labels[f"`key:{name}`"]) for name in key]
    columns = ["label", *(_WEIGHT_COLUMNS if log.row_format.is_weighted else ())]
    joined = scores.join(labels, same_key, "full").select("probability", *columns)
    metrics, without_label, without_score = _evaluate_joined(joined, weighted=log.row_format.is_weighted)
    if not metrics.counts.sum():
        raise UserError(
            f"{day}: no published row has a label (with a weight above 0) in {log_url}; check --key and "
            "--input, or wait for the labels"
        )
    return LiveMetrics(metrics.compute(), without_label, without_score)


def _with_text_keys(scores: DataFrame, key: tuple[str, ...]) -> DataFrame:
    """Write keys as text, as the log's are read: one that nulls turned into a float is 12, not 12.0."""

    def write_texts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            *keys, probabilities = batch.columns
            names = [*(f"key:{name}" for name in key), "probability"]
            yield pa.RecordBatch.from_arrays([*map(to_texts, keys), probabilities], names=names)

    # PySpark selects by name, and reads a dot in a name as access to a nested field.
    columns = [F.col(f"`{name}`").alias(f"key_{index}") for index, name in enumerate(key)]
    schema = ", ".join(f"`key:{name}` string" for name in key)
    return scores.select(*columns, "probability").mapInArrow(write_texts, f"{schema}, probability double")


def _labels(raw: RawRows, row_format: RowFormat, day: str) -> DataFrame:
    """Keys (as text) and labels of the day's rows with a valid label; their fields are not parsed.

    In a weighted log also _WEIGHT_COLUMNS.
    """
    label_format = replace(row_format, fields=FieldSet(()))
    names = [f"key:{name}" for name in row_format.keep]

    def parse_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for raw_table in tables:
            parsed = parse_rows(raw_table, label_format)
            columns = [parsed.kept.column(name) for name in row_format.keep]
            table = pa.table([*columns, pa.array(parsed.labels, pa.int32())], names=[*names, "label"])
            if parsed.weights is not None:
                is_second = np.zeros(parsed.num_good, bool) if parsed.is_second is None else parsed.is_second
                for name, column in zip(_WEIGHT_COLUMNS, (parsed.weights, is_second), strict=True):
                    table = table.append_column(name, pa.array(column))
            if row_format.has_days:
                table = table.filter(pc.equal(parsed.days, day))
            yield from table.to_batches()

    types = [*(f"`{name}` string" for name in names), "label int"]
    types += ["weight double", "is_second boolean"] if row_format.is_weighted else []
    return raw.map(parse_partition, ", ".join(types))


def _require_unique(rows: DataFrame, names: list[str], side: str, day: str) -> None:
    duplicate = (
        rows.groupBy(*[F.col(f"`{name}`") for name in names]).count().filter(F.col("count") > 1).first()
    )
    if duplicate:
        key = ", ".join(f"{name.removeprefix('key:')} {duplicate[name]}" for name in names)
        raise UserError(
            f"{day}: expected each key once among the {side}, found {key} {duplicate['count']} times"
        )


def _evaluate_joined(joined: DataFrame, *, weighted: bool) -> tuple[BinaryMetrics, int, int]:
    """(probability, label, and _WEIGHT_COLUMNS if weighted) -> metrics, rows without label, without score."""

    def evaluate_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        metrics, without_label, without_score = BinaryMetrics(weighted=weighted), 0, 0
        for batch in batches:
            table = pa.Table.from_batches([batch])
            no_label, no_score = (table.column(name).is_null() for name in ("label", "probability"))
            without_label += pc.sum(no_label).as_py() or 0
            is_first = pc.invert(table.column("is_second")) if weighted else True
            without_score += pc.sum(pc.and_(no_score, is_first)).as_py() or 0
            _update(metrics, table.filter(pc.invert(pc.or_(no_label, no_score))))
        indices = metrics.counts.view(-1).nonzero()[:, 0]
        counts = metrics.counts.view(-1)[indices]
        yield _to_batch("bin", indices.numpy(), counts.numpy())
        yield _to_batch("sum", np.arange(len(metrics.sums)), metrics.sums.numpy())
        yield _to_batch("without", np.arange(2), np.array([without_label, without_score]))

    rows = joined.mapInArrow(evaluate_partition, "kind string, index long, amount double")
    totals: pd.DataFrame = rows.groupBy("kind", "index").agg(F.sum("amount").alias("amount")).toPandas()
    metrics = BinaryMetrics(weighted=weighted)
    bins, sums, without = (totals[totals["kind"] == kind] for kind in ("bin", "sum", "without"))
    indices = torch.from_numpy(bins["index"].to_numpy())
    amounts = torch.from_numpy(bins["amount"].to_numpy()).to(metrics.counts.dtype)
    metrics.counts.view(-1).index_add_(0, indices, amounts)
    sum_by_index = dict(zip(sums["index"], sums["amount"], strict=True))
    metrics.sums += torch.tensor(
        [sum_by_index.get(index, 0.0) for index in range(len(metrics.sums))], dtype=torch.float64
    )
    missing = dict(zip(without["index"], without["amount"], strict=True))
    return metrics, int(missing.get(0, 0)), int(missing.get(1, 0))


def _update(metrics: BinaryMetrics, table: pa.Table) -> None:
    """Add rows with a probability and a label."""
    p = np.clip(table.column("probability").to_numpy(), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    logits = torch.from_numpy(np.log(p) - np.log1p(-p))
    labels = torch.from_numpy(table.column("label").to_numpy().astype(np.float64))
    weights = torch.from_numpy(table.column("weight").to_numpy()) if metrics.is_weighted else None
    metrics.update(logits, labels, weights)


def _to_batch(kind: str, indices: np.ndarray, amounts: np.ndarray) -> pa.RecordBatch:
    columns = [
        pa.array([kind] * len(indices), pa.string()),
        pa.array(indices, pa.int64()),
        pa.array(amounts, pa.float64()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["kind", "index", "amount"])
