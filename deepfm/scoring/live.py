"""A published night beside the labels that came later: how good its probabilities really were."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import RawRows, as_text, raw_rows
from deepfm.click_log.row_format import RowFormat
from deepfm.errors import UserError
from deepfm.fields import FieldSet
from deepfm.metrics.binary import BinaryMetrics, Metrics
from deepfm.scoring.days import day_url
from deepfm.settings.data import DataSettings

_LEAST = 1e-12  # of a probability, that its logit is a number


@dataclass(frozen=True)
class Live:
    """One night's."""

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
) -> Live:
    """Join by `key`, columns that the night was published with and the labelled log has.

    UserError where a key is missing on one side or is there twice, or nothing meets.
    """
    scores = spark.read.parquet(day_url(scores_url, day))
    absent = [name for name in key if name not in scores.columns]
    if absent:
        raise UserError(
            f"--key {', '.join(absent)}: expected among the columns of {day_url(scores_url, day)}, found "
            f"{', '.join(scores.columns)}; score the day again with --keep {','.join(key)} --overwrite"
        )
    log = find_click_log(spark, log_url, settings, days=[day], keep=key)
    labels = _labels(raw_rows(spark, log, [day]), log.row_format, day)
    # As the log's own are read: a key that a null made floating is 12 there, and not 12.0.
    scores = scores.select(*[as_text(scores, name).alias(f"key:{name}") for name in key], "probability")
    for side, rows in (("scores", scores), ("labels", labels)):
        _require_once(rows, [f"key:{name}" for name in key], side, day)
    # Nulls are keys like any other here: one row without a key is still one row.
    same = [scores[f"`key:{name}`"].eqNullSafe(labels[f"`key:{name}`"]) for name in key]
    joined = scores.join(labels, same, "full").select("probability", "label")
    tally, without_label, without_score = _tallied(joined)
    if not int(tally.counts.sum()):
        raise UserError(
            f"{day}: no published row has a label in {log_url}; check --key and --input, or wait "
            "for the labels"
        )
    return Live(tally.compute(), without_label, without_score)


def _labels(raw: RawRows, row_format: RowFormat, day: str) -> DataFrame:
    """The day's keys, as text, and labels of the rows whose label fits; their fields may be anything."""
    bare = replace(row_format, fields=FieldSet(()))
    names = [f"key:{name}" for name in row_format.keep]

    def parse_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for raw_table in tables:
            parsed = parse_rows(raw_table, bare)
            columns = [parsed.kept.column(name) for name in row_format.keep]
            table = pa.table([*columns, pa.array(parsed.labels, pa.int32())], names=[*names, "label"])
            if row_format.has_days:
                table = table.filter(pc.equal(parsed.days, day))
            yield from table.to_batches()

    return raw.map(parse_partition, ", ".join(f"`{name}` string" for name in names) + ", label int")


def _require_once(rows: DataFrame, names: list[str], side: str, day: str) -> None:
    twice = rows.groupBy(*[F.col(f"`{name}`") for name in names]).count().filter(F.col("count") > 1).first()
    if twice:
        found = ", ".join(f"{name.removeprefix('key:')} {twice[name]}" for name in names)
        raise UserError(
            f"{day}: expected each key once among the {side}, found {found} {twice['count']} times"
        )


def _tallied(joined: DataFrame) -> tuple[BinaryMetrics, int, int]:
    def tally_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tally, without_label, without_score = BinaryMetrics(), 0, 0
        for batch in batches:
            table = pa.Table.from_batches([batch])
            no_label, no_score = (table.column(name).is_null() for name in ("label", "probability"))
            without_label += pc.sum(no_label).as_py() or 0
            without_score += pc.sum(no_score).as_py() or 0
            both = table.filter(pc.invert(pc.or_(no_label, no_score)))
            p = np.clip(both.column("probability").to_numpy(), _LEAST, 1 - _LEAST)
            logits = torch.from_numpy(np.log(p) - np.log1p(-p))
            tally.update(logits, torch.from_numpy(both.column("label").to_numpy().astype(np.float64)))
        places = tally.counts.view(-1).nonzero()[:, 0]
        counts = tally.counts.view(-1)[places]
        yield _part("bin", places.numpy(), counts.numpy())
        yield _part("sum", np.arange(2), tally.sums.numpy())
        yield _part("without", np.arange(2), np.array([without_label, without_score]))

    rows = joined.mapInArrow(tally_partition, "kind string, place long, num double")
    found = rows.groupBy("kind", "place").agg(F.sum("num").alias("num")).toPandas()
    tally = BinaryMetrics()
    bins, sums, without = (found[found["kind"] == kind] for kind in ("bin", "sum", "without"))
    places = torch.from_numpy(bins["place"].to_numpy())
    tally.counts.view(-1).index_add_(0, places, torch.from_numpy(bins["num"].to_numpy()).long())
    by_place = dict(zip(sums["place"], sums["num"], strict=True))
    tally.sums += torch.tensor([by_place.get(0, 0.0), by_place.get(1, 0.0)], dtype=torch.float64)
    missing = dict(zip(without["place"], without["num"], strict=True))
    return tally, int(missing.get(0, 0)), int(missing.get(1, 0))


def _part(kind: str, places: np.ndarray, nums: np.ndarray) -> pa.RecordBatch:
    columns = [
        pa.array([kind] * len(places), pa.string()),
        pa.array(places, pa.int64()),
        pa.array(nums, pa.float64()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["kind", "place", "num"])
