"""Petastorm metadata of a split: the schema and the number of row groups of each file."""

import json
import warnings

import numpy as np
import pyarrow.parquet as pq
from petastorm.codecs import ScalarCodec
from petastorm.etl.dataset_metadata import ROW_GROUPS_PER_FILE_KEY, _generate_unischema_metadata
from petastorm.fs_utils import FilesystemResolver
from petastorm.unischema import Unischema, UnischemaField
from petastorm.utils import add_to_dataset_metadata
from pyspark.sql import SparkSession
from pyspark.sql.types import ByteType, FloatType, IntegerType

from deepfm.dataset.manifest import SplitPart
from deepfm.fields import FieldSet
from deepfm.spark.internals import hadoop_configuration


def write_petastorm_metadata(
    spark: SparkSession, url: str, part: SplitPart, fields: FieldSet, label: str, weight: str | None = None
) -> None:
    """Write both into the folder `url` of a split.

    The result is that of petastorm's materialize_dataset, without its three Spark jobs, which count row
    groups that are known here.
    """
    hadoop = hadoop_configuration(spark)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # petastorm calls deprecated functions of pyarrow
        resolver = FilesystemResolver(url, hadoop, user=spark.sparkContext.sparkUser())
        dataset = pq.ParquetDataset(
            resolver.get_dataset_path(), filesystem=resolver.filesystem(), validate_schema=False
        )
        _generate_unischema_metadata(dataset, _schema(fields, label, weight))
        row_groups = {file.name: len(file.row_groups) for file in part.files}
        add_to_dataset_metadata(dataset, ROW_GROUPS_PER_FILE_KEY, json.dumps(row_groups).encode())


def _schema(fields: FieldSet, label: str, weight: str | None) -> Unischema:
    columns = [UnischemaField(label, np.int8, (), ScalarCodec(ByteType()), False)]
    if weight is not None:
        columns.append(UnischemaField(weight, np.float32, (), ScalarCodec(FloatType()), False))
    for field in fields:
        numpy_type, spark_type = (np.float32, FloatType()) if field.is_value else (np.int32, IntegerType())
        for slot in field.slots:
            columns.append(UnischemaField(slot, numpy_type, (), ScalarCodec(spark_type), False))
    return Unischema("Impressions", columns)
