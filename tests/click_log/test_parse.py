"""Parsing of raw rows to typed columns; a malformed row is rejected with a reason and affects no others."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepfm.click_log.labels_and_days import is_day, parse_labels
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.row_format import REASONS, RowFormat
from deepfm.fields import Field, FieldSet

FIELDS = FieldSet([Field(name="I", kind="count"), Field(name="C", kind="category")])
TAB = RowFormat(columns=("label", "I", "C"), fields=FIELDS, delimiter="\t", label="label")
#: A field of kind value, and a crossed field, which has no column.
WITH_VALUE = RowFormat(
    columns=("label", "V", "I"),
    fields=FieldSet(
        [
            Field(name="V", kind="value"),
            Field(name="I", kind="count"),
            Field(name="I_x_J", kind="cross", parts=("I", "J"), buckets=9),
        ]
    ),
    delimiter="\t",
    label="label",
)
CSV = RowFormat(columns=("label", "I", "C"), fields=FIELDS, delimiter=",", quote='"', label="label")
#: A column that no field uses.
WITH_UNUSED = replace(TAB, columns=("label", "I", "C", "note"))


def parse(lines, row_format=TAB, ds=None):
    """Parse lines; row hashes are the line indices."""
    batch = pa.table(
        {
            "line": pa.array([line + b"\n" for line in lines], pa.binary()),
            "source_file": pa.array(["log.tsv"] * len(lines), pa.string()),
            "ds": pa.array([ds] * len(lines), pa.string()),
            "row_hash": pa.array(range(len(lines)), pa.int64()),
        }
    )
    return parse_rows(batch, row_format)


def values(parsed):
    return list(zip(*parsed.raw.to_pydict().values(), strict=True))


def reasons(parsed):
    return parsed.bad.column("reason").to_pylist()


def reason_of(line, row_format=TAB):
    """Reason of one line between two good ones, which must be accepted."""
    parsed = parse([b"0\t1\ta".replace(b"\t", row_format.delimiter.encode())] * 2, row_format)
    assert parsed.num_good == 2
    good = b"0\t1\ta".replace(b"\t", row_format.delimiter.encode())
    parsed = parse([good, line, good], row_format)
    assert parsed.row_hashes.tolist()[0] == 0
    assert parsed.row_hashes.tolist()[-1] == 2
    return reasons(parsed)[0] if reasons(parsed) else "good"


@pytest.mark.parametrize("delimiter", ["\x01", "¦", "→"])
def test_any_character_may_be_the_delimiter(delimiter):
    row_format = replace(TAB, delimiter=delimiter)
    lines = [delimiter.join(columns).encode() for columns in (("1", "7", "é"), ("0", "", "a b"))]
    assert values(parse(lines, row_format)) == [(7, "é"), (None, "a b")]


EMPTY = pa.table(
    {"I": pa.array([], pa.int64()).dictionary_encode(), "C": pa.array([], pa.string()).dictionary_encode()}
)


def test_a_row_becomes_a_label_a_count_and_a_category():
    parsed = parse([b"1\t7\tshoes", b"0\t-2\t68fd1e64"])
    assert parsed.labels.tolist() == [1, 0]
    assert values(parsed) == [(7, "shoes"), (-2, "68fd1e64")]
    assert parsed.raw.schema.types == [pa.dictionary(pa.int32(), kind) for kind in (pa.int64(), pa.string())]
    assert parsed.bad.num_rows == 0


def test_an_empty_value_is_missing():
    assert values(parse([b"1\t\t"])) == [(None, None)]


def test_a_zero_is_not_missing():
    assert values(parse([b"1\t0\t0"])) == [(0, "0")]


def test_empty_columns_at_the_end_are_kept():
    wide = RowFormat(columns=("label", "I", "C", "D"), fields=FIELDS, delimiter="\t", label="label")
    assert values(parse([b"1\t5\t\t"], wide)) == [(5, None)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1\t7\t\xff\xfe", "not_utf8"),
        (b"1\t7", "wrong_number_of_columns"),
        (b"1\t7\ta\tb", "wrong_number_of_columns"),
        (b"2\t7\ta", "label_not_0_or_1"),
        (b"1\tseven\ta", "count_not_an_integer"),
        (b"2\tseven\ta", "label_not_0_or_1"),  # the first of two reasons
    ],
)
def test_a_malformed_row_is_rejected_with_its_reason(line, reason):
    assert reason_of(line) == reason


def test_every_reason_except_good_occurs():
    with_day = replace(WITH_VALUE, columns=("label", "V", "I", "day"), day_column="day")
    lines = [
        b"1\t\xff\t7\t2026-01-01",
        b"1",
        b"2\t0.5\t7\t2026-01-01",
        b"1\t0.5\tx\t2026-01-01",
        b"1\t0.5\t7\ttoday",
        b"1\tx\t7\t2026-01-01",
    ]
    time_reasons = reasons(parse([b"1\tnoon"], WITH_TIME))
    as_json = replace(TAB, delimiter=None, is_json=True)
    json_reasons = reasons(parse([b"1", b'{"label": 1, "C": {"a": 1}}'], as_json))
    weighted = replace(WITH_VALUE, columns=("w", "n", "k", "V", "I"), label=None)
    weight_reasons = reasons(parse([b"-1\t2\t1\t0.5\t7"], replace(weighted, weight="w")))
    weight_reasons += reasons(parse([b"1\t2\t3\t0.5\t7"], replace(weighted, impressions="n", clicks="k")))
    assert [*reasons(parse(lines, with_day)), *time_reasons, *weight_reasons, *json_reasons] == list(
        REASONS[1:]
    )


@pytest.mark.parametrize("line", [b"", b"\r"])
def test_a_blank_line_is_no_row(line):
    parsed = parse([b"1\t7\ta", line, b"0\t2\tb"])
    assert values(parsed) == [(7, "a"), (2, "b")]
    assert not parsed.bad.num_rows


@pytest.mark.parametrize("label", [b"", b"01", b"1.5", b"10", b"-1", b"yes", b"1 1", b"\xd9\xa1"])
def test_other_texts_are_not_labels(label):
    assert reason_of(label + b"\t7\ta") == "label_not_0_or_1"


@pytest.mark.parametrize("token", ["\\N", "NULL", "-"])
def test_texts_that_are_listed_mean_missing(token):
    listed = replace(TAB, null_values=("\\N", "NULL", "-"))
    rows = parse([f"1\t{token}\t{token}".encode(), b"0\t7\ta"], listed)
    assert rows.raw.column("I").to_pylist() == [None, 7]
    assert rows.raw.column("C").to_pylist() == [None, "a"]
    assert reason_of(f"1\t{token}\ta".encode()) == "count_not_an_integer"
    assert parse([f"1\t7\t{token}".encode()], TAB).raw.column("C").to_pylist() == [token]


def test_labels_are_0_and_1_as_integers_floats_or_booleans():
    texts = ["0", "1", "0.0", "1.0", "1.", "true", "False", "TRUE", "2", "", None]
    assert parse_labels(pa.array(texts)).to_pylist() == [0, 1, 0, 1, 1, 1, 0, 1, None, None, None]


@pytest.mark.parametrize(
    "count",
    [
        "0x1f",
        "0X1F",
        "-0x1",
        "1.5",
        "1e-3",
        "- 5",
        "-",
        "--5",
        "1_0",
        "1,000",
        "5 %",
        "٣",
        "½",
        "nan",
        "five",
    ],
)
def test_only_decimal_integers_are_counts(count):
    assert reason_of(f"1\t{count}\ta".encode()) == "count_not_an_integer"


def test_a_count_beyond_int64_is_rejected():
    assert reason_of(b"1\t9223372036854775807\ta") == "good"
    assert reason_of(b"1\t9223372036854775808\ta") == "count_not_an_integer"
    assert reason_of(b"1\t-9223372036854775808\ta") == "good"
    assert reason_of(b"1\t-9223372036854775809\ta") == "count_not_an_integer"
    assert reason_of(b"1\t" + b"9" * 5000 + b"\ta") == "count_not_an_integer"


def test_a_value_becomes_a_number_and_an_empty_one_is_missing():
    parsed = parse([b"1\t-2.5\t7", b"0\t\t7", b"0\t1e3\t7"], WITH_VALUE)
    assert values(parsed) == [(-2.5, 7), (None, 7), (1000.0, 7)]
    assert parsed.raw.schema.types == [pa.float64(), pa.dictionary(pa.int32(), pa.int64())]


def test_rows_with_a_value_that_is_not_a_number_are_rejected():
    parsed = parse([b"1\t0.5\t7", b"1\tnan\t7", b"1\t1_000\t7", b"1\thigh\tx", b"1\t.5\tx"], WITH_VALUE)
    assert values(parsed) == [(0.5, 7)]
    # The reason is that of the first malformed field.
    assert reasons(parsed) == ["value_not_a_number"] * 3 + ["count_not_an_integer"]


def test_a_quantile_is_read_like_a_value():
    fields = FieldSet([Field(name="Q", kind="quantile", quantile_buckets=2)])
    with_quantile = RowFormat(columns=("label", "Q"), fields=fields, delimiter="\t", label="label")
    parsed = parse([b"1\t-2.5e1", b"1\t", b"1\tmany"], with_quantile)
    assert values(parsed) == [(-25.0,), (None,)]
    assert reasons(parsed) == ["value_not_a_number"]


TIMES = FieldSet(
    [Field(name=name, kind="time", source="ts", time_format="iso") for name in ("hour", "weekday")]
)
WITH_TIME = RowFormat(columns=("label", "ts"), fields=TIMES, delimiter="\t", label="label")


def test_a_time_is_read_as_seconds_for_every_field_derived_from_it():
    parsed = parse([b"1\t1970-01-01 00:01:00", b"0\t", b"1\tnoon"], WITH_TIME, ds="2026-01-01")
    assert values(parsed) == [(60, 60), (None, None)]
    assert parsed.raw.schema == pa.schema([("hour", pa.int64()), ("weekday", pa.int64())])
    assert parsed.days.to_pylist() == ["2026-01-01"] * 2
    assert reasons(parsed) == ["time_not_a_time"]


def test_the_day_comes_from_the_time_if_nothing_else_has_it():
    with_day = replace(WITH_TIME, time_column="ts", time_format="iso")
    parsed = parse([b"1\t2026-01-02T23:59:59", b"0\t", b"1\tnoon", b"1\t2026-01-03 00:00:00"], with_day)
    assert parsed.days.to_pylist() == ["2026-01-02", "2026-01-03"]
    # Without a time there is no day.
    assert reasons(parsed) == ["time_not_a_time"] * 2
    assert with_day.has_days and not WITH_TIME.has_days
    without_time_fields = replace(TAB, columns=(*TAB.columns, "ts"), time_column="ts", time_format="unix_ms")
    assert parse([b"1\t7\ta\t86400000"], without_time_fields).days.to_pylist() == ["1970-01-02"]


def test_a_crossed_field_has_no_column():
    assert parse([b"1\t0.5\t7"], WITH_VALUE).raw.column_names == ["V", "I"]


def test_a_large_count_keeps_its_last_digit():
    assert values(parse([b"1\t9007199254740993\ta", b"0\t\tb"])) == [(9007199254740993, "a"), (None, "b")]


def test_a_trailing_carriage_return_is_dropped():
    assert values(parse([b"1\t7\ta\r", b"0\t8\tb"])) == [(7, "a"), (8, "b")]


def test_a_carriage_return_within_a_line_is_part_of_the_value():
    assert values(parse([b"1\t7\ta\rb"])) == [(7, "a\rb")]


def test_nul_is_an_ordinary_character():
    assert values(parse([b"1\t7\ta\x00b"])) == [(7, "a\x00b")]


def test_without_a_quote_character_quotes_are_part_of_the_value():
    assert values(parse([b'1\t7\t"a', b"0\t8\t'b'"])) == [(7, '"a'), (8, "'b'")]


def test_a_quoted_value_may_contain_the_delimiter_and_quotes():
    assert values(parse([b'1,7,"a,b"', b'0,"8","say ""hi"""'], CSV)) == [(7, "a,b"), (8, 'say "hi"')]


