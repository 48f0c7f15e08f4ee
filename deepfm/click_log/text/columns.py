"""Conversion of raw lines, or of the text columns of Parquet, to string columns and reason codes."""

from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from deepfm.click_log.row_format import NOT_UTF8, WRONG_WIDTH, Header, RowFormat
from deepfm.click_log.text.json_lines import parse_json_lines
from deepfm.click_log.text.split_line import UNIT_SEPARATOR, split_line

#: Block size of Arrow's CSV reader. Blocks that fit in the CPU cache are parsed twice as fast as all at once.
_BLOCK_BYTES = 1 << 20
_NO_ROWS = ("\n", "\r\n")

Columns = dict[str, pa.Array]


def split_rows(batch: pa.Table, row_format: RowFormat) -> tuple[pa.Table, Columns, np.ndarray]:
    """Raw rows of text -> those that are rows, string columns of the well-formed ones, and reason codes.

    Headers, blank lines and comments are no rows.
    """
    if not row_format.other_headers or not batch.num_rows:
        batch = _filter(batch, _are_rows(batch.column("line").combine_chunks(), row_format))
        return batch, *split_lines(batch.column("line").combine_chunks(), row_format)
    numbers, formats = _formats_of_files(batch.column("source_file").combine_chunks(), row_format)
    lines = batch.column("line").combine_chunks()
    is_row = np.ones(len(lines), bool)
    for number, of_files in enumerate(formats):
        is_row[numbers == number] = _are_rows(lines.filter(pa.array(numbers == number)), of_files)
    batch, lines, numbers = (_filter(batch, is_row), lines.filter(pa.array(is_row)), numbers[is_row])
    return batch, *_split_by_format(lines, numbers, formats)


def _formats_of_files(files: pa.Array, row_format: RowFormat) -> tuple[np.ndarray, list[RowFormat]]:
    """(n,) files -> (n,) numbers of their formats, and the formats."""
    distinct = files.dictionary_encode()
    common = Header((row_format.header_line or "").encode(row_format.encoding), row_format.columns)
    headers = [row_format.other_headers.get(file, common) for file in distinct.dictionary.to_pylist()]
    different = list(dict.fromkeys(headers))
    numbers = np.array([different.index(header) for header in headers], np.int64)
    formats = [
        replace(
            row_format,
            columns=one.columns,
            header_line=one.line.decode(row_format.encoding),
            other_headers={},
        )
        for one in different
    ]
    return numbers[np.asarray(distinct.indices)], formats


def _split_by_format(
    lines: pa.Array, numbers: np.ndarray, formats: list[RowFormat]
) -> tuple[Columns, np.ndarray]:
    reasons = np.zeros(len(lines), np.int8)
    parts, places = [], []
    for number, row_format in enumerate(formats):
        rows = np.flatnonzero(numbers == number)
        columns, reasons[rows] = split_lines(lines.take(pa.array(rows)), row_format)
        well_formed = rows[reasons[rows] == 0]
        parts.append(
            {
                name: columns.get(name, pa.nulls(len(well_formed), pa.string()))
                for name in row_format.file_columns
            }
        )
        places.append(well_formed)
    order = pa.array(np.argsort(np.concatenate(places)))
    joined = {name: pa.concat_arrays([part[name] for part in parts]).take(order) for name in parts[0]}
    return joined, reasons


def _filter(batch: pa.Table, selected: np.ndarray) -> pa.Table:
    return batch if selected.all() else batch.filter(pa.array(selected))


def _are_rows(lines: pa.Array, row_format: RowFormat) -> np.ndarray:
    """(n,) lines with their newlines -> (n,) bool."""
    is_row = np.ones(len(lines), bool)
    if row_format.header_line is not None:
        header = row_format.header_line.encode(row_format.encoding) + b"\n"
        is_row &= np.asarray(pc.not_equal(lines, header))
    if len(lines) and pc.min(pc.binary_length(lines)).as_py() <= 2:
        blank = pa.array([text.encode() for text in _NO_ROWS], pa.binary())
        is_row &= ~np.asarray(pc.is_in(lines, blank))
    if row_format.comment is not None:
        is_row &= ~np.asarray(pc.starts_with(lines, row_format.comment.encode(row_format.encoding)))
    return is_row


def split_lines(lines: pa.Array, row_format: RowFormat) -> tuple[Columns, np.ndarray]:
    """(n,) lines with their newlines -> string columns of the well-formed rows, and (n,) reason codes."""
    reasons = np.zeros(len(lines), np.int8)
    if row_format.encoding != "utf-8":
        lines = _transcoded(lines, row_format.encoding, reasons)
    if row_format.is_json:
        return _into_well_formed(parse_json_lines, lines, row_format, reasons)
    columns = None if reasons.any() else _split_with_arrow(lines, row_format)
    if columns is not None:
        return columns, reasons
    return _into_well_formed(_split_one_by_one, lines, row_format, reasons)


