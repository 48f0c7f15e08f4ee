"""MLflow pyfunc flavour of a model: `mlflow.pyfunc.load_model(…).predict(frame)` on raw rows."""

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

#: Two typical times and an unusual one.
_EXAMPLE_TIMES = {
    "iso": (["2026-01-01 09:00:00", "2026-01-03 21:30:00"], "1970-01-01T00:00:00"),
    "unix_s": ([1_767_258_000.0, 1_767_475_800.0], 0.0),
    "unix_ms": ([1_767_258_000_000.0, 1_767_475_800_000.0], 0.0),
}


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
    return pa.table({field.name: _to_array(frame[field.column], field) for field in fields.raw})


def _to_array(column: pd.Series, field: Field) -> pa.Array:
    if field.kind == "list":
        return _to_lists(column, field)
    if field.kind in ("category", "time"):
        texts = [None if _is_missing(value) else _to_text(value) for value in column]
        strings = pa.array(texts, pa.string())
        return strings if field.kind == "category" else _to_seconds(strings, field)
    numbers = pd.to_numeric(column.replace("", None), errors="raise").astype("float64")
    missing = numbers.isna().to_numpy()
    if field.kind in ("value", "quantile"):
        if np.isinf(numbers).any():
            raise ValueError(f"{column.name}: expected finite numbers, found an infinite one")
        return pa.array(numbers.to_numpy(), mask=missing)
    integers = np.where(missing, 0, numbers.to_numpy())
    is_invalid = (integers != np.floor(integers)) | (np.abs(integers) >= 2.0**63)
    if is_invalid.any():
        raise ValueError(f"{column.name}: expected 64-bit integers, found {integers[is_invalid][0]}")
    return pa.array(integers.astype(np.int64), mask=missing)


def _to_lists(column: pd.Series, field: Field) -> pa.Array:
    if field.separator:
        return split_lists(_to_array(column, field.model_copy(update={"kind": "category"})), field.separator)
    lists = [[] if np.isscalar(value) or value is None else value for value in column]  # NaN: missing
    texts = [[_to_text(value) for value in values if not _is_missing(value)] for values in lists]
    return pa.array([values or None for values in texts], pa.list_(pa.string()))


def _is_missing(value: object) -> bool:
    return bool(pd.isna(value)) or value == ""


def _to_seconds(strings: pa.Array, field: Field) -> pa.Array:
    seconds, is_time = parse_times(strings, field.time_format)
    if not is_time.all():
        invalid = strings.filter(pa.array(~is_time))[0].as_py()
        raise ValueError(f"{field.column}: expected times as {field.time_format}, found {invalid!r}")
    return seconds


def _to_text(value: object) -> str:
    """Format a value as in a Parquet log: 7.0, an integer in a column with gaps, is 7."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _join_list(values: list[str], field: Field) -> str | list[str]:
    return field.separator.join(values) if field.separator else values


def example_rows(vocabulary: Vocabulary) -> pd.DataFrame:
    """Return four example rows: two with known values of each field, one missing, one unusual."""
    columns = {}
    for field, values in zip(vocabulary.fields.raw, vocabulary.values, strict=False):
        known = values.slice(0, 2).to_pylist()
        unseen: object = "never seen"
        if field.kind == "count":
            known, unseen = [float(bucket_start(int(bucket))) for bucket in known], float(2**62)
        elif field.kind == "list":
            known, unseen = (
                [_join_list(known, field), _join_list(known[:1], field)],
                _join_list([unseen], field),
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
