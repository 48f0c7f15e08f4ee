"""Blocks of parsed rows, kept between the two passes of a build: fitting the vocabulary, and writing."""

import numpy as np
import pyarrow as pa

from deepfm.click_log.parse import ParsedRows

#: Columns in addition to those of the raw fields, whose names start with a letter.
PART, LABEL, HASH, WEIGHT = "_part", "_label", "_hash", "_weight"


def to_parsed_block(rows: ParsedRows, codes: np.ndarray) -> pa.Table:
    """The rows and (rows,) part codes -> a table with all that is needed to write them."""
    columns = {name: _narrow(rows.raw.column(name).combine_chunks()) for name in rows.raw.column_names}
    columns[PART], columns[LABEL] = pa.array(codes, pa.int8()), pa.array(rows.labels)
    columns[HASH] = pa.array(rows.row_hashes)
    if rows.weights is not None:
        columns[WEIGHT] = pa.array(rows.weights.astype(np.float32))
    return pa.table(columns)


def _narrow(column: pa.Array) -> pa.Array:
    """Cast the indices of a small dictionary to a narrower integer type."""
    if not isinstance(column, pa.DictionaryArray):
        return column
    num_values = len(column.dictionary)
    width = pa.int8() if num_values < 2**7 else pa.int16() if num_values < 2**15 else pa.int32()
    return pa.DictionaryArray.from_arrays(column.indices.cast(width), column.dictionary, safe=False)