@pytest.mark.parametrize("line", [b'1,7,"a', b'1,7,"a"b', b'1,"7,a'])
def test_an_unbalanced_quote_rejects_only_that_line(line):
    assert reason_of(line, CSV) == "wrong_number_of_columns"


def test_a_quoted_value_may_be_long():
    long = "x" * 200_000  # the default limit of Python's csv module is 131,072
    assert values(parse([f'1,7,"{long}"'.encode()], CSV)) == [(7, long)]


def test_header_lines_are_not_rows():
    with_header = RowFormat(
        columns=("label", "I", "C"), fields=FIELDS, delimiter="\t", label="label", header_line="label\tI\tC"
    )
    parsed = parse([b"label\tI\tC", b"1\t7\ta", b"label\tI\tC", b"0\t8\tb"], with_header)
    assert values(parsed) == [(7, "a"), (8, "b")]
    assert parsed.row_hashes.tolist() == [1, 3]
    assert parsed.bad.num_rows == 0
    assert parse([b"label\tI\tC"], with_header).num_good == 0


def test_no_rows_give_typed_empty_columns():
    parsed = parse([])
    assert parsed.raw.schema == EMPTY.schema
    assert (parsed.num_good, len(parsed.labels), len(parsed.row_hashes), parsed.bad.num_rows) == (0, 0, 0, 0)


