"""Delimited text as people write it: quotes, escapes, delimiters, encodings, comments, JSON lines."""

import csv
import gzip
import io
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.click_log.row_format import REASONS, RowFormat
from deepfm.click_log.text.columns import split_lines, split_rows
from deepfm.click_log.text.multiline import read_records
from deepfm.click_log.text.ranges import LINES_SCHEMA, TextRange, lines_table
from deepfm.click_log.text.row_count import count_rows_of
from deepfm.click_log.text.split_line import split_line
from deepfm.errors import UserError
from deepfm.fields import Field, FieldSet
from deepfm.kinds.time import parse_times

FIELDS = FieldSet([Field(name=name, kind="category") for name in ("A", "B")])
PLAIN = RowFormat(columns=("A", "B"), fields=FIELDS, delimiter=",")
QUOTED = replace(PLAIN, quote='"')
SPARK = replace(QUOTED, escape="\\")


def rows(text, row_format):
    """(rows, reasons) of complete lines."""
    content = text if isinstance(text, bytes) else text.encode()
    lines = lines_table(content, "log.csv", None)
    _, columns, reasons = split_rows(lines, row_format)
    return list(zip(columns["A"].to_pylist(), columns["B"].to_pylist(), strict=True)), [
        REASONS[code] for code in reasons if code
    ]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (r'"say \"hi\", ok",b', ['say "hi", ok', "b"]),
        (r'"a ""b""",c', ['a "b"', "c"]),
        (r'"ends with \\",b', ["ends with \\", "b"]),
        (r'"\n stays",\N', [r"\n stays", r"\N"]),
        ('"",', ["", ""]),
        ("a,b", ["a", "b"]),
        ('a "b" c,d', ['a "b" c', "d"]),
        ('"open,b', []),
        ('"closed"x,b', []),
    ],
)
def test_quotes_within_quotes_may_follow_a_backslash_as_spark_writes_them(line, values):
    assert split_line(line, SPARK) == values


@given(st.lists(st.text(st.sampled_from('a", \n\\é'), max_size=8), min_size=2, max_size=2))
def test_what_pythons_csv_writes_is_read_back(tmp_path_factory, values):
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(values)
    file = tmp_path_factory.mktemp("log") / "log.csv"
    file.write_bytes(out.getvalue().encode() * 3)
    multiline = replace(QUOTED, multiline=True)
    tables = list(read_records(f"file://{file}", None, multiline))
    assert [tables[0].schema, sum(table.num_rows for table in tables)] == [LINES_SCHEMA, 3]
    _, columns, reasons = split_rows(tables[0], multiline)
    assert not reasons.any()
    assert [columns[name][2].as_py() for name in "AB"] == values
    assert count_rows_of(TextRange(f"file://{file}", None, 0, None), multiline) == 3


def test_a_line_break_in_quotes_needs_multiline():
    assert rows('a,b\n"two\nlines",c\n', QUOTED) == ([("a", "b")], ["wrong_number_of_columns"] * 2)


@pytest.mark.parametrize("quote", [None, '"'])
def test_a_delimiter_may_have_several_characters(quote):
    movielens = replace(PLAIN, delimiter="::", quote=quote)
    assert rows("a::b\nc:d::\n", movielens) == ([("a", "b"), ("c:d", "")], [])
    assert rows("a\x1f::b\n", movielens) == ([("a\x1f", "b")], [])
    assert rows("a::b::c\n", movielens) == ([], ["wrong_number_of_columns"])
    assert split_line('"a::b"::c', replace(movielens, quote='"')) == ["a::b", "c"]


@pytest.mark.parametrize("quote", [None, '"'])
def test_blanks_after_a_delimiter_may_be_skipped(quote):
    spaced = replace(PLAIN, skip_initial_space=True, quote=quote)
    assert rows("a, b \n  c,d\n", spaced) == ([("a", "b "), ("c", "d")], [])
    assert split_line('a, "b, c"', replace(spaced, quote='"')) == ["a", "b, c"]


def test_comments_blank_lines_and_headers_are_no_rows():
    commented = replace(PLAIN, comment="//", header_line="A,B")
    assert rows("A,B\n\n// x\na,b\n\r\nA,B\n", commented) == ([("a", "b")], [])


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "cp1252", "utf-8"])
def test_text_may_have_another_encoding(encoding):
    text = "ä" if encoding in ("latin-1", "cp1252") else "用户"
    in_encoding = replace(PLAIN, encoding=encoding)
    assert rows(f"{text},b\n".encode(encoding), in_encoding) == ([(text, "b")], [])


