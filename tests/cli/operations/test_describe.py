"""deepfm describe."""

import pytest
from click.testing import CliRunner

from deepfm.cli.operations.describe import describe
from deepfm.errors import UserError

ROWS = [f"{n % 3 % 2},{'ab'[n % 2]},{n % 5}" for n in range(24)]


@pytest.fixture
def log(write_log):
    return write_log({f"2026-01-0{day}": ["click,site,views", *ROWS] for day in (1, 2, 3)})


def test_the_yaml_of_a_log_builds_a_dataset(run_job, log, tmp_path):
    path = tmp_path / "mine.yaml"
    done = CliRunner().invoke(describe, [str(log), "--output", str(path)])
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    days = [f"--{part}-days=2026-01-0{n}" for n, part in enumerate(("train", "valid", "test"), start=1)]
    paths = ["--data", path, "--input", log, "--output", tmp_path / "dataset"]
    summary = run_job("build_features", *paths, *days).summary
    assert (summary["rows_read"], summary["rows_bad"], summary["num_fields"]) == (72, 0, 2)


def test_without_output_the_yaml_is_printed(log):
    done = CliRunner().invoke(describe, [str(log)])
    assert done.exit_code == 0 and "label: click   # " in done.stdout


def test_an_existing_file_is_kept(log, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    done = CliRunner().invoke(describe, [str(log), "--output", str(tmp_path / "mine.yaml")])
    assert isinstance(done.exception, UserError) and "expected a new file" in str(done.exception)
    assert (tmp_path / "mine.yaml").read_text() == "mine"
