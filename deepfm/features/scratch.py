"""Tables that workers of a build hand to each other and to the driver, as Arrow files in a folder all reach.

Not through Spark's rows, which cost several times as much as what is in them. A task that is tried again
writes files of its own; those of the failed one are named nowhere and go with the folder.
"""

import uuid
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from deepfm import storage
from deepfm.features.tasks import places_of

#: Counts, a value once or more often a task, that the driver adds up by itself; of more Spark does.
MAX_COUNTS_ON_DRIVER = 10_000_000


def write_table(folder_url: str, table: pa.Table) -> str:
    """Write a table -> its name."""
    name, content = f"{uuid.uuid4().hex}.arrow", pa.BufferOutputStream()
    with pa.ipc.new_stream(content, table.schema) as stream:
        stream.write_table(table)
    storage.write_bytes(f"{folder_url}/{name}", content.getvalue())
    return name


def read_table(folder_url: str, name: str) -> pa.Table:
    """What `write_table` wrote."""
    return pa.ipc.open_stream(pa.py_buffer(storage.read_bytes(f"{folder_url}/{name}"))).read_all()


def scratch_rows(spark: SparkSession, url: str, names: list[str], schema: str) -> DataFrame:
    """The rows of tables in a scratch folder, as Spark's own."""

    def read_tables(places: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for place in (place for batch in places for place in batch.column(0).to_pylist()):
            yield from read_table(url, names[place]).to_batches()

    return places_of(spark, len(names)).mapInArrow(read_tables, schema)
