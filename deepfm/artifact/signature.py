"""MLflow signature of a model: raw columns, with every type that clients may send."""

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array

from deepfm.features.vocabulary.vocabulary import Vocabulary

#: MLflow's long refuses integers with gaps, which pandas stores as floats; its double refuses integers
#: without
#: gaps. So numbers have no type here, and the model itself checks numbers and times.
_TYPES: dict[str, DataType | Array | AnyType] = {
    "string": DataType.string,
    "array": Array(DataType.string),
    "any": AnyType(),
}


def build_signature(vocabulary: Vocabulary) -> ModelSignature:
    """Build the signature: raw columns -> one probability."""
    fields = vocabulary.fields.raw
    types = {
        field.column: _TYPES[field.behaviour.column_type(field, values)]
        for field, values in zip(fields, vocabulary.values, strict=False)
    }
    columns: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in types.items()]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))
