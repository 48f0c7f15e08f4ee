"""Dictionary encoding of columns, so that work per distinct value is done once."""

import pyarrow as pa


def dictionary_encode(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Dictionary-encode a column; one that is encoded already is returned as it is."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
