"""Data YAMLs of logs of several formats; each is loaded and builds the log's row format."""

import csv
import datetime
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfm.click_log.describe.yaml_text import describe_log
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings, parse_yaml


@pytest.fixture
def describe(tmp_path):
    """describe(label=…) -> (settings, YAML) of the folder `log`."""

    def describe_folder(label=None):
        text = describe_log(f"file://{tmp_path}/log", label).yaml
        return parse_settings(parse_yaml(text, "text"), DataSettings, "text"), text

    return describe_folder


@pytest.fixture
def write(tmp_path):
    """write(name, rows, **dialect) writes a file of the log."""

    def write_file(name, rows, **dialect):
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n", **dialect).writerows(rows)

    return write_file


def kinds(settings: DataSettings) -> dict[str, str]:
    return {field.name: field.kind for field in settings.field_set.raw}


def rows(num=60):
    """Rows of (label, an integer, a decimal, text) from a fixed seed."""
    chance = random.Random(1)
    return [
        [chance.randrange(2), chance.randrange(50), round(chance.random() * 9, 3), chance.choice("abc")]
        for _ in range(num)
    ]


def test_tab_separated_rows_without_header(write, describe):
    write("a.tsv", [[label, number or "", f"{number:08x}"] for label, number, _, _ in rows()], delimiter="\t")
    settings, text = describe()
    assert (settings.delimiter, settings.header, settings.quote) == ("\t", False, None)
    assert settings.columns == ("column_1", "column_2", "column_3")
    assert settings.label == "column_1"
    assert kinds(settings) == {"column_2": "count", "column_3": "category"}
    assert "hash_split" in text


def test_comma_separated_rows_with_header_and_quotes(write, describe):
    header = ["site", "title", "price", "Clicked"]
    content = [[site, f'{site}, "x"', price, label] for label, _, price, site in rows()]
    write("a.csv", [header, *content])
    settings, _ = describe()
    assert (settings.delimiter, settings.header, settings.quote) == (",", True, '"')
    assert settings.label == "Clicked"
    assert kinds(settings) == {"site": "category", "title": "category", "price": "quantile"}


def test_semicolons_and_decimal_commas(write, describe):
    write("a.csv", [["click", "a", "b"], *([r[0], f"{r[1]},{r[1]}", r[3]] for r in rows())], delimiter=";")
    settings, _ = describe()
    assert (settings.delimiter, settings.label) == (";", "click")


def test_line_breaks_in_quotes(write, describe):
    write("a.csv", [["click", "a", "b"], *([r[0], f"{r[3]}\n{r[3]}", r[1]] for r in rows())])
    assert describe()[0].multiline


def test_a_header_of_columns_of_text_is_found(write, describe):
    write("a.csv", [["target", "site", "device"], *([["no", "yes"][r[0]], r[3], r[3]] for r in rows())])
    settings, _ = describe()
    assert (settings.header, settings.label) == (True, "target")
    assert (settings.negative, settings.positive) == (("no",), ("yes",))


def test_parquet_columns_keep_their_types(tmp_path, describe):
    (tmp_path / "log").mkdir()
    table = rows()
    start = datetime.datetime(2026, 1, 1)
    columns = {
        "clk": [bool(row[0]) for row in table],
        "views": [row[1] for row in table],
        "topics": [[row[3], "z"] for row in table],
        "shown_at": [start + datetime.timedelta(hours=row[1]) for row in table],
        "geo": [{"country": "x"}] * len(table),
    }
    pq.write_table(pa.table(columns), tmp_path / "log" / "a.parquet")
    settings, text = describe()
    assert (settings.format, settings.label) == ("parquet", "clk")
    assert kinds(settings) == {"views": "count", "topics": "list", "hour": "time", "weekday": "time"}
    assert (settings.time_column, settings.time_format) == ("shown_at", "iso")
    assert "# Ignored: geo: has the type struct" in text


