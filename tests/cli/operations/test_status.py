"""python -m deepfm status."""

import json

import pytest
from click.testing import CliRunner

from deepfm.cli.operations.status import status
from deepfm.scoring.daily_runs import log_scoring_day


@pytest.fixture
def run_status(profile_path):
    """Function: run the command with the store of the tests."""

    def run(*flags):
        return CliRunner().invoke(status, [*flags, "--profile", str(profile_path)])

    return run


def test_the_state_is_tables_on_stderr_and_one_line_of_json_on_stdout(store, run_status):
    store.client.create_registered_model("shown")
    store.client.create_model_version("shown", source="file:///1")
    store.client.set_registered_model_alias("shown", "champion", "1")
    for day in ("2026-01-06", "2026-01-08"):
        log_scoring_day(store, "shown", day, tags={"version": "1", "flagged": "false"},
                        metrics={"rows_scored": 1234.0, "psi": 0.0625}, report=None)  # fmt: skip
    done = run_status("shown")
    assert done.exit_code == 0, done.stderr
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert (summary["job"], summary["champion"]["version"], summary["candidate"]) == ("status", "1", None)
    assert [day["psi"] for day in summary["days"]] == [0.0625, 0.0625]
    assert summary["missing"] == ["2026-01-07"]
    for text in (
        "champion",
        "1,234",
        "0.062",
        "not scored: 2026-01-07",
        "not evaluated on labels: 2026-01-06",
    ):
        assert text in done.stderr


def test_an_unknown_model_is_an_error_of_the_user(run_status):
    done = run_status("never_trained")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no model never_trained at sqlite:///")


def test_a_malformed_date_is_an_error_of_the_user(run_status):
    done = run_status("m", "--date", "today")
    assert done.exit_code == 2 and "--date: expected a day YYYY-MM-DD, found today" in done.stderr
