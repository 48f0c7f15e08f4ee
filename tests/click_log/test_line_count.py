"""Lines are counted once, whatever the ranges: as many as the reader of the same ranges returns."""

import gzip
from codecs import BOM_UTF8

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.click_log.line_count import count_lines_of
from deepfm.click_log.text_ranges import LogFile, read_tables, split_into_ranges

HEADER = b"a,b"
CONTENTS = [
    b"", b"\n", b"x", b"x\n", b"\n\n", b"x\r\ny", BOM_UTF8, BOM_UTF8 + b"x\n", HEADER, HEADER + b"\n",
    HEADER + b"\nx\n" + HEADER, HEADER + b"\n" + HEADER + b"\n" + HEADER + b"\nx",
    b"a,bc\n" + HEADER + b"c\n",
    BOM_UTF8 + HEADER + b"\nx\n", b"long line " * 20 + b"\n" + HEADER + b"\n",
]  # fmt: skip


def ranges(path, range_bytes):
    return split_into_ranges([LogFile(f"file://{path}", path.stat().st_size)], range_bytes)


def counted(path, range_bytes, header):
    return sum(count_lines_of(part, header) for part in ranges(path, range_bytes))


def read(path, range_bytes, header):
    """Number of lines that the tasks read, without headers."""
    tables = (table for part in ranges(path, range_bytes) for table in read_tables(part))
    lines = [line for table in tables for line in table.column("line").to_pylist()]
    return sum(header is None or line != header + b"\n" for line in lines)


@pytest.mark.parametrize("header", [None, HEADER])
@pytest.mark.parametrize("content", CONTENTS)
def test_lines_are_those_that_are_read(tmp_path, content, header):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress(content))
    for range_bytes in (4, 5, 7, 1000):  # at least as long as a byte-order mark
        assert counted(path, range_bytes, header) == read(path, range_bytes, header)
    assert counted(packed, 1000, header) == read(path, 1000, header)


@given(st.lists(st.sampled_from([b"\n", b"x", b"\r", HEADER, BOM_UTF8])).map(b"".join), st.integers(4, 9))
def test_any_text_has_as_many_lines_as_are_read(tmp_path_factory, content, range_bytes):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(content)
    assert counted(path, range_bytes, HEADER) == read(path, range_bytes, HEADER)
