"""MLflow signature of a model: raw columns, with every type that clients may send."""

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array

from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.kinds.kind import ColumnType

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
    types: dict[str, set[ColumnType]] = {}
    for field, values in zip(fields, vocabulary.values, strict=False):
        types.setdefault(field.column, set()).add(field.behaviour.column_type(field, values))
    # A column of several fields has the type that all of them accept.
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(_TYPES[kinds.pop() if len(kinds) == 1 else "any"], name) for name, kinds in types.items()
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))
