"""python -m deepfm clean."""

import json

import pytest
import yaml
from click.testing import CliRunner

from deepfm.cli.operations.clean import clean


@pytest.fixture
def run_clean(store, profile_path, tmp_path):
    """Function: run the command with one finished run in its work_dir, and a profile of its own."""
    with store.run("cleaned-by-command") as run:
        pass
    (tmp_path / "work" / run.run_id).mkdir(parents=True)
    (tmp_path / "work" / run.run_id / "weights").write_text("12345")
    profile = yaml.safe_load(profile_path.read_text()) | {"work_dir": str(tmp_path / "work")}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))

    def run_command(*flags):
        done = CliRunner().invoke(clean, [*flags, "--profile", str(tmp_path / "profile.yaml")])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    return run_command


def test_folders_are_listed_and_kept_without_yes(run_clean, tmp_path):
    summary, stderr = run_clean()
    (leftover,) = summary["leftovers"]
    assert (leftover["kind"], leftover["bytes"], leftover["removed"]) == ("run", 5, False)
    assert "the run is finished" in stderr and "nothing was removed; --yes removes" in stderr
    assert len(list((tmp_path / "work").iterdir())) == 1


def test_folders_are_removed_with_yes(run_clean, tmp_path):
    summary, _ = run_clean("--yes")
    assert (summary["removed"], summary["removed_bytes"]) == (1, 5)
    assert list((tmp_path / "work").iterdir()) == []
    assert run_clean()[0]["leftovers"] == []