def test_a_column_of_days(write, describe):
    write("a.csv", [["label", "a", "day"], *([r[0], r[3], f"2026-01-0{r[1] % 3 + 1}"] for r in rows())])
    settings, _ = describe()
    assert settings.day_column == "day"
    assert kinds(settings) == {"a": "category"}


def test_day_folders_go_before_a_column_of_days(write, describe):
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        write(f"ds={day}/a.csv", [["label", "a", "day"], *([r[0], r[3], day] for r in rows())])
    settings, text = describe()
    assert settings.day_column is None and "hash_split" not in text
    assert "# Days are the folders of the log, 2026-01-01 to 2026-01-03." in text


def test_seconds_since_1970_are_a_time_if_the_name_says_so(write, describe):
    content = [[r[0], r[3], 1767225600 + 3600 * r[1], 1767225600 + r[1]] for r in rows()]
    write("a.csv", [["label", "a", "event_time", "device"], *content])
    settings, _ = describe()
    assert (settings.time_column, settings.time_format) == ("event_time", "unix_s")
    assert kinds(settings)["device"] == "category"


def test_a_list_with_separators(write, describe):
    lists = [f"{r[3]}|{'xyz'[r[1] % 3]}" for r in rows()]
    write(
        "a.csv",
        [["label", "tags", "n"], *([r[0], tags, r[1]] for r, tags in zip(rows(), lists, strict=True))],
    )
    settings, _ = describe()
    (field,) = [field for field in settings.field_set.raw if field.name == "tags"]
    assert (field.kind, field.separator) == ("list", "|")


def test_texts_that_mean_missing(write, describe):
    content = [[r[0], r[1] if r[1] % 5 else "NA", r[3] if r[1] % 7 else "\\N"] for r in rows()]
    write("a.csv", [["label", "n", "text"], *content])
    settings, _ = describe()
    assert settings.null_values == ("NA", "\\N")
    assert kinds(settings)["n"] == "count"


def test_a_column_that_identifies_an_impression_is_no_field(write, describe):
    write("a.csv", [["label", "id", "a"], *([r[0], f"imp{n}", r[3]] for n, r in enumerate(rows()))])
    settings, text = describe()
    assert kinds(settings) == {"a": "category"}
    assert "# Ignored: id: another value in every row" in text


def test_integers_with_leading_zeros_are_codes(write, describe):
    write("a.csv", [["label", "n"], *([r[0], f"{r[1]:04}"] for r in rows())])
    assert kinds(describe()[0]) == {"n": "category"}


def test_names_that_are_no_field_names(write, describe):
    write(
        "a.csv",
        [["label", "user-id", "user_id", "on", "--"], *([r[0], r[3], r[3], r[3], r[3]] for r in rows())],
    )
    settings, _ = describe()
    columns = {field.name: field.column for field in settings.field_set.raw}
    assert columns == {"user_id": "user-id", "user_id_2": "user_id", "on": "on", "field_4": "--"}


def test_the_label_of_the_flag_is_taken(write, describe):
    write("a.csv", [["click", "bought", "a"], *([r[0], r[1] % 2, r[3]] for r in rows())])
    settings, _ = describe("bought")
    assert settings.label == "bought"
    assert kinds(settings) == {"click": "category", "a": "category"}


@pytest.mark.parametrize(
    ("content", "label", "message"),
    [
        ("a,b\nx,y\nz,y\n", None, "expected a column of clicks with 0 and 1, found none"),
        ("a,b\n1,y\n0,y\n", "c", "--label c: expected a column of the log, found a, b"),
        ('{"a": 1}\n', None, "found JSON"),
        ("a\nb\n", None, "expected columns separated by a tab, comma"),
        ("\0\1\0", None, "found a binary file"),
        ("label,a\n", None, "found only a header"),
    ],
)
def test_a_log_that_cannot_be_described(tmp_path, describe, content, label, message):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a").write_text(content)
    with pytest.raises(UserError) as error:
        describe(label)
    assert message in str(error.value)
