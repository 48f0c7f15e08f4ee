"""Metrics of a published day, computed when its labels have arrived."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm.errors import UserError
from deepfm.metrics.binary import BinaryMetrics, Metrics
from deepfm.scoring.days import day_url, published_url
from deepfm.scoring.input_day import require_day_of_labels
from deepfm.scoring.labels import DEFAULT_OPTIONS, WEIGHTS, LabelOptions, find_labels, read_labels
from deepfm.settings.data import DataSettings
from deepfm.spark.parts import read_parquet_parts
from deepfm.value_text import to_texts

_MIN_PROBABILITY = 1e-12  # keeps logits finite
#: Columns of the joined rows, and what is counted in them.
_JOINED = ("probability", "label", "num_labels", "num_rejected")
_COUNTS = ("with_label", "without_label", "without_score", "several_labels", "labels", "rejected")


@dataclass(frozen=True)
class LiveMetrics:
    """Metrics of one day on its labels."""

    metrics: Metrics  # of the rows that have a label, or of all rows if a missing label is a negative one
    rows_without_label: int
    labels_without_score: int  # keys in the label log that were not scored
    keys_with_several_labels: int
    labels_rejected: int  # rows of the label log whose label is invalid


def live_metrics(
    spark: SparkSession,
    scores_url: str,
    day: str,
    labels_url: str,
    settings: DataSettings,
    key: tuple[str, ...],
    options: LabelOptions = DEFAULT_OPTIONS,
) -> LiveMetrics:
    """Join a published day and its labels by `key`, columns that both have, and evaluate the day.

    A key with several labels was clicked if any of them says so. Raise UserError if a key column is missing,
    a key occurs twice among the scores, no key matches, or too many labels are invalid to count missing ones
    as negative.
    """
    scores = read_parquet_parts(spark, published_url(scores_url, day))
    absent = [name for name in key if name not in scores.columns]
    if absent:
        raise UserError(
            f"--key {', '.join(absent)}: expected among the columns of {day_url(scores_url, day)}, found "
            f"{', '.join(scores.columns)}; score the day again: score.py --overwrite --keep {','.join(key)}"
        )
    days = options.days(day)
    log = find_labels(labels_url, settings, key, days, options)
    require_day_of_labels(log, days)
    labels = read_labels(spark, log, days)
    scores = _with_text_keys(scores, key)
    _require_unique(scores, [f"key:{name}" for name in key], day)
    # Null is a key like any other: one row without a key is still one row.
    same_key = [scores[f"`key:{name}`"].eqNullSafe(labels[f"`key:{name}`"]) for name in key]
    weighted = log.row_format.is_weighted
    columns = [*_JOINED, *(WEIGHTS if weighted else ())]
    joined = scores.join(labels, same_key, "full").select(*columns)
    metrics, counts = _evaluate_joined(joined, options.missing_is_negative, weighted=weighted)
    _check_counts(counts, day, labels_url, options, options.settings(settings).max_bad_fraction)
    return LiveMetrics(
        metrics.compute(),
        counts["without_label"],
        counts["without_score"],
        counts["several_labels"],
        counts["rejected"],
    )


def _check_counts(
    counts: dict[str, int], day: str, url: str, options: LabelOptions, max_bad_fraction: float
) -> None:
    if not counts["with_label"]:
        raise UserError(
            f"{day}: no published row has a label (with a weight above 0) in {url}; check --key and "
            "--labels, or wait for the labels"
        )
    num_rows = counts["labels"] + counts["rejected"]
    if options.missing_is_negative and counts["rejected"] > max_bad_fraction * num_rows:
        raise UserError(
            f"{day}: {counts['rejected']} of {num_rows} rows of {url} have an invalid label, more than "
            f"max_bad_fraction {max_bad_fraction}; --missing-label negative would count them as not clicked: "
            "fix the label log"
        )


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


def _require_unique(scores: DataFrame, names: list[str], day: str) -> None:
    by_key = scores.groupBy(*[F.col(f"`{name}`") for name in names]).count()
    duplicate = by_key.filter(F.col("count") > 1).first()
    if duplicate:
        key = ", ".join(f"{name.removeprefix('key:')} {duplicate[name]}" for name in names)
        raise UserError(
            f"{day}: expected each key once among the scores, found {key} {duplicate['count']} times"
        )


def _evaluate_joined(
    joined: DataFrame, missing_is_negative: bool, *, weighted: bool
) -> tuple[BinaryMetrics, dict[str, int]]:
    """Metrics of the rows with score and label, and the number of rows by _COUNTS."""

    def evaluate_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        metrics, counts = BinaryMetrics(weighted=weighted), np.zeros(len(_COUNTS))
        for batch in batches:
            selected = _update_counts(batch, counts, missing_is_negative)
            _update_metrics(metrics, batch.filter(pa.array(selected)))
        indices = metrics.counts.view(-1).nonzero()[:, 0]
        yield _to_batch("bin", indices.numpy(), metrics.counts.view(-1)[indices].numpy())
        yield _to_batch("sum", np.arange(len(metrics.sums)), metrics.sums.numpy())
        yield _to_batch("count", np.arange(len(_COUNTS)), counts)

    rows = joined.mapInArrow(evaluate_partition, "kind string, index long, amount double")
    totals: pd.DataFrame = rows.groupBy("kind", "index").agg(F.sum("amount").alias("amount")).toPandas()
    metrics = BinaryMetrics(weighted=weighted)
    bins, sums, counts = (totals[totals["kind"] == kind] for kind in ("bin", "sum", "count"))
    indices = torch.from_numpy(bins["index"].to_numpy())
    amounts = torch.from_numpy(bins["amount"].to_numpy()).to(metrics.counts.dtype)
    metrics.counts.view(-1).index_add_(0, indices, amounts)
    sum_by_index = dict(zip(sums["index"], sums["amount"], strict=True))
    totals_of_sums = [sum_by_index.get(index, 0.0) for index in range(len(metrics.sums))]
    metrics.sums += torch.tensor(totals_of_sums, dtype=torch.float64)
    by_index = dict(zip(counts["index"], counts["amount"], strict=True))
    return metrics, {name: int(by_index.get(index, 0)) for index, name in enumerate(_COUNTS)}


def _update_counts(batch: pa.RecordBatch, counts: np.ndarray, missing_is_negative: bool) -> np.ndarray:
    """Add the joined rows to `counts`; return (n,) bool: those to evaluate."""
    has_score, has_label = (np.asarray(batch.column(name).is_valid()) for name in ("probability", "label"))
    num_labels, num_rejected = (
        np.asarray(pc.fill_null(batch.column(name), 0)) for name in ("num_labels", "num_rejected")
    )
    counts += [
        (has_score & has_label).sum(),
        (has_score & ~has_label).sum(),
        (~has_score & has_label).sum(),
        (num_labels > 1).sum(),
        num_labels.sum(),
        num_rejected.sum(),
    ]
    return has_score if missing_is_negative else has_score & has_label


def _update_metrics(metrics: BinaryMetrics, batch: pa.RecordBatch) -> None:
    """Add rows with a probability; without a label they were not clicked."""
    p = np.clip(
        batch.column("probability").to_numpy(zero_copy_only=False), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY
    )
    logits = np.log(p) - np.log1p(-p)
    if not metrics.is_weighted:
        labels = np.asarray(pc.fill_null(batch.column("label"), 0)).astype(np.float64)
        metrics.update(torch.from_numpy(logits), torch.from_numpy(labels))
        return
    for name, label, default in zip(WEIGHTS, (1.0, 0.0), (0.0, 1.0), strict=True):
        weights = np.asarray(pc.fill_null(batch.column(name), default))
        has_weight = weights > 0
        labels = np.full(int(has_weight.sum()), label)
        parts = (torch.from_numpy(part) for part in (logits[has_weight], labels, weights[has_weight]))
        metrics.update(*parts)


def _to_batch(kind: str, indices: np.ndarray, amounts: np.ndarray) -> pa.RecordBatch:
    columns = [
        pa.array([kind] * len(indices), pa.string()),
        pa.array(indices, pa.int64()),
        pa.array(amounts, pa.float64()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["kind", "index", "amount"])
