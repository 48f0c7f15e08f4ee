"""Choice of the split of a log."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from deepfm.click_log.choose_split import choose_split
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import FileSplit, HashSplit, TimeSplit
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

FIELDS = [{"kind": "category", "names": ["C"]}]
NO_DAYS = {"format": "delimited", "columns": ["label", "C", "ts"], "fields": FIELDS}
TIMES = {**NO_DAYS, "time_column": "ts", "time_format": "unix_s"}
HOUR = 3600


@pytest.fixture
def choose(spark, tmp_path):
    """Write lines into the file log.tsv (or below a folder) and choose the split."""

    def choose(content, lines, *day_ranges, folder="log"):
        settings = parse_settings(content, DataSettings, "test")
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "log.tsv").write_text("".join(f"{line}\n" for line in lines))
        log = find_click_log(f"file://{tmp_path}/log", settings)
        return choose_split(spark, log, settings, day_ranges or (None, None, None))

    return choose


def test_a_log_with_days_needs_all_three_ranges(choose):
    with pytest.raises(UserError, match="has days: give --train-days"):
        choose(TIMES, ["1\ta\t0"], "1970-01-01", None, "1970-01-03")


def test_a_log_without_days_rejects_day_ranges(choose):
    with pytest.raises(UserError, match="has no days: remove --train-days"):
        choose(NO_DAYS, ["1\ta\t0"], "2026-01-01", None, None)


def test_a_log_without_days_is_split_by_the_given_shares(choose):
    shares = {"valid": 0.2, "test": 0.3}
    assert choose({**NO_DAYS, "hash_split": shares}, ["1\ta\t0"]) == HashSplit(0.2, 0.3)


def test_the_files_of_a_published_split_keep_their_part(choose):
    files = {"train": "log*", "valid": "valid.tsv", "test": "test.tsv"}
    split = choose({**NO_DAYS, "split_files": files}, ["1\ta\t0"])
    assert split == FileSplit(("log*", "valid.tsv", "test.tsv"))
    files = pa.chunked_array([["s3://a/log.tsv", "s3://a/test.tsv"], ["s3://a/test.tsv", "s3://a/other"]])
    assert split.codes(SimpleNamespace(files=files)).tolist() == [0, 2, 2, -1]


def time_split_settings(valid, test):
    return {**TIMES, "time_split": {"valid": valid, "test": test}}


def test_the_latest_rows_are_for_test_and_the_rows_before_them_for_validation(choose):
    # Ten rows, an hour and a second apart, in any order.
    lines = [f"1\ta\t{n * (HOUR + 1)}" for n in (3, 9, 0, 7, 1, 8, 2, 6, 4, 5)]
    assert choose(time_split_settings(0.2, 0.1), lines) == TimeSplit(6 * (HOUR + 1) + 1, 8 * (HOUR + 1) + 1)


def test_rows_of_the_same_second_stay_together(choose):
    lines = [f"0\ta\t{second}" for second in (5, 6, 6, 6, 6, 6, 7, 7, 8, 8)]
    # Half of the rows end within second 6, four fifths just after second 7.
    assert choose(time_split_settings(0.3, 0.2), lines) == TimeSplit(7, 8)


def test_times_before_1970_are_ordered_correctly(choose):
    assert choose(
        time_split_settings(0.25, 0.25), [f"0\ta\t{n * HOUR - 5}" for n in range(-2, 2)]
    ) == TimeSplit(-HOUR - 4, -4)


def test_validation_rows_that_share_a_second_with_other_rows_are_an_error(choose):
    with pytest.raises(UserError, match="expected rows at different times"):
        choose(time_split_settings(0.1, 0.2), ["0\ta\t5"] * 5 + ["0\ta\t6"])


def test_time_split_rejects_logs_in_day_folders(choose):
    with pytest.raises(UserError, match="time_split is for logs without"):
        choose(time_split_settings(0.1, 0.1), ["0\ta\t5"], folder="log/ds=2026-01-01")


@pytest.mark.parametrize("line", ["1\ta\tsoon", "yes\ta\t5"])
def test_a_log_without_a_row_with_valid_time_and_label_is_an_error(choose, line):
    with pytest.raises(UserError, match="expected rows with a time and a label, found none"):
        choose(time_split_settings(0.1, 0.1), [line] * 3)
