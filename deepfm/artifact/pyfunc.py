"""What MLflow calls to serve a registered model on raw rows; `mlflow.pyfunc.load_model(…).predict(frame)`."""

import numpy as np
import pandas as pd
import pyarrow as pa

from deepfm.artifact.artifact import ServingModel, load_artifact
from deepfm.click_log.lists import split_lists
from deepfm.click_log.times import parse_times
from deepfm.features.kinds.count_buckets import bucket_start
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.storage import absolute_url

#: Two usual times and an odd one.
_EXAMPLE_TIMES = {
    "iso": (["2026-01-01 09:00:00", "2026-01-03 21:30:00"], "1970-01-01T00:00:00"),
    "unix_s": ([1_767_258_000.0, 1_767_475_800.0], 0.0),
    "unix_ms": ([1_767_258_000_000.0, 1_767_475_800_000.0], 0.0),
}


class RawRowModel:
    """Raw columns in a pandas frame -> click probabilities."""

    def __init__(self, model: ServingModel):
        self._model = model

    def predict(self, frame: pd.DataFrame, params: dict | None = None) -> np.ndarray:
        """(n, raw columns) -> (n,) float64 probabilities, the same as the scoring job's.

        Counts are whole numbers (also as floats, as pandas holds integers with gaps), values and quantiles
        any numbers, categories text, lists text or arrays and times as the log has them; None, nan, empty
        text and empty arrays are missing.
        ValueError for a number or a time that the scoring job would set aside.
        """
        return self._model.probabilities(raw_from_frame(frame, self._model.encoder.fields))


def _load_pyfunc(data_path: str) -> RawRowModel:
    """MLflow's entry point: `data_path` is the model's folder (see registry.artifact)."""
    return RawRowModel(load_artifact(absolute_url(data_path)))


def raw_from_frame(frame: pd.DataFrame, fields: FieldSet) -> pa.Table:
    """The raw fields' columns of a frame, typed as features.parse types them."""
    return pa.table({field.name: _typed(frame[field.column], field) for field in fields.raw})


def _typed(column: pd.Series, field: Field) -> pa.Array:
    if field.kind == "list":
        return _lists(column, field)
    if field.kind in ("category", "time"):
        texts = [None if _is_missing(value) else _text(value) for value in column]
        strings = pa.array(texts, pa.string())
        return strings if field.kind == "category" else _seconds(strings, field)
    numbers = pd.to_numeric(column.replace("", None), errors="raise").astype("float64")
    missing = numbers.isna().to_numpy()
    if field.kind in ("value", "quantile"):
        if np.isinf(numbers).any():
            raise ValueError(f"{column.name}: expected finite numbers, found an infinite one")
        return pa.array(numbers.to_numpy(), mask=missing)
    whole = np.where(missing, 0, numbers.to_numpy())
    wrong = (whole != np.floor(whole)) | (np.abs(whole) >= 2.0**63)
    if wrong.any():
        raise ValueError(f"{column.name}: expected whole numbers of 64 bits, found {whole[wrong][0]}")
    return pa.array(whole.astype(np.int64), mask=missing)


def _lists(column: pd.Series, field: Field) -> pa.Array:
    if field.separator:
        return split_lists(_typed(column, field.model_copy(update={"kind": "category"})), field.separator)
    lists = [[] if np.isscalar(value) or value is None else value for value in column]  # nan: missing
    texts = [[_text(value) for value in values if not _is_missing(value)] for values in lists]
    return pa.array([values or None for values in texts], pa.list_(pa.string()))


def _is_missing(value: object) -> bool:
    return bool(pd.isna(value)) or value == ""


def _seconds(strings: pa.Array, field: Field) -> pa.Array:
    seconds, is_time = parse_times(strings, field.time_format)
    if not is_time.all():
        wrong = strings.filter(pa.array(~is_time))[0].as_py()
        raise ValueError(f"{field.column}: expected times as {field.time_format}, found {wrong!r}")
    return seconds


def _text(value: object) -> str:
    """As features.click_log reads a Parquet log: 7.0, an integer in a column with gaps, is 7."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_in_log(values: list[str], field: Field) -> str | list[str]:
    return field.separator.join(values) if field.separator else values


def example_rows(vocabulary: Vocabulary) -> pd.DataFrame:
    """Four raw rows that show what the model takes: two usual values a field, missing, unusual."""
    columns = {}
    for field, values in zip(vocabulary.fields.raw, vocabulary.values, strict=False):
        known = values.slice(0, 2).to_pylist()
        unseen: object = "never seen"
        if field.kind == "count":
            known, unseen = [float(bucket_start(int(bucket))) for bucket in known], float(2**62)
        elif field.kind == "list":
            known, unseen = (
                [_as_in_log(known, field), _as_in_log(known[:1], field)],
                _as_in_log([unseen], field),
            )
        elif field.kind == "time":
            known, unseen = _EXAMPLE_TIMES[field.time_format]
        elif field.kind == "quantile":
            known, unseen = list(vocabulary.boundaries[field.name][:2]), float(2**62)
        elif field.kind == "value":
            scaling = vocabulary.scalings[field.name]
            *known, unseen = (scaling.inverse(x, field.scale) for x in (0, 1, 3))
        filled = (known * 2)[:2] or [None, None]
        is_text = field.kind in ("category", "list") or field.time_format == "iso"
        columns[field.column] = pd.Series([*filled, None, unseen], dtype="object" if is_text else "float64")
    return pd.DataFrame(columns)