def test_only_bad_rows_give_typed_empty_columns():
    parsed = parse([b"\xff", b"nothing"])
    assert parsed.raw.schema == EMPTY.schema
    assert reasons(parsed) == ["not_utf8", "wrong_number_of_columns"]


def test_a_bad_row_keeps_its_file_and_text():
    parsed = parse([b"1\t7\ta", b"bad \xff\x00\tline"])
    assert parsed.bad.to_pylist() == [
        {"source_file": "log.tsv", "text": "bad \\xff\x00\tline", "reason": "not_utf8"}
    ]


def test_unused_columns_may_contain_anything():
    wide = RowFormat(columns=("label", "note", "I", "C"), fields=FIELDS, delimiter="\t", label="label")
    assert values(parse([b"1\tx y z\t7\ta"], wide)) == [(7, "a")]


def test_kept_columns_pass_through_as_text():
    keeping = RowFormat(
        columns=("label", "I", "C"), fields=FIELDS, delimiter="\t", label="label", keep=("I", "label")
    )
    parsed = parse([b"1\t007\ta", b"x\t1\tb"], keeping)
    assert parsed.kept.to_pydict() == {"I": ["007"], "label": ["1"]}


def test_impressions_to_score_have_no_labels():
    unlabelled = RowFormat(columns=("I", "C"), fields=FIELDS, delimiter="\t")
    parsed = parse([b"7\ta"], unlabelled)
    assert parsed.labels is None
    assert values(parsed) == [(7, "a")]


