"""Conversion of raw lines, or of the text columns of Parquet, to string columns and reason codes."""

import csv
from codecs import BOM_UTF8

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from deepfm.click_log.row_format import NOT_UTF8, WRONG_WIDTH, RowFormat

#: Block size of Arrow's CSV reader. Blocks that fit in the CPU cache are parsed twice as fast as all at once.
_BLOCK_BYTES = 1 << 20


def split_lines(lines: pa.Array, row_format: RowFormat) -> tuple[dict[str, pa.Array], np.ndarray]:
    """(n,) lines with their newlines -> string columns of the well-formed rows, and (n,) reason codes."""
    reasons = np.zeros(len(lines), np.int8)
    columns = _split_with_arrow(lines, row_format)
    if columns is not None:
        return columns, reasons
    texts = _decoded(pa.array(_without_newlines(lines), pa.binary()), reasons)
    decoded = np.flatnonzero(reasons == 0)
    # A carriage return before the newline is part of the line end, not of the last column.
    if pc.any(pc.ends_with(texts, "\r")).as_py():
        texts = pc.ascii_rtrim(texts, "\r")
    if row_format.quote is None:
        parts = pc.split_pattern(texts, row_format.delimiter)
    else:
        parts = _split_quoted(texts, row_format)
    width = len(row_format.columns)
    fits = np.asarray(pc.equal(pc.list_value_length(parts), width))
    reasons[decoded[~fits]] = WRONG_WIDTH
    values = (parts if fits.all() else parts.filter(pa.array(fits))).flatten()
    starts = np.arange(0, len(values), width)
    # A model may use 20 of 200 columns: extract only those.
    positions = {name: row_format.columns.index(name) for name in row_format.columns_to_read}
    return {name: values.take(pa.array(starts + position)) for name, position in positions.items()}, reasons


def _split_with_arrow(lines: pa.Array, row_format: RowFormat) -> dict[str, pa.Array] | None:
    """String columns by Arrow's CSV parser, or None if a line is malformed or may be.

    Arrow stops at the first malformed line and at one longer than a block, treats a carriage return as a
    line end, and supports neither our quoting rules nor non-ASCII delimiters. Such batches use the slower
    path, which separates good lines from bad ones.
    """
    assert row_format.delimiter is not None
    if row_format.quote is not None or not row_format.delimiter.isascii() or not len(lines):
        return None
    content = _line_bytes(lines)
    # Arrow would read "\r" as a line end, drop a byte-order mark, and read an empty line as a row of empty
    # columns.
    if b"\r" in content or content.startswith(BOM_UTF8) or pc.min(pc.binary_length(lines)).as_py() <= 1:
        return None
    try:
        # Check the whole line, as the slower path does: a row's result must not depend on its batch.
        lines.cast(pa.string())
        columns = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=list(row_format.columns)
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=row_format.delimiter, quote_char=False, ignore_empty_lines=False
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(row_format.columns, pa.string()),
                include_columns=sorted(row_format.columns_to_read),
                check_utf8=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowCapacityError):
        return None
    return {name: columns.column(name).combine_chunks() for name in columns.column_names}


def _line_bytes(lines: pa.Array) -> bytes:
    """Bytes of consecutive lines, which are contiguous in an array's buffer."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]].tobytes()


def _without_newlines(lines: pa.Array) -> list[bytes]:
    return _line_bytes(lines).split(b"\n")[:-1] if len(lines) else []


def decoded_columns(columns: pa.Table) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Text columns of a Parquet log -> columns of the rows that are valid UTF-8, and (n,) reason codes."""
    reasons = np.zeros(columns.num_rows, np.int8)
    for column in columns.columns:
        # Spark does not validate the encoding: any bytes that a file declares as a string arrive here.
        _decoded(pc.fill_null(column.combine_chunks().cast(pa.binary()), b""), reasons)
    if reasons.any():
        columns = columns.filter(pa.array(reasons == 0))
    return {name: columns.column(name).combine_chunks() for name in columns.column_names}, reasons


def _decoded(lines: pa.Array, reasons: np.ndarray) -> pa.Array:
    """Lines that are valid UTF-8, as strings; mark the others in `reasons`."""
    try:
        return lines.cast(pa.string())
    except pa.ArrowInvalid:
        for row, line in enumerate(lines.to_pylist()):
            try:
                line.decode()
            except UnicodeDecodeError:
                reasons[row] = NOT_UTF8
        return lines.filter(pa.array(reasons == 0)).cast(pa.string())


def _split_quoted(texts: pa.Array, row_format: RowFormat) -> pa.Array:
    assert row_format.delimiter is not None
    # Line by line: with an unbalanced quote a block parser would consume the following lines.
    split = [split_line(text, row_format.delimiter, row_format.quote) for text in texts.to_pylist()]
    return pa.array(split, pa.list_(pa.string()))


def split_line(text: str, delimiter: str, quote: str | None) -> list[str]:
    """Values of one line without its line end; empty if its quotes are malformed."""
    if quote is None:
        return text.split(delimiter)
    csv.field_size_limit(1 << 30)  # the default of 128 KiB is too small
    try:
        return next(csv.reader([text], delimiter=delimiter, quotechar=quote, strict=True), [])
    except csv.Error:
        return []
