"""MLflow pyfunc flavour of a model: `mlflow.pyfunc.load_model(…).predict(frame)` on raw rows."""

import numpy as np
import pandas as pd
import pyarrow as pa

from deepfm.artifact.artifact import ServingModel, load_artifact
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.storage import absolute_url


class RawRowModel:
    """Model that maps raw columns of a pandas frame to click probabilities."""

    def __init__(self, model: ServingModel):
        self._model = model

    def predict(self, frame: pd.DataFrame, params: dict | None = None) -> np.ndarray:
        """(n, raw columns) -> (n,) float64 probabilities, the same as the scoring job's.

        Counts are integers (or integral floats, as pandas stores integers with gaps), values and quantiles
        numbers, categories text, lists text or arrays, times as in the log; None, NaN, empty text and empty
        arrays are missing. Raise ValueError for a number or a time that the scoring job would reject.
        """
        return self._model.probabilities(raw_from_frame(frame, self._model.encoder.fields))


def _load_pyfunc(data_path: str) -> RawRowModel:
    """Load a model for MLflow; `data_path` is its folder (see artifact.artifact)."""
    return RawRowModel(load_artifact(absolute_url(data_path)))


def raw_from_frame(frame: pd.DataFrame, fields: FieldSet) -> pa.Table:
    """Return the raw fields' columns of a frame, with the types of click_log.parse."""
    columns = {field.name: field.behaviour.from_pandas(frame[field.column], field) for field in fields.raw}
    return pa.table(columns)


def example_rows(vocabulary: Vocabulary) -> pd.DataFrame:
    """Return four example rows: two with known values of each field, one missing, one unusual."""
    columns = {}
    for index, field in enumerate(vocabulary.fields.raw):
        known, unusual = field.behaviour.example(field, vocabulary.fitted(index))
        filled = (known * 2)[:2] or [None, None]
        dtype = "object" if isinstance(unusual, (str, list)) else "float64"
        columns[field.column] = pd.Series([*filled, None, unusual], dtype=dtype)
    return pd.DataFrame(columns)
