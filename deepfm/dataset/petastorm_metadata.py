"""Petastorm metadata of a split: the schema and the number of row groups of each file."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from petastorm.codecs import ScalarCodec
from petastorm.etl.dataset_metadata import ROW_GROUPS_PER_FILE_KEY, _generate_unischema_metadata
from petastorm.unischema import Unischema, UnischemaField
from petastorm.utils import add_to_dataset_metadata
from pyspark.sql.types import ByteType, FloatType, IntegerType

from deepfm import storage
from deepfm.dataset.data_file import arrow_schema
from deepfm.dataset.manifest import SplitPart
from deepfm.fields import FieldSet

_COMMON_METADATA = "_common_metadata"


@dataclass(frozen=True)
class _LocalFolder:
    """What Petastorm's functions need of a dataset, for a folder with a file of common metadata."""

    paths: str
    fs: LocalFileSystem = field(default_factory=LocalFileSystem)


def write_petastorm_metadata(
    url: str, part: SplitPart, fields: FieldSet, *, label: str, weight: str | None = None
) -> None:
    """Write both into the folder `url` of a split.

    The result is that of petastorm's materialize_dataset, without its three Spark jobs, which count row
    groups that are known here. Petastorm writes to a local folder, because it cannot to every filesystem.
    """
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / _COMMON_METADATA
        pq.write_metadata(arrow_schema(fields, label, weight), metadata)
        local = _LocalFolder(folder)
        _generate_unischema_metadata(local, _schema(fields, label, weight))
        row_groups = {file.name: len(file.row_groups) for file in part.files}
        add_to_dataset_metadata(local, ROW_GROUPS_PER_FILE_KEY, json.dumps(row_groups).encode())
        storage.write_bytes(f"{url}/{_COMMON_METADATA}", metadata.read_bytes())


def _schema(fields: FieldSet, label: str, weight: str | None) -> Unischema:
    columns = [UnischemaField(label, np.int8, (), ScalarCodec(ByteType()), False)]
    if weight is not None:
        columns.append(UnischemaField(weight, np.float32, (), ScalarCodec(FloatType()), False))
    for one in fields:
        numpy_type, spark_type = (np.float32, FloatType()) if one.is_value else (np.int32, IntegerType())
        for slot in one.slots:
            columns.append(UnischemaField(slot, numpy_type, (), ScalarCodec(spark_type), False))
    return Unischema("Impressions", columns)
