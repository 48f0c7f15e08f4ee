"""Columns as places in a dictionary of their distinct values: what is done a value is then done once."""

import pyarrow as pa


def dictionary_encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """The same values; one that is dictionary-encoded already stays as it is."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
