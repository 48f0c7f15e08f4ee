"""Number of rows of text files, counted from their bytes alone: an independent check of the rows read."""

from codecs import BOM_UTF8
from collections.abc import Iterator

from deepfm import storage
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.text.multiline import iterate_records
from deepfm.click_log.text.ranges import TextRange

_BLANK = (b"\n", b"\r\n")


def count_rows_of(part: TextRange, row_format: RowFormat) -> int:
    """Count the lines that start in a range, without headers, blank lines and comments."""
    header, comment = (
        _header_of(part.url, row_format),
        (row_format.comment or "").encode(row_format.encoding),
    )
    if row_format.multiline:
        return _count_rows(iterate_records(part.url, row_format), header, comment)
    if part.stop is None:
        with storage.open_decompressed(part.url) as file:
            return _count_rows(file, header, comment)
    return _count_in_range(part, header, comment)


def _header_of(url: str, row_format: RowFormat) -> bytes | None:
    if url in row_format.other_headers:
        return row_format.other_headers[url].line
    line = row_format.header_line
    return None if line is None else line.encode(row_format.encoding)


def _count_rows(lines: Iterator[bytes], header: bytes | None, comment: bytes) -> int:
    number = 0
    for index, line in enumerate(lines):
        text = line.removeprefix(BOM_UTF8) if index == 0 else line
        text = text if not text or text.endswith(b"\n") else text + b"\n"
        is_row = bool(text) and text not in _BLANK and text.removesuffix(b"\n") != header
        number += is_row and not (comment and text.startswith(comment))
    return number


def _count_in_range(part: TextRange, header: bytes | None, comment: bytes) -> int:
    assert part.stop is not None
    # Start one byte earlier: a newline there means that a line starts at the start of the range.
    first_byte, num_bytes = max(part.start - 1, 0), part.stop - part.start
    margin = max(len(header or b""), len(comment), 2) + 1
    with storage.open_file(part.url) as file:
        file.seek(first_byte)
        content = file.read(part.stop - first_byte + margin)
    if part.start == 0:
        if content.startswith(BOM_UTF8):
            content, num_bytes = content.removeprefix(BOM_UTF8), num_bytes - len(BOM_UTF8)
        if not content:
            return 0
        content = b"\n" + content  # before the first line as before the others
    number = content.count(b"\n", 0, num_bytes)
    if not content.endswith(b"\n"):
        content += b"\n"  # the last line of a file may have none
    others = [b"\n" + blank for blank in _BLANK]
    if header is not None and not (comment and header.startswith(comment)):
        others.append(b"\n" + header + b"\n")
    if comment:
        others.append(b"\n" + comment)
    return number - sum(_count(content, text, num_bytes) for text in others)


def _count(content: bytes, text: bytes, num_bytes: int) -> int:
    """Count the places before `num_bytes` where the text occurs, also overlapping ones."""
    number, place = 0, content.find(text)
    while 0 <= place < num_bytes:
        number += 1
        place = content.find(text, place + 1)
    return number
