"""Lines are counted once, whatever the ranges: as many as the reader of the same ranges returns."""

import gzip
from codecs import BOM_UTF8

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.click_log.log_files import LogFile
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.text.columns import split_rows
from deepfm.click_log.text.ranges import read_tables, split_into_ranges
from deepfm.click_log.text.row_count import count_rows_of
from deepfm.fields import FieldSet

HEADER = b"a,b"
CONTENTS = [
    b"", b"\n", b"x", b"x\n", b"\n\n", b"x\r\ny", BOM_UTF8, BOM_UTF8 + b"x\n", HEADER, HEADER + b"\n",
    HEADER + b"\nx\n" + HEADER, HEADER + b"\n" + HEADER + b"\n" + HEADER + b"\nx",
    b"a,bc\n" + HEADER + b"c\n",
    BOM_UTF8 + HEADER + b"\nx\n", b"long line " * 20 + b"\n" + HEADER + b"\n",
]  # fmt: skip


def ranges(path, range_bytes):
    return split_into_ranges([LogFile(f"file://{path}", path.stat().st_size)], range_bytes)


def row_format(header):
    line = header and header.decode()
    return RowFormat(columns=("a", "b"), fields=FieldSet([]), delimiter=",", header_line=line, comment="#")


def counted(path, range_bytes, header):
    return sum(count_rows_of(part, row_format(header)) for part in ranges(path, range_bytes))


def read(path, range_bytes, header):
    """Number of rows that the tasks read: lines without headers, blank ones and comments."""
    tables = (table for part in ranges(path, range_bytes) for table in read_tables(part))
    return sum(split_rows(table, row_format(header))[0].num_rows for table in tables)


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


@given(
    st.lists(st.sampled_from([b"\n", b"x", b"\r", b"#", HEADER, BOM_UTF8])).map(b"".join), st.integers(4, 9)
)
def test_any_text_has_as_many_lines_as_are_read(tmp_path_factory, content, range_bytes):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(content)
    assert counted(path, range_bytes, HEADER) == read(path, range_bytes, HEADER)
