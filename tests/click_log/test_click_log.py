"""A click log on disk: its files, days and columns, and its rows read by Spark."""

import gzip
import os
from datetime import datetime
from decimal import Decimal
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.text.ranges import LINES_SCHEMA
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

FIELDS = [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}]
TSV = {"format": "delimited", "columns": ["label", "I", "C"], "fields": FIELDS}
CSV = {"format": "delimited", "delimiter": ",", "quote": '"', "header": True, "fields": FIELDS}
PARQUET = {"format": "parquet", "fields": FIELDS}


@pytest.fixture
def find(spark, tmp_path):
    def find(settings, path="", **options):
        url = f"file://{tmp_path}/{path}".rstrip("/")
        return find_click_log(url, parse_settings(settings, DataSettings, "test"), **options)

    return find


@pytest.fixture
def parsed(spark, find):
    """Parse the rows of the log under test, in the order of its lines."""

    def parsed(settings, path="", days=None, **options):
        log = find(settings, path, **options)
        rows = raw_rows(spark, log, days).frame().coalesce(1).toPandas()
        batch = pa.table(
            {
                name: pa.array(column, pa.binary() if name == "line" else None)
                for name, column in rows.items()
                if name not in ("ds", "row_hash")
            }
        )
        batch = batch.append_column("row_hash", pa.array(rows["row_hash"], pa.int64()))
        batch = (
            batch
            if "ds" in batch.column_names
            else batch.append_column("ds", pa.array(rows["ds"], pa.string()))
        )
        return parse_rows(batch, log.row_format)

    return parsed


