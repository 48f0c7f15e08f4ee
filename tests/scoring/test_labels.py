"""A label log needs only its key columns and its label, in the format of the model's log or another one."""

import pytest

from deepfm.errors import UserError
from deepfm.scoring.labels import DEFAULT_OPTIONS, LabelOptions, find_labels
from deepfm.settings.data import DataSettings
from deepfm.settings.labels import LabelSettings
from deepfm.settings.loader import parse_settings

DAY = "2026-01-08"
MODEL_LOG = {
    "format": "delimited",
    "columns": ["day", "label", "I", "id"],
    "day_column": "day",
    "fields": [{"kind": "count", "names": ["I"]}],
}


@pytest.fixture
def find(tmp_path):
    """Find a label log of one file with the given text."""

    def find_log(text, changes=None, key=("id",), description=None, name="labels.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        settings = parse_settings({**MODEL_LOG, **(changes or {})}, DataSettings, "test")
        options = LabelOptions(parse_settings(description, LabelSettings, "test")) if description else None
        url = f"file://{tmp_path}/{name.split('/')[0]}"
        return find_labels(url, settings, key, [DAY], options or DEFAULT_OPTIONS)

    return find_log


@pytest.mark.parametrize(
    ("text", "columns", "day_column"),
    [
        ("1\tk1\n", ("label", "id"), None),
        (f"{DAY}\t1\tk1\n", ("day", "label", "id"), "day"),
        (f"{DAY}\t1\t7\tk1\n", ("day", "label", "I", "id"), "day"),
    ],
)
def test_the_width_of_a_log_without_header_decides_its_columns(find, text, columns, day_column):
    row_format = find(text).row_format
    assert (row_format.columns, row_format.day_column) == (columns, day_column)
    assert row_format.columns_to_read == {"label", "id", day_column} - {None}


def test_another_width_is_refused(find):
    with pytest.raises(UserError, match="expected lines of label, id, or of all 4 columns .* --labels-data"):
        find("k1\n")


def test_columns_of_a_header_may_be_key_and_label_alone(find):
    changes = {"header": True, "columns": []}
    assert find("id\tlabel\nk1\t1\n", changes).row_format.day_column is None
    assert find("id\tday\tlabel\nk1\t\t1\n", changes).row_format.day_column == "day"
    with pytest.raises(UserError, match="expected columns label, found only id"):
        find("id\tclicked\nk1\t1\n", changes)


def test_day_folders_replace_the_day_column_of_the_model(find):
    log = find("1\tk1\n", name=f"labels/ds={DAY}/part.txt")
    assert (log.day_paths.days, log.row_format.has_days) == ((DAY,), False)


def test_a_label_log_of_another_format_is_described(find):
    description = {"format": "delimited", "delimiter": ",", "columns": ["id", "clicked"], "label": "clicked"}
    row_format = find("k1,1\n", description=description).row_format
    assert (row_format.columns, row_format.label, row_format.delimiter) == (("id", "clicked"), "clicked", ",")
    clicks = {**description, "columns": ["id", "time"], "label": None}
    assert find("k1,12\n", description=clicks).row_format.label is None


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"format": "delimited"}, "columns: a file without header needs"),
        ({"format": "parquet", "columns": ["id"]}, "columns: only for delimited"),
        ({"format": "parquet", "time_column": "ts"}, "time_column and time_format"),
        ({"format": "parquet", "fields": []}, "fields"),
    ],
)
def test_an_invalid_description_is_refused(description, message):
    with pytest.raises(UserError, match=message):
        parse_settings(description, LabelSettings, "test")


def test_days_include_the_delay():
    assert LabelOptions(max_delay=2).days("2026-02-27") == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert DEFAULT_OPTIONS.days(DAY) == [DAY]
