"""A folder of one day, given itself, is not read as another day."""

import pytest

from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.row_format import RowFormat
from deepfm.errors import UserError
from deepfm.fields import FieldSet
from deepfm.scoring.input_day import day_of_path, require_day_of_input, require_day_of_labels

DAY, OTHER = "2026-01-08", "2026-01-07"


@pytest.mark.parametrize(
    "name",
    [
        "ds=2026-01-08", "dt=2026-01-08", "date=2026-01-08", "day=2026-01-08", "2026-01-08", "20260108",
        "dt=20260108", "dt=2026-01-08/hour=07", "2026/01/08", "year=2026/month=1/day=8",
    ],
)  # fmt: skip
def test_a_path_names_a_day(tmp_path, name):
    folder = tmp_path / "log" / name
    folder.mkdir(parents=True)
    (folder / "part.tsv").write_text("1")
    for url in (f"file://{folder}", f"file://{folder}/", f"file://{folder}/part.tsv"):
        assert day_of_path(url) == DAY


@pytest.mark.parametrize("name", ["log", "20261308", "ds=today", "2026-01-08/log", "v20260108", "1/2/3"])
def test_other_paths_name_none(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    assert day_of_path(f"file://{tmp_path}/{name}") is None


def test_a_folder_of_another_day_is_refused(tmp_path, small_data):
    url = f"file://{tmp_path}/ds={OTHER}"
    (tmp_path / f"ds={OTHER}").mkdir()
    require_day_of_input(url, [OTHER], small_data)
    for days in ([DAY], [OTHER, DAY]):
        with pytest.raises(UserError, match=f"expected impressions of {DAY}, found a folder of {OTHER}"):
            require_day_of_input(url, days, small_data)


def test_days_inside_the_log_are_used_whatever_its_path_is(tmp_path, small_data):
    """An export of another date has day folders, or a day column."""
    folder = tmp_path / "20260110"
    folder.mkdir()
    by_column = small_data.model_copy(update={"day_column": "day"})
    require_day_of_input(f"file://{folder}", [DAY], by_column)
    (folder / f"ds={DAY}").mkdir()
    require_day_of_input(f"file://{folder}", [DAY], small_data)


def test_labels_of_one_folder_must_be_of_the_days_that_count(tmp_path):
    """An export of a later day may have all labels; the folder of the scored day alone lacks later ones."""
    for day in (OTHER, DAY):
        (tmp_path / day).mkdir()
    row_format = RowFormat(("label", "id"), FieldSet(()), ",", label="label", keep=("id",))
    first, second = (ClickLog(f"file://{tmp_path}/{day}", row_format, None) for day in (OTHER, DAY))
    require_day_of_labels(first, [OTHER])
    require_day_of_labels(second, [OTHER, DAY])
    with pytest.raises(UserError, match=f"expected labels of {OTHER}, found a folder of {DAY}"):
        require_day_of_labels(second, [OTHER])
    with pytest.raises(UserError, match=f"--max-delay needs the days up to {DAY}"):
        require_day_of_labels(first, [OTHER, DAY])
