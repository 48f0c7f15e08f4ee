"""--dry-run of build_features.py, tune.py and promote.py: everything is checked, nothing is written."""

import pytest


@pytest.fixture
def build(run_job, small_dataset, tmp_path):
    """build(*flags) builds from the log of the small dataset into a new folder."""
    days = [f"--{part}-days=2026-01-0{n}" for n, part in enumerate(("train", "valid", "test"), start=1)]
    paths = ["--data", small_dataset.parent / "data.yaml", "--input", small_dataset.parent / "log"]
    return lambda *flags: run_job("build_features", *paths, *days, "--output", tmp_path / "new", *flags)


def test_a_build_is_checked_without_an_output_folder(build, tmp_path):
    summary = build("--dry-run").summary
    assert (summary["num_files"], summary["num_fields"], summary["is_built"]) == (3, 2, False)
    assert summary["days"] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert not (tmp_path / "new").exists()


def test_the_dry_run_of_a_build_reports_what_the_build_would_refuse(build, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").touch()
    message = build("--dry-run").mistake
    assert "expected a new or empty folder, found other files; choose another --output" in message
    assert build().mistake == message


def test_the_dry_run_of_a_build_checks_the_dataset_to_grow(build, tmp_path):
    assert f"{tmp_path}/none" in build("--dry-run", "--grow", tmp_path / "none").mistake


def test_a_study_is_checked_without_a_study_file_or_run(run_job, small_dataset, models, tmp_path, store):
    (tmp_path / "space.yaml").write_text("search: grid\nparameters: {embedding_dim: {values: [1, 2, 3]}}\n")
    paths = ["--dataset", small_dataset, "--model", models() / "fm.yaml", "--space", tmp_path / "space.yaml"]
    flags = ["--study-dir", tmp_path / "studies", "--experiment", "tune_dry_run", "--num-workers", 0]
    summary = run_job("tune", *paths, *flags, "--dry-run").summary
    assert (summary["num_trials"], summary["parameters"]) == (3, ["embedding_dim"])
    assert summary["is_begun"] is False
    assert not (tmp_path / "studies").exists()
    assert store.client.get_experiment_by_name("tune_dry_run") is None


def test_a_promotion_is_decided_without_a_change_of_the_champion(run_job, small_dataset, models, store):
    name = "promote_dry_run"
    flags = ["--dataset", small_dataset, "--model", models() / "lr.yaml", "--num-workers", 0, "--name", name]
    run_id = run_job("train", *flags).summary["run_id"]
    before = store.client.get_run(run_id).data.to_dictionary()
    summary = run_job("promote", "--name", name, "--dry-run").summary
    assert (summary["version"], summary["promoted"]) == ("1", False)
    assert "champion" not in store.client.get_registered_model(name).aliases
    assert store.client.get_run(run_id).data.to_dictionary() == before
    assert run_job("promote", "--name", name).summary["promoted"] == summary["would_be_promoted"]


def test_a_rollback_has_no_dry_run(run_job):
    message = run_job("promote", "--name", "m", "--rollback", "--dry-run").mistake
    assert message.startswith("--dry-run: expected a comparison, found --rollback or --history")
