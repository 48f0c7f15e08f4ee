"""A model over raw rows in Spark: the probabilities of a night."""

import shutil
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark import SparkFiles
from pyspark.sql import DataFrame, SparkSession

from deepfm.artifact.artifact import ServingModel, as_probabilities, load_artifact
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import RawRows
from deepfm.click_log.row_format import RowFormat
from deepfm.scoring.accumulators import PartitionAccumulator
from deepfm.training.device import multiplies_bf16, retain_freed_memory

#: Columns of a scored night beside the kept ones, and what tells its rows apart.
SCORED, BAD, UNDATED, OTHER_DAY, TOTALS = "scored", "bad", "undated", "other_day", "totals"


def ship_model(spark: SparkSession, folder: str) -> str:
    """Send a local model folder to every executor -> the name under which `shipped_model` finds it."""
    name = f"model-{uuid.uuid4().hex}"
    # Executors fetch it when their first task starts: it lies where Spark keeps and later removes files.
    folder_of_session = Path(SparkFiles.getRootDirectory()) / "shipped"
    archive = shutil.make_archive(str(folder_of_session / name), "zip", folder)
    spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


@lru_cache(maxsize=2)
def shipped_model(name: str) -> ServingModel:
    """A shipped model, loaded once a Python worker; workers are kept from task to task."""
    # Spark runs a worker a core; threads of torch's own would fight over them.
    torch.set_num_threads(1)
    retain_freed_memory()
    return load_artifact(f"file://{SparkFiles.get(name)}")


def score_rows(
    raw: RawRows, row_format: RowFormat, model_name: str, day: str, *, bf16: bool = False
) -> DataFrame:
    """raw rows -> kind (as above), kept columns, probability; source_file, text, reason of bad and undated.

    Every raw row but a header comes out as one row. Rows of another day, and undated ones, which are bad and
    may be of any day, occur only where the day is a column or a time. After them comes a row of kind `totals`
    from each task, whose text is a part of the night's ScoringDayTotals.
    """

    def score_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        model = shipped_model(model_name)
        totals = PartitionAccumulator(model.encoder.fields)
        has_bf16 = bf16 and multiplies_bf16(torch.device("cpu"))
        for table in tables:
            parsed = parse_rows(table, row_format)
            totals.add_read(table.column("row_hash").to_numpy())
            chosen = np.ones(parsed.num_good, bool)
            bad, undated, num_other = parsed.bad, parsed.bad.slice(0, 0), 0
            if row_format.has_days:
                chosen = np.asarray(pc.equal(parsed.days, day))
                bad = parsed.bad.filter(pc.equal(parsed.bad_days, day))
                undated = parsed.bad.filter(parsed.bad_days.is_null())
                num_other = int((~chosen).sum()) + parsed.bad.num_rows - bad.num_rows - undated.num_rows
            mask = pa.array(chosen)
            logits = model.logits(parsed.raw.filter(mask), totals.of_fields, bf16=has_bf16)
            totals.add_scored(logits)
            probabilities = as_probabilities(logits)
            kept = parsed.kept.filter(mask) if row_format.keep else parsed.kept
            kept = kept.rename_columns([kept_as(name) for name in kept.column_names])
            yield from _rows(schema, SCORED, len(probabilities), probability=probabilities, **_columns(kept))
            yield from _rows(schema, OTHER_DAY, num_other)
            yield from _rows(schema, BAD, bad.num_rows, **_columns(bad))
            yield from _rows(schema, UNDATED, undated.num_rows, **_columns(undated))
        yield from _rows(schema, TOTALS, 1, text=pa.array([totals.to_json()]))

    keep = [(kept_as(name), pa.string()) for name in row_format.keep]
    bad = [(name, pa.string()) for name in ("source_file", "text", "reason")]
    schema = pa.schema([("kind", pa.string()), *keep, ("probability", pa.float64()), *bad])
    return raw.map(score_partition, _spark_schema(schema))


def kept_as(name: str) -> str:
    """A kept column's name among `scored_rows`: a log may have a column `text` or `reason` of its own."""
    return f"keep:{name}"


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table.column(name) for name in table.column_names}


def _rows(schema: pa.Schema, kind: str, num_rows: int, **columns) -> Iterator[pa.RecordBatch]:
    """Batches of `schema` with the given columns; the others are null."""
    columns["kind"] = pa.array([kind] * num_rows, pa.string())
    arrays = [columns.get(column.name, pa.nulls(num_rows, column.type)) for column in schema]
    yield from pa.table(arrays, schema=schema).to_batches()


def _spark_schema(schema: pa.Schema) -> str:
    kinds = {pa.string(): "string", pa.float64(): "double"}
    return ", ".join(f"`{column.name}` {kinds[column.type]}" for column in schema)
