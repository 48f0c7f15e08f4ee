"""What MLflow calls to serve a registered model on raw rows; `mlflow.pyfunc.load_model(…).predict(frame)`."""

import numpy as np
import pandas as pd
import pyarrow as pa

from deepfm.features.numeric import bucket_start
from deepfm.features.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.registry.artifact import ServingModel, load_artifact
from deepfm.storage import absolute_url


class RawRowModel:
    """Raw columns in a pandas frame -> click probabilities."""

    def __init__(self, model: ServingModel):
        self._model = model

    def predict(self, frame: pd.DataFrame, params: dict | None = None) -> np.ndarray:
        """(n, raw columns) -> (n,) float64 probabilities, the same as the scoring job's.

        Counts are whole numbers (also as floats, as pandas holds integers with gaps), values any numbers,
        categories text; None, nan and empty text are missing. ValueError for a number that the scoring job
        would set aside.
        """
        return self._model.probabilities(raw_from_frame(frame, self._model.encoder.fields))


def _load_pyfunc(data_path: str) -> RawRowModel:
    """MLflow's entry point: `data_path` is the model's folder (see registry.artifact)."""
    return RawRowModel(load_artifact(absolute_url(data_path)))


def raw_from_frame(frame: pd.DataFrame, fields: FieldSet) -> pa.Table:
    """The raw fields' columns of a frame, typed as features.parse types them."""
    return pa.table({field.name: _typed(frame[field.name], field.kind) for field in fields.raw})


def _typed(column: pd.Series, kind: str) -> pa.Array:
    if kind == "category":
        return pa.array(
            [None if pd.isna(value) or value == "" else _text(value) for value in column], pa.string()
        )
    numbers = pd.to_numeric(column.replace("", None), errors="raise").astype("float64")
    missing = numbers.isna().to_numpy()
    if kind == "value":
        if np.isinf(numbers).any():
            raise ValueError(f"{column.name}: expected finite numbers, found an infinite one")
        return pa.array(numbers.to_numpy(), mask=missing)
    whole = np.where(missing, 0, numbers.to_numpy())
    wrong = (whole != np.floor(whole)) | (np.abs(whole) >= 2.0**63)
    if wrong.any():
        raise ValueError(f"{column.name}: expected whole numbers of 64 bits, found {whole[wrong][0]}")
    return pa.array(whole.astype(np.int64), mask=missing)


def _text(value: object) -> str:
    """As features.click_log reads a Parquet log: 7.0, an integer in a column with gaps, is 7."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def example_rows(vocabulary: Vocabulary) -> pd.DataFrame:
    """Four raw rows that show what the model takes: two usual values a field, missing, unusual."""
    columns = {}
    for field, values in zip(vocabulary.fields.raw, vocabulary.values, strict=False):
        known = values.slice(0, 2).to_pylist()
        unseen: object = "never seen"
        if field.kind == "count":
            known, unseen = [float(bucket_start(int(bucket))) for bucket in known], float(2**62)
        elif field.kind == "value":
            scaling = vocabulary.scalings[field.name]
            *known, unseen = (scaling.number_at(x, field.scale) for x in (0, 1, 3))
        filled = (known * 2)[:2] or [None, None]
        columns[field.name] = pd.Series(
            [*filled, None, unseen], dtype="object" if field.kind == "category" else "float64"
        )
    return pd.DataFrame(columns)
