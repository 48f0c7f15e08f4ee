"""Rows that were parsed once, kept between the two passes of a build: one learns ids, one writes.

A block is an Arrow file of some typed rows of the log with what is needed of them later. Blocks are written
where the dataset will be, which driver and workers all reach, so they need not pass through Spark.
"""

import uuid

import numpy as np
import pyarrow as pa

from deepfm import storage
from deepfm.features.parse import ParsedRows

#: Beside the raw fields' columns, whose names begin with a letter.
PART, LABEL, HASH = "_part", "_label", "_hash"


def write_block(folder_url: str, rows: ParsedRows, codes: np.ndarray) -> str:
    """Write the rows whose code is that of a part (0, 1 or 2) -> the file's name.

    A task that is tried again writes files of its own; those of the failed one are named nowhere.
    """
    columns = {name: _narrow(rows.raw.column(name).combine_chunks()) for name in rows.raw.column_names}
    columns |= {
        PART: pa.array(codes, pa.int8()),
        LABEL: pa.array(rows.labels),
        HASH: pa.array(rows.row_hashes),
    }
    name, content = f"{uuid.uuid4().hex}.arrow", pa.BufferOutputStream()
    with pa.ipc.new_stream(content, pa.table(columns).schema) as stream:
        stream.write_table(pa.table(columns))
    storage.write_bytes(f"{folder_url}/{name}", content.getvalue())
    return name


def read_block(folder_url: str, name: str) -> pa.Table:
    """The rows that `write_block` wrote."""
    return pa.ipc.open_stream(pa.py_buffer(storage.read_bytes(f"{folder_url}/{name}"))).read_all()


def _narrow(column: pa.Array) -> pa.Array:
    """The same values; places in a dictionary of few values in fewer bytes."""
    if not isinstance(column, pa.DictionaryArray):
        return column
    num_values = len(column.dictionary)
    width = pa.int8() if num_values < 2**7 else pa.int16() if num_values < 2**15 else pa.int32()
    return pa.DictionaryArray.from_arrays(column.indices.cast(width), column.dictionary, safe=False)
