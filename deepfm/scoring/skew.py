"""A sample of a night's raw rows by the path of training and by that of scoring: the same probabilities."""

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
#: Matrix products of another number of rows round differently; those in bfloat16 more so.
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
    """Compare those of the day's first rows that fit -> how many; UserError where a probability differs.

    The scoring job's own work is done by an executor with the shipped model `model_name`. Here, in the
    driver, the rows are parsed and encoded as for a dataset, and go through the network as in an evaluation
    of the training.
    """
    of_day = raw
    if row_format.has_days:
        of_day = RawRows(raw.map(partial(_of_day, row_format, day), raw.frame().schema))
    sample = of_day.head(SAMPLE_ROWS)
    # One partition, so that the order stays.
    again = RawRows(spark.createDataFrame(sample.to_pylist(), raw.frame().schema).coalesce(1))
    job_rows = score_rows(again, row_format, model_name, day, bf16=precision == "bf16")
    scored = job_rows.select("probability").collect()
    by_job = np.array([row.probability for row in scored if row.probability is not None])
    by_training = _as_in_training(sample, row_format, model, day)
    if len(by_job) != len(by_training):
        raise UserError(
            f"skew check: of {sample.num_rows} rows {len(by_training)} fit by the path of training, but "
            f"{len(by_job)} were scored; nothing was published: are the workers' packages the driver's?"
        )
    # Written so that a nan, which compares false with everything, is found.
    wrong = np.flatnonzero(~(np.abs(by_job - by_training) <= TOLERANCE[precision]))
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"skew check: of {len(by_job)} rows {len(wrong)} score otherwise than in training, such as "
            f"{by_job[row]:.9f} in place of {by_training[row]:.9f}; nothing was published: are the workers' "
            "packages and processors the driver's?"
        )
    return len(by_job)


def _of_day(row_format: RowFormat, day: str, tables: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
    """The raw rows that fit and are of the day."""
    for table in tables:
        parsed = parse_rows(table, row_format)
        hashes = parsed.row_hashes[np.asarray(pc.equal(parsed.days, day))]
        yield from table.filter(pc.is_in(table.column("row_hash"), pa.array(hashes))).to_batches()


def _as_in_training(batch: pa.Table, row_format: RowFormat, model: ServingModel, day: str) -> np.ndarray:
    """(n,) probabilities of the day's rows that fit."""
    parsed = parse_rows(batch, row_format)
    if row_format.has_days:
        parsed = parsed.filter(np.asarray(pc.equal(parsed.days, day)))
    if not parsed.num_good:
        return np.empty(0)
    block = to_int32_matrix(model.encoder.encode(parsed.raw))
    with torch.inference_mode():
        logits = model.network(*to_model_inputs(block, model.encoder.fields)) + model.logit_correction
    return torch.sigmoid(logits.double()).numpy()