def _into_well_formed(
    split: Callable[[list[str], RowFormat], tuple[Columns, np.ndarray]],
    lines: pa.Array,
    row_format: RowFormat,
    reasons: np.ndarray,
) -> tuple[Columns, np.ndarray]:
    """Split the lines that are valid UTF-8 and without a reason so far."""
    rows = np.flatnonzero(reasons == 0)
    well_encoded = lines.filter(pa.array(reasons == 0)) if reasons.any() else lines
    encoding_reasons = np.zeros(len(rows), np.int8)
    texts = _decoded(pa.array(_without_newlines(well_encoded), pa.binary()), encoding_reasons)
    reasons[rows] = encoding_reasons
    # A carriage return before the newline is part of the line end, not of the last column.
    if pc.any(pc.ends_with(texts, "\r")).as_py():
        texts = pc.ascii_rtrim(texts, "\r")
    columns, faults = split(texts, row_format)
    reasons[rows[encoding_reasons == 0]] = faults
    return columns, reasons


def _split_one_by_one(texts: pa.Array, row_format: RowFormat) -> tuple[Columns, np.ndarray]:
    """(n,) strings -> columns of the rows with the right number of values, and (n,) reason codes."""
    if row_format.quote is None:
        parts = pc.split_pattern(texts, row_format.delimiter)
    else:
        # Line by line: with an unbalanced quote a block parser would consume the following lines.
        split = [split_line(text, row_format) for text in texts.to_pylist()]
        parts = pa.array(split, pa.list_(pa.string()))
    width = len(row_format.columns)
    fits = np.asarray(pc.equal(pc.list_value_length(parts), width))
    values = (parts if fits.all() else parts.filter(pa.array(fits))).flatten()
    starts = np.arange(0, len(values), width)
    # A model may use 20 of 200 columns: extract only those.
    positions = {name: row_format.columns.index(name) for name in _present_columns(row_format)}
    columns = {name: values.take(pa.array(starts + position)) for name, position in positions.items()}
    return _trimmed(columns, row_format), np.where(fits, 0, WRONG_WIDTH)


def _present_columns(row_format: RowFormat) -> list[str]:
    """Columns to read that the file has: the first files may lack some."""
    return sorted(row_format.file_columns & set(row_format.columns))


def _trimmed(columns: Columns, row_format: RowFormat) -> Columns:
    # Quoted values keep the blanks within their quotes.
    if not row_format.skip_initial_space or row_format.quote is not None:
        return columns
    return {name: pc.utf8_ltrim(column, " ") for name, column in columns.items()}


def _split_with_arrow(lines: pa.Array, row_format: RowFormat) -> Columns | None:
    """String columns by Arrow's CSV parser, or None if a line is malformed or may be.

    Arrow stops at the first malformed line and at one longer than a block, treats a carriage return as a
    line end, and supports neither our quoting rules nor non-ASCII delimiters. Such batches use the slower
    path, which separates good lines from bad ones.
    """
    content, delimiter = _line_bytes(lines), row_format.delimiter
    assert delimiter is not None
    if not len(lines) or (row_format.quote is not None and row_format.quote.encode() in content):
        return None
    # Arrow would read "\r" as a line end, drop a byte-order mark, and read an empty line as a row of empty
    # columns.
    if b"\r" in content or content.startswith(BOM_UTF8) or pc.min(pc.binary_length(lines)).as_py() <= 1:
        return None
    if len(delimiter) > 1 and UNIT_SEPARATOR.encode() not in content:
        content, delimiter = (content.replace(delimiter.encode(), UNIT_SEPARATOR.encode()), UNIT_SEPARATOR)
    if len(delimiter) > 1 or not delimiter.isascii():
        return None
    try:
        # Check the whole line, as the slower path does: a row's result must not depend on its batch.
        lines.cast(pa.string())
        columns = _read_csv(content, delimiter, row_format)
    except (pa.ArrowInvalid, pa.ArrowCapacityError):
        return None
    if row_format.skip_initial_space:
        return {name: pc.utf8_ltrim(column, " ") for name, column in columns.items()}
    return columns


def _read_csv(content: bytes, delimiter: str, row_format: RowFormat) -> Columns:
    columns = arrow_csv.read_csv(
        pa.BufferReader(content),
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, column_names=list(row_format.columns)
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(row_format.columns, pa.string()),
            include_columns=_present_columns(row_format),
            check_utf8=False,
        ),
    )
    return {name: columns.column(name).combine_chunks() for name in columns.column_names}


def _line_bytes(lines: pa.Array) -> bytes:
    """Bytes of consecutive lines, which are contiguous in an array's buffer."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]].tobytes()


def _without_newlines(lines: pa.Array) -> list[bytes]:
    # A line may contain line breaks in quotes, so each ends at its own last byte.
    return [line[:-1] for line in lines.to_pylist()]


def _transcoded(lines: pa.Array, encoding: str, reasons: np.ndarray) -> pa.Array:
    """Lines in UTF-8; mark those that are not in the encoding in `reasons`."""
    texts: list[bytes] = []
    for row, line in enumerate(lines.to_pylist()):
        try:
            texts.append(line.decode(encoding).encode())
        except UnicodeError:
            reasons[row] = NOT_UTF8
            texts.append(b"\n")
    return pa.array(texts, pa.binary())


def decoded_columns(columns: pa.Table) -> tuple[Columns, np.ndarray]:
    """Text columns of a Parquet log -> columns of the rows that are valid UTF-8, and (n,) reason codes."""
    reasons = np.zeros(columns.num_rows, np.int8)
    for column in columns.columns:
        # Files are not validated: any bytes that one declares as a string arrive here.
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
