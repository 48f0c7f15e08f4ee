"""MLflow pyfunc flavour of a model: `mlflow.pyfunc.load_model(…).predict(frame)` on raw rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.artifact.artifact import ServingModel, load_artifact
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.kind import tokens_to_null
from deepfm.spark.session_time import with_zone
from deepfm.storage import absolute_url
from deepfm.value_text import texts_of_series, with_zone_mark


class RawRowModel:
    """Model that maps raw columns of a pandas frame to click probabilities."""

    def __init__(self, model: ServingModel):
        self._model = model

    def predict(self, frame: pd.DataFrame, params: dict | None = None) -> np.ndarray:
        """(n, raw columns) -> (n,) float64 probabilities, the same as the scoring job's.

        Values are of any type that a log may have (see value_text.to_texts); None, NaN, empty text and empty
        arrays are missing. Raise ValueError for a value that the scoring job would reject.
        """
        data = self._model.card.data
        raw = raw_from_frame(
            frame, self._model.encoder.fields, data.null_values, bad_is_missing=data.on_bad_value == "missing"
        )
        return self._model.probabilities(raw)


def _load_pyfunc(data_path: str) -> RawRowModel:
    """Load a model for MLflow; `data_path` is its folder (see artifact.artifact)."""
    return RawRowModel(load_artifact(absolute_url(data_path)))


def raw_from_frame(
    frame: pd.DataFrame, fields: FieldSet, null_values: Sequence[str] = (), *, bad_is_missing: bool = False
) -> pa.Table:
    """Return the raw fields' columns of a frame, with the types of click_log.parse.

    Values become texts and are parsed as in a log; `null_values` are the texts that mean missing. Raise
    ValueError for a value that the scoring job would reject.
    """
    are_arrays = {field.column: field.is_array for field in fields.raw}
    texts = {
        column: tokens_to_null(_texts(frame[column], is_array=is_array), null_values)
        for column, is_array in are_arrays.items()
    }
    for field in fields.raw:
        _require_exact(frame[field.column], field)
        if field.kind == "time":
            text = texts[field.column]
            texts[field.column] = pc.if_else(_have_zones(frame[field.column]), with_zone_mark(text), text)
    return pa.table({field.name: _parsed(texts[field.column], field, bad_is_missing) for field in fields.raw})


def _require_exact(column: pd.Series, field: Field) -> None:
    """Raise ValueError if ids may have been rounded: pandas makes floats of integers with gaps."""
    if not field.behaviour.is_text or not pd.api.types.is_float_dtype(column.dtype):
        return
    rounded = column[column.abs() >= 2.0**53]
    if len(rounded):
        raise ValueError(
            f"{field.column}: expected ids below 2^53 in a column of floats, found {rounded.iloc[0]:.0f}, "
            "which may be rounded; send a column with gaps as text, or with the type Int64"
        )


def _have_zones(column: pd.Series) -> pa.Array:
    """(n,) bool: whether each value is a time with a zone."""
    if column.dtype == object:
        return pa.array([getattr(value, "tzinfo", None) is not None for value in column], pa.bool_())
    has_zone = isinstance(with_zone(column).dtype, pd.DatetimeTZDtype)
    return pa.array(np.full(len(column), has_zone))


def _texts(column: pd.Series, *, is_array: bool) -> pa.Array:
    if not is_array and column.dtype == object and any(map(pd.api.types.is_list_like, column)):
        raise ValueError(f"{column.name}: expected single values, found an array")
    try:
        texts = texts_of_series(with_zone(column))
        # Bytes are not checked before.
        return texts.cast(pa.binary()).cast(pa.string())
    except (TypeError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise ValueError(f"{column.name}: {error}") from error


def _parsed(texts: pa.Array, field: Field, bad_is_missing: bool) -> pa.Array:
    values, is_valid = field.behaviour.parse(texts, field)
    if not bad_is_missing and is_valid is not None and not is_valid.all():
        invalid = texts.filter(pa.array(~is_valid))[0].as_py()
        raise ValueError(f"{field.column}: expected {field.behaviour.expected(field)}, found {invalid!r}")
    return values


def example_rows(vocabulary: Vocabulary) -> pd.DataFrame:
    """Return four example rows: two with known values of each field, one missing, one unusual."""
    columns = dict.fromkeys(vocabulary.fields.columns)
    # Of the fields of one column, numbers and times accept less than text, so their examples come last.
    fields = sorted(enumerate(vocabulary.fields.raw), key=lambda entry: not entry[1].behaviour.is_text)
    for index, field in fields:
        known, unusual = field.behaviour.example(field, vocabulary.fitted(index))
        filled = (known * 2)[:2] or [None, None]
        dtype = "object" if isinstance(unusual, (str, list)) else "float64"
        columns[field.column] = pd.Series([*filled, None, unusual], dtype=dtype)
    return pd.DataFrame(columns)