def test_the_day_comes_from_the_folder():
    assert parse([b"1\t7\ta", b"bad", b"0\t8\tb"], ds="2026-01-02").days.to_pylist() == ["2026-01-02"] * 2
    assert parse([b"1\t7\ta"]).days.to_pylist() == [None]


def test_the_day_comes_from_its_column():
    with_day = RowFormat(
        columns=("label", "I", "C", "day"), fields=FIELDS, delimiter="\t", label="label", day_column="day"
    )
    parsed = parse([b"1\t7\ta\t2026-01-02", b"1\t7\ta\t2026-02-30", b"1\t7\ta\t"], with_day)
    assert parsed.days.to_pylist() == ["2026-01-02"]
    assert reasons(parsed) == ["day_not_a_date"] * 2


def test_a_day_has_exactly_one_spelling():
    assert is_day("2024-02-29")
    assert not any(map(is_day, ["2023-02-29", "20240229", "2024-2-29", "2024-W09-4", "", "2024-02-29 "]))


def parquet_batch(**columns):
    num_rows = len(columns["label"])
    return pa.table(
        {
            **{name: column if isinstance(column, pa.Array) else pa.array(column, pa.string())
               for name, column in columns.items()},
            "source_file": pa.array(["day.parquet"] * num_rows, pa.string()),
            "ds": pa.nulls(num_rows, pa.string()),
            "row_hash": pa.array(range(num_rows), pa.int64()),
        }
    )  # fmt: skip


