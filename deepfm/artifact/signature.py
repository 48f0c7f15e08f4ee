"""MLflow signature of a model: raw columns, with every type that clients may send."""

import pyarrow as pa
import pyarrow.compute as pc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field

#: An integer whose text survives conversion to any number type; a float keeps 15 digits.
_PLAIN_INTEGER = r"^(0|-?[1-9][0-9]{0,14})$"


def build_signature(vocabulary: Vocabulary) -> ModelSignature:
    """Build the signature: raw columns -> one probability."""
    fields = vocabulary.fields.raw
    types = {
        field.column: _column_type(field, values)
        for field, values in zip(fields, vocabulary.values, strict=False)
    }
    columns = [ColSpec(kind, name) for name, kind in types.items()]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))


def _column_type(field: Field, known: pa.Array) -> AnyType | Array | DataType:
    if field.is_array:
        return Array(DataType.string)
    if field.kind == "list":
        return DataType.string
    if field.kind == "category":
        # Ids such as 4711 may arrive as integers, or as floats in a column with gaps. If 007 is a known
        # value, a column of numbers cannot distinguish it from 7, so numbers are refused.
        return AnyType() if _are_integers(known) else DataType.string
    # MLflow's long refuses integers with gaps, which pandas stores as floats; its double refuses integers
    # without gaps. The model itself checks numbers and times.
    return AnyType()


def _are_integers(values: pa.Array) -> bool:
    return len(values) > 0 and pc.all(pc.match_substring_regex(values, _PLAIN_INTEGER)).as_py()