def write(folder, **files):
    """Write files: {path with __ instead of /: content}."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_tsv", ".tsv").replace("ds_", "ds=").replace(
            "_", "-"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def values(parsed):
    return list(zip(*parsed.raw.to_pydict().values(), strict=True))


def test_day_folders_are_found_and_each_row_has_its_day(tmp_path, find, parsed):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n", ds_2026_01_02__b_tsv=b"0\t8\tb\n")
    log = find(TSV)
    assert log.has_days
    assert log.day_paths.days == ("2026-01-01", "2026-01-02")
    rows = parsed(TSV)
    assert sorted(zip(rows.days.to_pylist(), values(rows), strict=True)) == [
        ("2026-01-01", (7, "a")),
        ("2026-01-02", (8, "b")),
    ]


def test_only_the_requested_days_are_read(tmp_path, parsed):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n", ds_2026_01_02__b_tsv=b"0\t8\tb\n")
    assert values(parsed(TSV, days=["2026-01-02"])) == [(8, "b")]


def test_a_missing_day_is_an_error(tmp_path, find):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n")
    with pytest.raises(UserError, match="found none for 2026-01-02; it has 2026-01-01 to 2026-01-01"):
        find(TSV, days=["2026-01-01", "2026-01-02"])


def test_a_log_of_links_to_day_folders_has_days(tmp_path, find):
    write(tmp_path, elsewhere__a_tsv=b"1\t7\ta\n")
    (tmp_path / "log").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "log" / "ds=2026-01-01")
    assert find(TSV, "log").day_paths.days == ("2026-01-01",)


def test_a_single_file_is_a_log(tmp_path, find, parsed):
    write(tmp_path, log_tsv=b"1\t7\ta\n0\t8\tb\n")
    assert not find(TSV, "log.tsv").has_days
    assert values(parsed(TSV, "log.tsv")) == [(7, "a"), (8, "b")]


def test_a_compressed_file_is_a_log(tmp_path, parsed):
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(b"I,C,label\n7,a,1\n"))
    assert values(parsed(CSV, "log.csv.gz")) == [(7, "a")]


def test_a_zip_archive_is_rejected(tmp_path, find):
    with ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("a.csv", "I,C,label\n7,a,1\n")
        archive.writestr("b.csv", "I,C,label\n8,b,1\n")
    with pytest.raises(UserError, match=r"log\.zip: \.zip is not supported; expected a text file, or one"):
        find(CSV)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("log/late.tsv", "found the file late.tsv next to them; move its rows to a day"),
        ("log/late/b.tsv", "found the folder late next to them; move its rows to a day"),
        ("log/ds=2026-01-02", "found the file ds=2026-01-02 next to them"),
        ("flat/more/b.tsv", "/flat: .* found the folder more; set day_folder, move its files up"),
    ],
)
def test_rows_that_would_not_be_read_are_an_error(tmp_path, find, extra, message):
    write(tmp_path, log__ds_2026_01_01__a_tsv=b"1\t7\ta\n", flat__a_tsv=b"1\t7\ta\n")
    (tmp_path / extra).parent.mkdir(exist_ok=True)
    (tmp_path / extra).write_bytes(b"0\t8\tb\n")
    with pytest.raises(UserError, match=message):
        find(TSV, extra.partition("/")[0])


def test_hidden_and_empty_files_are_ignored(tmp_path, parsed):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n")
    for name in (
        "_SUCCESS",
        ".a.tsv.crc",
        "_logs/1.txt",
        "ds=2026-01-01/_SUCCESS",
        "ds=2026-01-01/.old/b.tsv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    (tmp_path / "done").touch()
    assert values(parsed(TSV)) == [(7, "a")]


def test_a_folder_name_that_is_not_a_day_is_rejected(tmp_path, find):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n", ds_yesterday__a_tsv=b"1\t7\ta\n")
    with pytest.raises(
        UserError, match="inside folders such as ds=2026-01-31, found the folder ds=yesterday"
    ):
        find(TSV)


def test_days_in_both_folders_and_a_column_are_rejected(tmp_path, find):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n")
    with pytest.raises(UserError, match="remove one of the two"):
        find({**TSV, "columns": ["label", "I", "C", "day"], "day_column": "day"})


def test_a_missing_or_empty_log_is_an_error(tmp_path, find):
    with pytest.raises(UserError, match="the path does not exist; check --input"):
        find(TSV, "absent")
    (tmp_path / "ds=2026-01-01").mkdir()
    with pytest.raises(UserError, match="expected files with rows, found none"):
        find(TSV)


def test_a_header_names_the_columns_in_any_order(tmp_path, parsed):
    write(tmp_path, a_csv=b'note,C,"label",I\n"x, y","a, b",1,7\n', b_csv=b'note,C,"label",I\n,c,0,\n')
    assert sorted(values(parsed(CSV)), key=str) == [(7, "a, b"), (None, "c")]


def test_a_header_with_windows_line_ends_and_byte_order_mark_is_recognized(tmp_path, parsed):
    (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbfI,C,label\r\n7,a,1\r\n")
    rows = parsed(CSV)
    assert values(rows) == [(7, "a")]
    assert rows.bad.num_rows == 0


def test_a_quoted_header_may_contain_the_delimiter(tmp_path, find):
    (tmp_path / "log.csv").write_bytes(b'"a, b",I,C,label\nx,7,a,1\n')
    assert find(CSV).row_format.columns == ("a, b", "I", "C", "label")


def test_files_with_headers_in_another_order_or_with_more_columns_are_joined_by_name(tmp_path, parsed):
    for name, text in (("a", b"I,C,label\n7,a,1\n"), ("b", b"new,C,I,label\n?,b,8,1\n"), ("c", b"\n")):
        (tmp_path / f"{name}.csv").write_bytes(text)
    assert values(parsed(CSV)) == [(7, "a"), (8, "b")]


def test_a_column_that_the_first_headers_lack_is_missing_there(tmp_path, parsed, caplog):
    (tmp_path / "a.csv").write_bytes(b"I,label\n7,1\n")
    (tmp_path / "b.csv").write_bytes(b"I,C,label\n8,b,1\n")
    assert values(parsed(CSV)) == [(7, None), (8, "b")]
    assert "column C is missing in 1 of 2 files" in caplog.text


@pytest.mark.parametrize(
    ("second", "changes", "message"),
    [
        (b"I,label\n8,1\n", {}, "b.csv: expected column C as in .*a.csv, found only I, label"),
        (b"I,C\n8,b\n", {}, "b.csv: expected column label as in .*a.csv, found only I, C"),
        (b"C,I,label\na,7,1\n", {"allow_schema_change": False}, "b.csv: expected the header of"),
    ],
)
def test_a_removed_column_is_an_error(tmp_path, find, second, changes, message):
    (tmp_path / "a.csv").write_bytes(b"I,C,label\n7,a,1\n")
    (tmp_path / "b.csv").write_bytes(second)
    with pytest.raises(UserError, match=message):
        find({**CSV, **changes})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"I,label\n", "expected columns C, found only I, label"),
        (b"I,C,label,I\n", "expected unique column names, found duplicates of I"),
        (b"I,C,label\xff\n", "expected a header in UTF-8"),
    ],
)
def test_an_invalid_header_is_rejected(tmp_path, find, header, message):
    (tmp_path / "log.csv").write_bytes(header)
    with pytest.raises(UserError, match=message):
        find(CSV)


def test_the_day_may_be_a_column(tmp_path, find, parsed):
    (tmp_path / "log.csv").write_bytes(b"I,C,label,ds\n7,a,1,2026-01-02\n8,b,1,soon\n")
    settings = {**CSV, "day_column": "ds"}
    assert find(settings).has_days
    rows = parsed(settings)
    assert rows.days.to_pylist() == ["2026-01-02"]
    assert rows.bad.column("reason").to_pylist() == ["day_not_a_date"]


@pytest.mark.parametrize("lines", [b"7\ta\n", b"1\t7\ta\n"])
def test_impressions_to_score_may_have_a_label_or_not(tmp_path, parsed, lines):
    write(tmp_path, log_tsv=lines)
    rows = parsed(TSV, labelled=False)
    assert rows.labels is None
    assert values(rows) == [(7, "a")]


def test_a_malformed_first_line_does_not_decide_how_a_day_is_read(tmp_path, parsed):
    write(tmp_path, log_tsv=b"7\ta\n1\t7\ta\n0\t8\tb\n")
    rows = parsed(TSV, labelled=False)
    assert values(rows) == [(7, "a"), (8, "b")]
    assert rows.bad.column("text").to_pylist() == ["7\ta"]


def test_the_number_of_values_in_quoted_impressions_respects_quotes(tmp_path, parsed):
    write(tmp_path, log_csv=b'7,"a, b"\r\n')
    settings = {**TSV, "delimiter": ",", "quote": '"'}
    assert values(parsed(settings, labelled=False)) == [(7, "a, b")]


def test_parquet_columns_of_any_type_become_counts_and_categories(tmp_path, parsed):
    columns = {
        "label": pa.array([True, False, True, None]),
        "I": pa.array([1.0, None, 2.0**53, 2.5]),
        "C": pa.array([2**53 + 1, None, -1, 0], pa.int64()),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    rows = parsed(PARQUET)
    assert rows.labels.tolist() == [1, 0, 1]
    assert values(rows) == [(1, "9007199254740993"), (None, None), (2**53, "-1")]
    assert rows.bad.column("reason").to_pylist() == ["label_not_0_or_1"]


def test_a_kept_column_does_not_change_the_hash_that_splits_rows(tmp_path, parsed):
    columns = {"label": [1, 0], "I": [7, 8], "C": ["a", "b"], "user": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    plain, keeping = parsed(PARQUET, "log.parquet"), parsed(PARQUET, "log.parquet", keep=("user",))
    assert plain.row_hashes.tolist() == keeping.row_hashes.tolist()


def test_parquet_counts_that_are_fractional_or_too_large_are_rejected(tmp_path, parsed):
    columns = {"label": [1, 0, 1], "I": pa.array([2.5, float("nan"), 1e30]), "C": ["a", "", None]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    rows = parsed(PARQUET, "log.parquet")
    assert values(rows) == [(None, None)]  # NaN is missing
    assert rows.bad.column("reason").to_pylist() == ["count_not_an_integer"] * 2
    assert rows.bad.column("text")[0].as_py() == '{"C": "a", "I": "2.5", "label": "1"}'


def test_parquet_numbers_of_any_type_become_values(tmp_path, parsed):
    columns = {
        "label": [1] * 5,
        "V": pa.array([1e-5, -3.0, 1e300, None, float("nan")]),
        "W": pa.array([0.5, 1.5, -2.0, None, 1.0], pa.float32()),
        "D": pa.array(map(Decimal, ["0.000000010", "2.5", "0", "-7", "1"]), pa.decimal128(12, 9)),
        "N": pa.array([-5, 6, None, 2**40, 1]),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    rows = parsed({"format": "parquet", "fields": [{"kind": "value", "names": list("VWDN")}]}, "log.parquet")
    assert values(rows) == [
        (1e-5, 0.5, 1e-8, -5.0),
        (-3.0, 1.5, 2.5, 6.0),
        (1e300, -2.0, 0.0, None),
        (None, None, -7.0, 2.0**40),
        (None, 1.0, 1.0, 1.0),
    ]


def test_crossed_fields_need_no_column_in_the_log(tmp_path, parsed):
    write(tmp_path, log_tsv=b"1\t7\ta\n")
    assert values(parsed({**TSV, "cross": [["I", "C"]]}, "log.tsv")) == [(7, "a")]


def test_parquet_days_come_from_folders(tmp_path, parsed):
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"ds={day}").mkdir()
        pq.write_table(pa.table({"label": [1], "I": [7], "C": [day]}), tmp_path / f"ds={day}" / "a.parquet")
    rows = parsed(PARQUET, days=["2026-01-02"])
    assert rows.days.to_pylist() == ["2026-01-02"]
    assert values(rows) == [(7, "2026-01-02")]


def test_parquet_days_may_be_a_column_named_ds(tmp_path, parsed):
    pq.write_table(
        pa.table({"label": [1], "I": [7], "C": ["a"], "ds": ["2026-01-02"]}), tmp_path / "a.parquet"
    )
    rows = parsed({**PARQUET, "day_column": "ds"})
    assert rows.days.to_pylist() == ["2026-01-02"]


TIME_COLUMN = {"time_column": "ts", "time_format": "iso"}


def test_days_come_from_the_time_column_if_nothing_else_has_them(tmp_path, find, parsed):
    times = pa.array([datetime(2026, 1, 2, 23, 59, 59), None])
    pq.write_table(
        pa.table({"label": [1, 0], "I": [7, 8], "C": ["a", "b"], "ts": times}), tmp_path / "a.parquet"
    )
    assert find({**PARQUET, **TIME_COLUMN}).has_days
    rows = parsed({**PARQUET, **TIME_COLUMN})
    assert rows.days.to_pylist() == ["2026-01-02"]
    assert rows.bad.column("reason").to_pylist() == ["time_not_a_time"]


def test_an_unused_time_column_may_be_absent(tmp_path, find):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\t\n")
    assert find({**TSV, "columns": [*TSV["columns"], "ts"], **TIME_COLUMN}).row_format.time_column is None
    with_day = {**TSV, "columns": [*TSV["columns"], "ts", "day"], "day_column": "day", **TIME_COLUMN}
    write(tmp_path, log__a_tsv=b"1\t7\ta\t\t2026-01-01\n")
    assert find(with_day, "log").row_format.time_column is None


def test_the_time_column_is_required_and_columns_for_its_fields_are_not(tmp_path, find):
    hour = [*PARQUET["fields"], {"kind": "time", "names": ["hour"]}]
    pq.write_table(pa.table({"label": [1], "I": [7], "C": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="expected columns ts, found only"):
        find({**PARQUET, "fields": hour, **TIME_COLUMN})


@pytest.mark.parametrize(
    ("drifted", "message"),
    [
        ({"I": ["7"]}, "expected column I as in file:.*/a.parquet, int64, found string"),
        ({"C": None}, "expected column C as in file:.*/a.parquet, string, found none"),
    ],
)
def test_a_schema_change_is_an_error_if_it_is_not_allowed(tmp_path, find, drifted, message):
    columns = {"label": [1], "I": [7], "C": ["a"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    drifted = {name: column for name, column in (columns | drifted).items() if column}
    pq.write_table(pa.table(drifted), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=f"{tmp_path}/b.parquet: {message}"):
        find({**PARQUET, "allow_schema_change": False})


def test_files_may_have_different_types_of_a_column(tmp_path, parsed):
    for name, column in {"a": [7, 8], "b": [7.0, None], "c": ["7", "9"]}.items():
        pq.write_table(pa.table({"label": [1, 0], "I": column, "C": column}), tmp_path / f"{name}.parquet")
    nothing = {"label": [True], "I": pa.nulls(1), "C": pa.nulls(1)}
    pq.write_table(pa.table(nothing), tmp_path / "d.parquet")
    assert values(parsed(PARQUET)) == [
        (7, "7"), (8, "8"), (7, "7"), (None, None), (7, "7"), (9, "9"), (None, None)
    ]  # fmt: skip


def test_a_column_that_the_first_files_lack_is_missing_there(tmp_path, parsed, caplog):
    pq.write_table(pa.table({"label": [1], "I": [7]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"label": [0], "I": [8], "C": ["a"]}), tmp_path / "b.parquet")
    assert values(parsed(PARQUET)) == [(7, None), (8, "a")]
    assert "column C is missing in 1 of 2 files" in caplog.text


@pytest.mark.parametrize("name", ["C", "label"])
def test_a_column_that_was_removed_and_a_label_must_be_in_every_file(tmp_path, find, name):
    columns = {"label": [1], "I": [7], "C": ["a"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    del columns[name]
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=rf"b\.parquet: expected column {name} as in .*a\.parquet, found"):
        find(PARQUET)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([{"a": 1}]), "expected column C to have numbers, text, times .*found struct<a: int64>"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "found map<string, int64"),
        (
            pa.array([["a"]]),
            "expected column C to be a single value, found list<.*; declare it as kind: list",
        ),
    ],
)
def test_a_column_whose_type_does_not_fit_is_named_before_anything_is_read(tmp_path, find, column, message):
    pq.write_table(pa.table({"label": [1], "I": [7], "C": column}), tmp_path / "log.parquet")
    with pytest.raises(UserError, match=f"log.parquet: .*{message}"):
        find(PARQUET)


def test_columns_that_are_not_named_are_never_decoded(tmp_path, parsed):
    odd = {
        "nanos": pa.array([1], pa.timestamp("ns")),
        "time": pa.array([1], pa.time64("us")),
        "large": pa.array([Decimal(1)], pa.decimal256(60)),
        "i": [1],
        "nested": [{"a": [1]}],
        "bytes": pa.array([b"\xff"]).cast(pa.binary()),
    }
    pq.write_table(pa.table({"label": [1], "I": [7], "C": ["a"], **odd}), tmp_path / "log.parquet")
    assert values(parsed(PARQUET)) == [(7, "a")]


def test_files_of_any_name_are_read(tmp_path, parsed):
    names = ["a b", "a:b", "100%", "a,b", "größe", "a'b", "a#b"]
    for number, name in enumerate(sorted(names)):
        columns = {"label": [1], "I": [number], "C": [name]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    assert values(parsed(PARQUET)) == list(enumerate(sorted(names)))


def test_parquet_files_may_have_extra_columns_or_another_order(tmp_path, find):
    pq.write_table(pa.table({"label": [1], "I": [7], "C": ["a"]}), tmp_path / "a.parquet")
    encoded = pa.array(["a"]).dictionary_encode()
    pq.write_table(pa.table({"C": encoded, "more": [0.5], "I": [7], "label": [1]}), tmp_path / "b.parquet")
    find(PARQUET)


def test_a_file_that_is_not_parquet_is_an_error(tmp_path, find):
    write(tmp_path, log_tsv=b"1\t7\ta\n")
    with pytest.raises(UserError, match=r"log\.tsv: expected a Parquet file"):
        find(PARQUET)


@pytest.mark.parametrize("file_format", ["parquet", "orc"])
@pytest.mark.parametrize("column", ["user.id", "geo.country", "geo.deep.er", "7day clicks", "用户"])
def test_a_column_may_have_any_name_and_be_a_part_of_a_struct(tmp_path, parsed, column, file_format):
    geo = [{"country": "de", "deep": {"er": "x"}}, None]
    columns = {"label": [1, 0], "I": [7, 8], "geo": geo, "user.id": ["u", "v"], "7day clicks": ["a", "b"],
               "用户": ["a", "b"]}  # fmt: skip
    write_table = {"parquet": pq.write_table, "orc": orc.write_table}[file_format]
    write_table(pa.table(columns), tmp_path / f"log.{file_format}")
    fields = [FIELDS[0], {"kind": "category", "names": [{"name": "C", "column": column}]}]
    expected = {"user.id": ["u", "v"], "geo.country": ["de", None], "geo.deep.er": ["x", None]}
    rows = values(parsed({**PARQUET, "format": file_format, "fields": fields}))
    assert [row[1] for row in rows] == expected.get(column, ["a", "b"])


def test_a_parquet_column_with_a_reserved_name_is_rejected(tmp_path, find):
    pq.write_table(pa.table({"label": [1], "I": [7], "row_hash": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="column names row_hash are reserved"):
        find({**PARQUET, "fields": [FIELDS[0], {"kind": "category", "names": ["row_hash"]}]})


def test_a_truncated_parquet_file_is_an_error(tmp_path, find):
    pq.write_table(pa.table({"label": [1], "I": [7], "C": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.parquet: expected a complete Parquet file"):
        find(PARQUET)


def test_list_types_that_spark_reads_alike_are_accepted(tmp_path, find):
    field = {"kind": "list", "names": ["L"], "max_values": 2}
    kinds = (pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.field("item", pa.string())))
    for name, kind in zip("abc", kinds, strict=True):
        columns = {"label": pa.array([1]), "L": pa.array([["x"]], kind)}
        table = pa.table(columns)
        pq.write_table(table, tmp_path / f"{name}.parquet", use_compliant_nested_type=name == "b")
    find({"format": "parquet", "fields": [field]})


def test_impressions_have_days_however_the_training_rows_were_split(tmp_path, find):
    write(tmp_path, ds_2026_01_01__a_tsv=b"1\t7\ta\n", ds_2026_01_02__b_tsv=b"0\t8\tb\n")
    settings = {**TSV, "split_files": {"train": "a*", "valid": "b*", "test": "c*"}}
    log = find(settings, days=["2026-01-02"], labelled=False)
    assert [file.rsplit("/", 1)[1] for file, _, _ in log.list_files(["2026-01-02"])] == ["b.tsv"]
    assert find(settings).day_paths is None


def test_a_file_without_its_header_is_an_error_for_impressions_too(tmp_path, find):
    (tmp_path / "a.csv").write_bytes(b"7,a\n8,b\n")
    (tmp_path / "b.csv").write_bytes(b"I,C\n8,b\n")
    with pytest.raises(UserError, match="a.csv: expected a header with C, I, found 7, a"):
        find(CSV, labelled=False)


@pytest.mark.parametrize("role", ["time_column", "day_column"])
@pytest.mark.parametrize("is_int96", [True, False])
def test_an_instant_has_the_day_of_the_zone(tmp_path, parsed, role, is_int96):
    late = pa.array([datetime(2026, 1, 31, 20)], pa.timestamp("us", None if is_int96 else "UTC"))
    table = pa.table({"label": [1], "I": [7], "C": ["a"], "t": late})
    pq.write_table(table, tmp_path / "log.parquet", use_deprecated_int96_timestamps=is_int96)
    settings = {**PARQUET, role: "t", "time_zone": "Asia/Shanghai"}
    settings |= {"time_format": "iso"} if role == "time_column" else {}
    assert parsed(settings).days.to_pylist() == ["2026-02-01"]


def test_a_folder_is_kept_with_the_value_in_its_name(tmp_path, find):
    folder = tmp_path / "ds=2026-01-01" / "hr=07"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"label": [1], "I": [7], "C": ["a"], "id": [5]}), folder / "log.parquet")
    log = find(PARQUET, keep=("hr", "id"), keep_types=True)
    assert (dict(log.kept_types), log.row_format.partitions) == ({"id": pa.int64()}, ("ds", "hr"))


def test_no_rows_of_files_with_different_headers_are_no_error(tmp_path, find):
    for name, text in (("a", b"I,C,label\n"), ("b", b"C,I,label\n")):
        (tmp_path / f"{name}.csv").write_bytes(text)
    assert parse_rows(LINES_SCHEMA.empty_table(), find(CSV).row_format).num_read == 0
