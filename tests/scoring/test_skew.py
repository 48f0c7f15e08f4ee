"""The skew check compares rows of the scored day, wherever they are in the log."""

import pytest

from deepfm.artifact.artifact import load_artifact
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.scoring.predict import ship_model
from deepfm.scoring.skew import SAMPLE_ROWS, require_no_skew

DAY, BEFORE = "2026-01-08", "2026-01-07"


@pytest.fixture
def num_compared(spark, save_model, tmp_path, small_data):
    """Return the number of compared rows of a log with a day column, given its lines."""

    def compare(lines) -> int:
        settings = small_data.model_copy(
            update={"columns": (*small_data.columns, "day"), "day_column": "day"}
        )
        (tmp_path / "log.tsv").write_text("".join(f"{line}\n" for line in lines))
        log = find_click_log(f"file://{tmp_path}/log.tsv", settings, days=[DAY], labelled=False)
        folder = save_model()
        model, shipped = load_artifact(f"file://{folder}"), ship_model(spark, str(folder))
        return require_no_skew(spark, raw_rows(spark, log, [DAY]), log.row_format, model, shipped, DAY)

    return compare


def test_rows_of_the_day_may_follow_rows_of_other_days(num_compared):
    before = [f"1\t{n}\ta\t{BEFORE}" for n in range(2 * SAMPLE_ROWS)]
    assert num_compared([*before, f"1\t0\ta\t{DAY}", f"1\tx\ta\t{DAY}", f"0\t1\tb\t{DAY}"]) == 2


def test_a_day_that_is_not_in_the_log_has_no_compared_rows(num_compared):
    assert num_compared([f"1\t0\ta\t{BEFORE}"]) == 0


def test_no_more_than_a_sample_is_compared(num_compared):
    assert num_compared([f"1\t{n}\ta\t{DAY}" for n in range(SAMPLE_ROWS + 50)]) == SAMPLE_ROWS
