"""Days of a log's folders and file names."""

from datetime import date

import pytest

from deepfm.click_log.day_paths import day_of_name, find_day_paths
from deepfm.click_log.log_files import list_files, partition_values, split_of_file
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

SETTINGS = {"format": "json", "fields": [{"kind": "category", "names": ["site"]}]}


def settings(**changes):
    return DataSettings.model_validate(SETTINGS | changes)


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}"


def write(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("{}\n")


FORMS = {
    "ds=2026-01-0{}/a": {},
    "dt=2026-01-0{}/a": {},
    "date=2026010{}/a": {},
    "log_date=2026-01-0{}/a": {},
    "2026-01-0{}/a": {},
    "2026010{}/a": {},
    "ds=2026-01-0{}/hr=07/a": {},
    "ds=2026-01-0{}/deep/er/a": {},
    "year=2026/month=01/day=0{}/a": {},
    "2026/01/0{}/hr=00/a": {},
    "0{}.01.2026/a": {"day_folder": "%d.%m.%Y"},
    "eu/2026-01-0{}/a": {"day_folder": "eu/%Y-%m-%d"},
    "day_{}.gz": {"day_from_name": r"day_(\d+)", "first_day": "2025-12-31"},
    "log-2026-01-0{}.txt": {"day_from_name": r"log-(.*)\.txt"},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_usual_forms_of_days_are_found(tmp_path, url, form):
    write(tmp_path, form.format(1), form.format(2))
    paths = find_day_paths(url, settings(**FORMS[form]))
    assert paths.days == ("2026-01-01", "2026-01-02")
    assert list_files(url, paths, ["2026-01-02"]) == [(f"{url}/{form.format(2)}", 3, "2026-01-02")]
    assert len(list_files(url, paths, None)) == 2


@pytest.mark.parametrize("path", ["a", "country=de/a", "model=7/version=20260101/a"])
def test_other_folders_are_no_days(tmp_path, url, path):
    write(tmp_path, path)
    assert find_day_paths(url, settings()) is None
    assert list_files(url, None, None) == [(f"{url}/{path}", 3, None)]


@pytest.mark.parametrize(
    ("paths", "changes", "message"),
    [
        (["ds=2026-01-01/a", "b"], {}, "found the file b next to them"),
        (["ds=2026-01-01/a", "dt=2026-01-02/a"], {}, "found the folder dt=2026-01-02 next to them"),
        (["ds=2026-01-01/a", "ds=2026-02-30/a"], {}, "found the folder ds=2026-02-30 next to them"),
        (["ds=today/a"], {}, "ds=today: expected a folder such as ds=YYYY-MM-DD"),
        (["year=2026/month=13/day=01/a"], {}, "found the folder year=2026/month=13"),
        (["a"], {"day_folder": "%Y/%m"}, "found the file a next to them"),
        (["day_1", "readme"], {"day_from_name": r"day_(\d+)"}, "readme: expected a file name with a day"),
        (["ds=2026-01-01/a"], {"day_column": "day"}, "has day folders, but day_column is set to day"),
    ],
)
def test_files_without_a_day_are_an_error(tmp_path, url, paths, changes, message):
    write(tmp_path, *paths)
    with pytest.raises(UserError, match=message):
        find_day_paths(url, settings(**changes))


def test_rows_of_a_null_partition_are_skipped_and_counted(tmp_path, url, caplog):
    write(tmp_path, "ds=2026-01-01/a", "ds=__HIVE_DEFAULT_PARTITION__/b", "ds=__HIVE_DEFAULT_PARTITION__/c")
    assert find_day_paths(url, settings()).days == ("2026-01-01",)
    assert "2 files of rows without a day are skipped" in caplog.text


@pytest.mark.parametrize("entry", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json"])
def test_the_files_of_a_table_format_are_refused(tmp_path, url, entry):
    write(tmp_path, "ds=2026-01-01/a", entry)
    with pytest.raises(UserError, match="rows that were replaced or deleted"):
        find_day_paths(url, settings())


def test_partitions_are_read_from_the_path():
    path = "s3://logs/ds=2026-01-01/hr=07/city=S%C3%A3o%20Paulo/os=__HIVE_DEFAULT_PARTITION__/a=b.csv"
    assert partition_values(path) == {"ds": "2026-01-01", "hr": "07", "city": "São Paulo", "os": None}


def test_a_file_is_of_the_first_part_whose_pattern_it_fits():
    patterns = ("train*.csv", "valid.csv", "held/*.csv")
    files = ["s3://a/train_1.csv", "s3://a/valid.csv", "s3://a/held/x.csv", "s3://a/readme.csv"]
    assert [split_of_file(file, patterns) for file in files] == [0, 1, 2, -1]


def test_the_year_of_a_date_is_no_number_of_a_day():
    first = date(2000, 1, 1)
    assert day_of_name("day_2026-01-31.csv", "day_([0-9]+)", first) is None
    assert day_of_name("day_2026-01-31.csv", "day_([0-9-]+)", first) == "2026-01-31"
    assert day_of_name("day_22.csv", r"day_(\d+)|x", first) == "2000-01-23"
    assert day_of_name("x.csv", r"day_(\d+)|x", first) is None