def test_bytes_that_are_not_in_the_encoding_are_rejected():
    assert rows(b"a,b\n\xff\xff,b\nc,d\n", replace(PLAIN, encoding="gbk")) == (
        [("a", "b"), ("c", "d")],
        ["not_utf8"],
    )


JSON = replace(PLAIN, delimiter=None, is_json=True)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('{"A": "x"}', "x"), ('{"A": 1}', "1"), ('{"A": 1.0}', "1"), ('{"A": 1e3}', "1000"),
        ('{"A": true}', "1"),
        ('{"A": null}', None), ("{}", None), ('{"A": NaN}', None),
        ('{"A": 1000009418151094273}', "1000009418151094273"),
        ('{"A": 0.1}', "0.1"), ('  {"A": ""}\r', ""),
    ],
)  # fmt: skip
def test_json_values_are_those_of_parquet(line, value):
    assert rows(line + "\n", JSON) == ([(value, None)], [])


@pytest.mark.parametrize("line", ["[1]", "1", "{", "", "nul", '{"A": 1}}', "[" * 100_000])
def test_a_line_that_is_no_json_object_is_rejected(line):
    assert rows(f'{{"A": "x"}}\n{line or "x"}\n', JSON) == ([("x", None)], ["not_a_json_object"])


def test_json_objects_in_objects_are_read_by_their_path():
    fields = FieldSet(
        [Field(name="A", kind="category", source="geo.country"), Field(name="B", kind="category")]
    )
    nested = replace(JSON, fields=fields)
    lines = pa.array(
        [b'{"geo": {"country": "de"}}\n', b'{"geo.country": "fr"}\n', b'{"geo": 1}\n'], pa.binary()
    )
    assert split_lines(lines, nested)[0]["geo.country"].to_pylist() == ["de", "fr", None]
    assert rows('{"A": {"b": 1}}\n{"A": [1]}\n', JSON) == ([], ["value_without_text"] * 2)


def test_json_arrays_are_lists():
    fields = FieldSet([Field(name="A", kind="list", max_values=3), Field(name="B", kind="category")])
    assert rows('{"A": ["a", 1, null]}\n{"A": [["a"]]}\n', replace(JSON, fields=fields)) == (
        [("a\x1f1", None)],
        ["value_without_text"],
    )


@pytest.mark.parametrize("line", ["now", "today", "NOW"])
def test_a_word_is_no_time(line):
    seconds, is_time = parse_times(pa.array([line]), "%y%m%d%H")
    assert (seconds.to_pylist(), is_time.tolist()) == ([None], [False])


def test_half_of_a_character_in_json_is_rejected():
    text = '{"A": "cut \\ud83d"}\n{"A": "\\ud83d\\ude00"}\n'
    assert rows(text, JSON) == ([("😀", None)], ["value_without_text"])


MULTILINE = replace(SPARK, multiline=True, comment="#", header_line="A,B")


def read_file(path, text, row_format=MULTILINE):
    """Good rows and number of bad rows of a file; rows are counted independently."""
    path.write_bytes(text.encode())
    good, num_bad = [], 0
    for table in read_records(f"file://{path}", None, row_format):
        _, columns, reasons = split_rows(table, row_format)
        good += zip(columns["A"].to_pylist(), columns["B"].to_pylist(), strict=True)
        num_bad += int((reasons != 0).sum())
    assert count_rows_of(TextRange(f"file://{path}", None, 0, None), row_format) == len(good) + num_bad
    return good, num_bad


@pytest.mark.parametrize(
    ("text", "good", "num_bad"),
    [
        ('# a,"b\nA,B\n\na,"b\nc"\n', [("a", "b\nc")], 0),  # a quote in a comment opens nothing
        ('a,C:\\\nb,c\n"x","y\\"\nz"\n', [("a", "C:\\"), ("b", "c"), ("x", 'y"\nz')], 0),
        ("a,x\ry\nb,c\r\n", [("a", "x\ry"), ("b", "c")], 0),
        ('a,"x"y\nb,c\n', [("b", "c")], 1),
        ('a,"no end', [], 1),
        ("a,b", [("a", "b")], 0),
    ],
)
def test_rows_of_several_lines_end_where_their_quotes_do(tmp_path, text, good, num_bad):
    assert read_file(tmp_path / "log.csv", text) == (good, num_bad)


def test_a_quote_that_is_never_closed_is_an_error(tmp_path):
    with pytest.raises(UserError, match="expected each quote to be closed, found a row that does not end"):
        read_file(tmp_path / "log.csv", 'a,b\na,"oops\n' + "a,b\n" * 20)


def test_a_compressed_file_may_end_in_a_carriage_return(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\r\n\r"))
    assert count_rows_of(TextRange(f"file://{path}", None, 0, None), PLAIN) == 1
