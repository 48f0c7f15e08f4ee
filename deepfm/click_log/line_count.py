"""Number of lines of text files, counted from newlines alone: an independent check of the rows read."""

from codecs import BOM_UTF8

from deepfm import storage
from deepfm.click_log.text_ranges import TextRange


def count_lines_of(part: TextRange, header: bytes | None) -> int:
    """Count the lines that start in a range, without those that are equal to `header`."""
    if part.stop is None:
        return _count_compressed(part.url, header)
    # Start one byte earlier: a newline there means that a line starts at the start of the range.
    first_byte, num_bytes = max(part.start - 1, 0), part.stop - part.start
    with storage.open_file(part.url) as file:
        file.seek(first_byte)
        content = file.read(part.stop - first_byte + len(header or b"") + 1)
    if part.start == 0:
        if content.startswith(BOM_UTF8):
            content, num_bytes = content.removeprefix(BOM_UTF8), num_bytes - len(BOM_UTF8)
        if not content:
            return 0
        content = b"\n" + content  # before the first line as before the others
    return content.count(b"\n", 0, num_bytes) - _count_headers(content, num_bytes, header)


def _count_headers(content: bytes, num_bytes: int, header: bytes | None) -> int:
    """Count the lines that are equal to the header and follow one of the first `num_bytes` bytes."""
    if header is None:
        return 0
    content += b"\n"  # the last line of a file may have none
    line = b"\n" + header + b"\n"
    number, place = 0, content.find(line)
    while 0 <= place < num_bytes:
        number += 1
        place = content.find(line, place + 1)
    return number


def _count_compressed(url: str, header: bytes | None) -> int:
    number = 0
    with storage.open_decompressed(url) as file:
        for index, line in enumerate(file):
            text = line.removeprefix(BOM_UTF8) if index == 0 else line
            number += bool(text) and text.removesuffix(b"\n") != header
    return number