PARQUET = RowFormat(columns=("C", "I", "label"), fields=FIELDS, delimiter=None, label="label")


def test_parquet_rows_follow_the_same_rules():
    batch = parquet_batch(
        label=["1", "0", None, "1", "1"], I=["7", None, "1", "x", "0x1f"], C=["a", "", "b", "c", "d"]
    )
    parsed = parse_rows(batch, PARQUET)
    assert values(parsed) == [(7, "a"), (None, None)]
    assert reasons(parsed) == ["label_not_0_or_1", "count_not_an_integer", "count_not_an_integer"]
    assert json.loads(parsed.bad.column("text")[0].as_py()) == {"C": "b", "I": "1", "label": None}


def test_a_value_that_is_not_utf8_rejects_its_row():
    offsets, content = (
        pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])),
        pa.py_buffer(b"a\xffc"),
    )
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets, content])
    parsed = parse_rows(parquet_batch(label=["1", "0", None], I=["7", "8", "9"], C=text), PARQUET)
    assert values(parsed) == [(7, "a")]
    assert parsed.row_hashes.tolist() == [0]
    assert reasons(parsed) == ["not_utf8", "label_not_0_or_1"]
    assert json.loads(parsed.bad.column("text")[0].as_py())["C"] == "\\xff"


LINES = st.lists(
    st.one_of(
        st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
        st.lists(
            st.sampled_from([b"0", b"1", b"-5", b"", b"a", b'"', b"\xc3\xa9", b"\xed\xa0\x80"]), max_size=5
        ).map(b"\t".join),
    ),
    max_size=12,
)


@given(LINES, st.sampled_from([TAB, CSV]))
def test_every_row_is_returned_once_whatever_its_bytes(lines, row_format):
    parsed = parse(lines, row_format)
    assert parsed.num_good + parsed.bad.num_rows == sum(line not in (b"", b"\r") for line in lines)
    assert len(parsed.labels) == len(parsed.row_hashes) == len(parsed.days) == parsed.num_good
    parsed.raw.validate(full=True)
    parsed.bad.validate(full=True)


@given(LINES, st.sampled_from([TAB, CSV, WITH_UNUSED]))
@example([b"1\t7\ta\t\xff", b"1"], WITH_UNUSED)
@example([b"1\t7\ta\tb"] * 2 + [b"1\t7\ta\t\xff"], WITH_UNUSED)
def test_a_row_gives_the_same_result_alone_and_in_a_batch(lines, row_format):
    together, alone = parse(lines, row_format), [parse([line], row_format) for line in lines]
    assert values(together) == [row for parsed in alone for row in values(parsed)]
    assert reasons(together) == [reason for parsed in alone for reason in reasons(parsed)]
