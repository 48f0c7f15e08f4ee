"""Folders that can be removed, and those that must be kept."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from deepfm.cleanup.leftovers import find_attempts, find_datasets, find_run_folders, remove_leftover
from deepfm.ownership import exclusive_ownership

NOW = datetime.now(timezone.utc)
#: Everything of these tests is younger than the first, and older than the second.
LONG_AGO, SOON = NOW - timedelta(days=14), NOW + timedelta(days=14)


@pytest.fixture
def work(tmp_path):
    """URL of a folder of runs."""
    (tmp_path / "work").mkdir()
    return f"file://{tmp_path}/work"


@pytest.fixture
def run_folder(store, tmp_path, work):
    """Function: create a run with a status and its folder with these files -> id of the run."""

    def create(status, *files, experiment="cleaned"):
        with store.run(experiment) as run:
            pass
        store.client.set_terminated(run.run_id, status)
        if status == "RUNNING":
            store.client.update_run(run.run_id, status="RUNNING")
        folder = tmp_path / "work" / run.run_id
        folder.mkdir()
        for file in files:
            (folder / file).write_text("12345")
        return run.run_id

    return create


def names(leftovers):
    return [leftover.url.rpartition("/")[2] for leftover in leftovers]


def test_the_folder_of_a_finished_run_can_be_removed(store, run_folder, work):
    run_id = run_folder("FINISHED", "weights.safetensors")
    (leftover,) = find_run_folders(store, work, before=LONG_AGO)
    assert (leftover.url, leftover.num_bytes) == (f"{work}/{run_id}", 5)
    assert leftover.reason == "the run is finished"


def test_a_run_that_can_be_resumed_is_kept_for_some_days(store, run_folder, work):
    for file in ("a.checkpoint.safetensors", "result.json"):
        run_folder("FAILED", file)
    assert names(find_run_folders(store, work, before=LONG_AGO)) == []
    assert len(names(find_run_folders(store, work, before=SOON))) == 2


def test_a_failed_run_without_a_checkpoint_can_be_removed(store, run_folder, work):
    run_id = run_folder("KILLED", "resume_spec.json")
    assert names(find_run_folders(store, work, before=LONG_AGO)) == [run_id]


def test_a_deleted_run_can_be_removed(store, run_folder, work):
    run_id = run_folder("FAILED", "a.checkpoint.safetensors")
    store.client.delete_run(run_id)
    assert names(find_run_folders(store, work, before=LONG_AGO)) == [run_id]


def test_running_and_unknown_runs_are_kept(store, run_folder, work, tmp_path):
    run_folder("RUNNING", "a.checkpoint.safetensors")
    (tmp_path / "work" / ("0" * 32)).mkdir()
    assert names(find_run_folders(store, work, before=SOON)) == []


def test_a_folder_that_a_process_uses_is_not_removed(store, run_folder, work, caplog):
    run_id = run_folder("FINISHED")
    (leftover,) = find_run_folders(store, work, before=LONG_AGO)
    with exclusive_ownership(work, run_id, f"run {run_id}", "wait"):
        assert not remove_leftover(leftover)
    assert "is in use by process" in caplog.text
    assert remove_leftover(leftover)
    assert names(find_run_folders(store, work, before=LONG_AGO)) == []


def test_an_attempt_is_kept_if_it_holds_a_published_day(tmp_path):
    (tmp_path / "_attempts" / "ds=2026-01-08.1").mkdir(parents=True)
    (tmp_path / "_attempts" / "ds=2026-01-09.2" / "replaced").mkdir(parents=True)
    (tmp_path / "ds=2026-01-07").mkdir()
    (leftover,) = find_attempts(f"file://{tmp_path}")
    assert leftover.url.endswith("/_attempts/ds=2026-01-08.1")
    with exclusive_ownership(f"file://{tmp_path}", "ds=2026-01-08", "the day", "wait"):
        assert not remove_leftover(leftover)


@pytest.fixture
def dataset(tmp_path):
    """Function: write the manifest of a dataset -> URL of the folder of datasets."""

    def write(name, digest):
        folder = tmp_path / "datasets" / name
        folder.mkdir(parents=True)
        manifest = {"digest": digest, "created_at": NOW.isoformat()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return f"file://{tmp_path}/datasets"

    return write


def test_a_dataset_without_a_version_can_be_removed_after_some_days(store, dataset, tmp_path):
    url = dataset("unused", "digest-unused")
    (tmp_path / "datasets" / "unfinished").mkdir()
    assert names(find_datasets(store, url, before=LONG_AGO)) == []
    (leftover,) = find_datasets(store, url, before=SOON)
    assert names([leftover]) == ["unused"]
    assert remove_leftover(leftover)
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["unfinished"]


def test_a_dataset_of_a_version_is_kept_until_the_version_is_deleted(store, dataset, request):
    name = request.node.name
    url = dataset("used", "digest-used")
    store.client.create_registered_model(name)
    store.client.create_model_version(name, source="file:///1", tags={"dataset": "digest-used"})
    assert names(find_datasets(store, url, before=SOON)) == []
    store.client.delete_model_version(name, "1")
    assert names(find_datasets(store, url, before=SOON)) == ["used"]


def test_a_dataset_of_a_running_training_is_kept(store, dataset):
    url = dataset("training", "digest-training")
    with store.run("cleaned") as run:
        store.client.log_param(run.run_id, "dataset.digest", "digest-training")
        assert names(find_datasets(store, url, before=SOON)) == []
    assert names(find_datasets(store, url, before=SOON)) == ["training"]
