"""Byte ranges of text files: each line is in exactly one."""

import gzip

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepfm.click_log.log_files import LogFile
from deepfm.click_log.text import ranges as text_ranges
from deepfm.click_log.text.ranges import (
    LINES_SCHEMA,
    lines_table,
    read_tables,
    row_hashes,
    split_into_ranges,
)
from deepfm.errors import UserError

BOM = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "log.tsv"


def lines_read(path, range_bytes):
    ranges = split_into_ranges([LogFile(f"file://{path}", path.stat().st_size)], range_bytes)
    tables = [table for text_range in ranges for table in read_tables(text_range)]
    assert all(table.schema == LINES_SCHEMA and table.num_rows for table in tables)
    return [line for table in tables for line in table.column("line").to_pylist()]


def expected_lines(content):
    lines = content.removeprefix(BOM).split(b"\n")
    # After a trailing newline there is no further line.
    lines = lines if lines[-1] else lines[:-1]
    return [line + b"\n" for line in lines]


@given(
    lines=st.lists(st.sampled_from([b"", b"\r", b"a", b"\x00\xff", b"bc" * 9, b"d" * 40]), max_size=12),
    ends=st.booleans(),
    mark=st.booleans(),
    range_bytes=st.integers(1, 60),
)
@example(lines=[b"a", b"bc"], ends=True, mark=False, range_bytes=2)  # a line starts where a range does
@example(lines=[b"d" * 40, b"a"], ends=False, mark=False, range_bytes=5)  # a line longer than ranges
def test_every_line_is_complete_and_in_one_range(path, lines, ends, mark, range_bytes):
    content = (BOM if mark else b"") + b"\n".join(lines) + (b"\n" if ends else b"")
    path.write_bytes(content)
    assert lines_read(path, max(range_bytes, len(BOM))) == expected_lines(content)


def test_a_line_may_end_far_after_its_range(path, monkeypatch):
    monkeypatch.setattr(text_ranges, "_STEP_BYTES", 7)
    path.write_bytes(b"a\n" + b"x" * 100 + b"\nb")
    assert lines_read(path, 4) == [b"a\n", b"x" * 100 + b"\n", b"b\n"]


@pytest.mark.parametrize("content", [b"a\n\nb", BOM + b"a\nb\n", b"no newline", b"x" * 50 + b"\ny\n"])
def test_a_compressed_file_is_one_range_read_in_chunks(tmp_path, monkeypatch, content):
    monkeypatch.setattr(text_ranges, "MAX_RANGE_BYTES", 8)
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress(content))
    assert len(split_into_ranges([LogFile(f"file://{path}", 1000)], 10)) == 1
    assert lines_read(path, 10) == expected_lines(content)


def test_rows_have_file_and_day_and_a_hash_of_the_line_only(tmp_path):
    table = lines_table(b"a\nb\na\n", "file:///log", "2026-01-01")
    assert table.column("source_file").to_pylist() == ["file:///log"] * 3
    assert table.column("ds").to_pylist() == ["2026-01-01"] * 3
    hashes = table.column("row_hash").to_pylist()
    assert hashes[0] == hashes[2] != hashes[1]
    assert hashes[:2] == row_hashes(np.array([b"a", b"b"], object)).tolist()
    assert lines_table(b"a\n", "file:///log", None).column("ds").to_pylist() == [None]


def test_hashes_never_change():
    # SipHash-2-4 with pandas' key; if these changed, rows would move between train, valid and test.
    assert row_hashes(np.array([b"", b"1\t7\ta"], object)).tolist() == [
        1760245841805064774,
        -74596273992055486,
    ]


def test_a_truncated_compressed_file_is_named(tmp_path):
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress(b"1\t7\ta\n" * 99)[:-10])
    with pytest.raises(UserError, match=r"log\.tsv\.gz: corrupt or truncated compressed file"):
        lines_read(path, 10)
