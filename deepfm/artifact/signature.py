"""What MLflow lets through to a registered model: raw columns, of every type that clients hold them in."""

import pyarrow as pa
import pyarrow.compute as pc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field

#: An integer that is the same text again after a detour through any number type, a float's 15 digits too.
_PLAIN_INTEGER = r"^(0|-?[1-9][0-9]{0,14})$"


def signature_of(vocabulary: Vocabulary) -> ModelSignature:
    """Raw columns -> one probability."""
    fields = vocabulary.fields.raw
    types = {
        field.column: _type(field, values) for field, values in zip(fields, vocabulary.values, strict=False)
    }
    columns = [ColSpec(kind, name) for name, kind in types.items()]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))


def _type(field: Field, known: pa.Array) -> AnyType | Array | DataType:
    if field.is_array:
        return Array(DataType.string)
    if field.kind == "list":
        return DataType.string
    if field.kind == "category":
        # Ids such as 4711 reach clients as integers, or floats where there are gaps. Where 007 is a value,
        # a column of numbers has lost what tells it from 7: better refused than scored.
        return AnyType() if _are_integers(known) else DataType.string
    # MLflow's long refuses integers with gaps, which pandas holds as floats, and its double refuses those
    # without. The model itself checks numbers and times.
    return AnyType()


def _are_integers(values: pa.Array) -> bool:
    return len(values) > 0 and pc.all(pc.match_substring_regex(values, _PLAIN_INTEGER)).as_py()
