"""Training-serving skew check: training and scoring code must give a sample of rows equal probabilities."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark.sql import SparkSession

from deepfm.artifact.artifact import ServingModel
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import RawRows
from deepfm.click_log.row_format import RowFormat
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.tensors import to_model_inputs
from deepfm.errors import UserError
from deepfm.scoring.predict import score_rows

SAMPLE_ROWS = 200
#: Matrix products of a different number of rows round differently, in bfloat16 more so.
TOLERANCE = {"fp32": 1e-6, "bf16": 2e-2}


def require_no_skew(
    spark: SparkSession,
    raw: RawRows,
    row_format: RowFormat,
    model: ServingModel,
    model_name: str,
    day: str,
    precision: str = "fp32",
) -> int:
    """Compare the probabilities of the day's first valid rows and return their number.

    An executor scores the rows with the shipped model `model_name`, as in the scoring job. The driver parses
    and encodes the same rows as for a dataset and evaluates the network as in training. Raise UserError if a
    probability differs.
    """
    day_rows = raw
    if row_format.has_days:
        day_rows = RawRows(raw.map(partial(_keep_day, row_format, day), raw.spark_schema))
    sample = day_rows.head(SAMPLE_ROWS)
    # One partition, to keep the order.
    sample_rows = RawRows(spark.createDataFrame(sample.to_pylist(), raw.spark_schema).coalesce(1))
    job_rows = score_rows(sample_rows, row_format, model_name, day, bf16=precision == "bf16")
    scored = job_rows.select("probability").collect()
    by_job = np.array([row.probability for row in scored if row.probability is not None])
    by_training = _score_as_in_training(sample, row_format, model, day)
    if len(by_job) != len(by_training):
        raise UserError(
            f"skew check: of {sample.num_rows} rows, the training code accepts {len(by_training)} and the "
            f"scoring job scored {len(by_job)}; nothing was published: check that workers and driver have "
            "the same package versions"
        )
    # Written so that NaN, which compares false with everything, counts as wrong.
    wrong = np.flatnonzero(~(np.abs(by_job - by_training) <= TOLERANCE[precision]))
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"skew check: {len(wrong)} of {len(by_job)} rows have another score than in training, such as "
            f"{by_job[row]:.9f} instead of {by_training[row]:.9f}; nothing was published: check that workers "
            "and driver have the same package versions and processors"
        )
    return len(by_job)


def _keep_day(row_format: RowFormat, day: str, tables: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Yield the valid raw rows of the day."""
    for table in tables:
        parsed = parse_rows(table, row_format)
        hashes = parsed.row_hashes[np.asarray(pc.equal(parsed.days, day))]
        yield from table.filter(pc.is_in(table.column("row_hash"), pa.array(hashes))).to_batches()


def _score_as_in_training(
    batch: pa.Table, row_format: RowFormat, model: ServingModel, day: str
) -> np.ndarray:
    """(n,) probabilities of the day's valid rows."""
    parsed = parse_rows(batch, row_format)
    if row_format.has_days:
        parsed = parsed.filter(np.asarray(pc.equal(parsed.days, day)))
    if not parsed.num_good:
        return np.empty(0)
    block = to_int32_matrix(model.encoder.encode(parsed.raw))
    with torch.inference_mode():
        logits = model.calibrated(model.network(*to_model_inputs(block, model.encoder.fields)))
    return torch.sigmoid(logits.double()).numpy()
