"""The data of a model are described by the split of its dataset."""

from deepfm.artifact.training_data import TrainingData
from deepfm.dataset.manifest import InputLog
from deepfm.settings.data import DataSettings

DATA = {"format": "parquet", "fields": [{"kind": "category", "names": ["C", "D"]}]}
DAYS = {
    "train": ("2026-01-01", "2026-01-03"),
    "valid": ("2026-01-04", "2026-01-04"),
    "test": ("2026-01-05", "2026-01-06"),
}


def describe(log=None, data=None):
    log = InputLog(**{"url": "file:///log", "days": {}, "rows_read": 1, "bad_by_reason": {}, **(log or {})})
    return TrainingData.from_input("models:/m/1", log, DataSettings.model_validate(DATA | (data or {})))


def test_days_without_folder_are_not_days_of_the_model():
    data = describe({"days": DAYS, "missing_days": ["2026-01-02"]})
    assert data.days_of("train") == ("2026-01-01", "2026-01-03")
    assert data.last_seen_day == "2026-01-04"


def test_the_last_second_before_the_test_rows_is_on_the_last_seen_day():
    times = {"time_column": "T", "time_format": "unix_s"}
    assert describe({"times": (0, 86400)}, times).last_seen_day == "1970-01-01"
    assert describe({"times": (0, 86401)}, times).last_seen_day == "1970-01-02"
    # Midnight in UTC is 01:00 of the next day there.
    assert (
        describe({"times": (0, 86400)}, times | {"time_zone": "Europe/Paris"}).last_seen_day == "1970-01-02"
    )


def test_a_split_by_files_has_their_names():
    files = {"train": "a*", "valid": "b*", "test": "c*"}
    data = describe(data={"split_files": files})
    assert (data.files.test, data.shares, data.last_seen_day) == ("c*", None, None)


def test_a_split_by_hash_has_its_shares_and_the_columns_that_are_hashed():
    data = describe(data={"hash_split": {"valid": 0.2, "test": 0.3}})
    assert (data.shares.valid, data.shares.test) == (0.2, 0.3)
    assert data.hashed_columns == ("C", "D", "label")


def test_lines_of_text_are_hashed_whole():
    assert describe(data={"format": "delimited", "header": True}).hashed_columns == ()
