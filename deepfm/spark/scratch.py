"""Exchange of tables between workers and driver as Arrow files in a shared folder.

Spark rows would take several times as much time and memory. A retried task writes new files; the files of the
failed attempt are never referenced and are removed with the folder.
"""

import uuid

import pyarrow as pa

from deepfm import storage

#: Maximum number of value counts (one per task and value) that are summed on the driver rather than by Spark.
MAX_COUNTS_ON_DRIVER = 10_000_000


def write_table(folder_url: str, table: pa.Table) -> str:
    """Write a table. Return its name."""
    name, content = f"{uuid.uuid4().hex}.arrow", pa.BufferOutputStream()
    with pa.ipc.new_stream(content, table.schema) as stream:
        stream.write_table(table)
    storage.write_bytes(f"{folder_url}/{name}", content.getvalue())
    return name


def read_table(folder_url: str, name: str) -> pa.Table:
    """Read a table written by `write_table`."""
    return pa.ipc.open_stream(pa.py_buffer(storage.read_bytes(f"{folder_url}/{name}"))).read_all()
