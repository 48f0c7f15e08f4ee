"""Tables that workers of a build hand to each other and to the driver, as Arrow files in a folder all reach.

Not through Spark's rows, which cost several times as much as what is in them. A task that is tried again
writes files of its own; those of the failed one are named nowhere and go with the folder.
"""

import uuid

import pyarrow as pa

from deepfm import storage

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
