"""Score raw rows with a model in Spark: the probabilities of a day."""

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
from pyspark.sql.pandas.types import from_arrow_schema

from deepfm.artifact.artifact import ServingModel, load_artifact, to_probabilities
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import RawRows
from deepfm.click_log.row_format import RowFormat
from deepfm.scoring.accumulators import PartitionAccumulator
from deepfm.training.device import multiplies_bf16, retain_freed_memory

#: Kinds of rows of a scored day, in column `kind`.
SCORED, BAD, UNDATED, OTHER_DAY, TOTALS = "scored", "bad", "undated", "other_day", "totals"


def ship_model(spark: SparkSession, folder: str) -> str:
    """Send a local model folder to every executor and return its name for `shipped_model`."""
    name = f"model-{uuid.uuid4().hex}"
    # Executors fetch the archive when their first task starts, so it is in the folder of Spark's session,
    # which Spark removes later.
    session_folder = Path(SparkFiles.getRootDirectory()) / "shipped"
    archive = shutil.make_archive(str(session_folder / name), "zip", folder)
    spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


@lru_cache(maxsize=2)
def shipped_model(name: str) -> ServingModel:
    """Load a shipped model, once per Python worker; workers are reused across tasks."""
    # Spark runs one worker per core; PyTorch threads would compete for the cores.
    torch.set_num_threads(1)
    retain_freed_memory()
    return load_artifact(f"file://{SparkFiles.get(name)}")


def score_rows(
    raw: RawRows, row_format: RowFormat, model_name: str, day: str, *, bf16: bool = False
) -> DataFrame:
    """Raw rows -> kind (see above), kept columns, probability; source_file, text, reason of bad rows.

    Every raw row except a header becomes one row. Rows of another day, and undated rows, which are bad and
    may belong to any day, occur only if the day is a column or a time. Each task ends with a row of kind
    `totals`, whose text is its part of the day's ScoringDayTotals.
    """

    def score_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        model = shipped_model(model_name)
        totals = PartitionAccumulator(model.encoder.fields)
        use_bf16 = bf16 and multiplies_bf16(torch.device("cpu"))
        for table in tables:
            parsed = parse_rows(table, row_format)
            totals.add_read(table.column("row_hash").to_numpy())
            is_scored = np.ones(parsed.num_good, bool)
            bad, undated, num_other_day = parsed.bad, parsed.bad.slice(0, 0), 0
            if row_format.has_days:
                is_scored = np.asarray(pc.equal(parsed.days, day))
                bad = parsed.bad.filter(pc.equal(parsed.bad_days, day))
                undated = parsed.bad.filter(parsed.bad_days.is_null())
                num_other_day = (
                    int((~is_scored).sum()) + parsed.bad.num_rows - bad.num_rows - undated.num_rows
                )
            mask = pa.array(is_scored)
            logits = model.logits(parsed.raw.filter(mask), totals.field_counts, bf16=use_bf16)
            totals.add_scored(logits)
            probabilities = to_probabilities(logits)
            kept = parsed.kept.filter(mask) if row_format.keep else parsed.kept
            kept = kept.rename_columns([kept_column(name) for name in kept.column_names])
            yield from _rows(schema, SCORED, len(probabilities), probability=probabilities, **_columns(kept))
            yield from _rows(schema, OTHER_DAY, num_other_day)
            yield from _rows(schema, BAD, bad.num_rows, **_columns(bad))
            yield from _rows(schema, UNDATED, undated.num_rows, **_columns(undated))
        yield from _rows(schema, TOTALS, 1, text=pa.array([totals.to_json()]))

    types = {} if raw.schema is None else dict(zip(raw.schema.names, raw.schema.types, strict=True))
    keep = [(kept_column(name), types.get(kept_column(name), pa.string())) for name in row_format.keep]
    bad = [(name, pa.string()) for name in ("source_file", "text", "reason")]
    schema = pa.schema([("kind", pa.string()), *keep, ("probability", pa.float64()), *bad])
    return raw.map(score_partition, from_arrow_schema(schema, prefer_timestamp_ntz=True))


def kept_column(name: str) -> str:
    """Name of a kept column in `score_rows`: a log may itself have a column `text` or `reason`."""
    return f"keep:{name}"


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table.column(name) for name in table.column_names}


def _rows(schema: pa.Schema, kind: str, num_rows: int, **columns) -> Iterator[pa.RecordBatch]:
    """Batches of `schema` with the given columns; the others are null."""
    columns["kind"] = pa.array([kind] * num_rows, pa.string())
    arrays = [columns.get(column.name, pa.nulls(num_rows, column.type)) for column in schema]
    yield from pa.table(arrays, schema=schema).to_batches()
