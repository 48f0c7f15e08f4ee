"""train.py --resume and --register-only: what is reused, and what is refused."""

from dataclasses import replace
from itertools import count

import mlflow
import pytest

from deepfm.artifact.artifact import load_artifact
from deepfm.dataset.read import Batch
from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments import train_run as training_run
from deepfm.experiments.run_folder import load_result
from deepfm.launch.rank import stages, worker
from deepfm.training.checkpoint import Checkpoints

NUMBERS = count()


@pytest.fixture
def train(run_job, small_dataset, models):
    def run(model, name, *flags, **changes):
        files = ["--dataset", small_dataset, "--model", models(**changes) / f"{model}.yaml"]
        return run_job("train", *files, "--num-workers", 0, "--name", name, *flags)

    return run


@pytest.fixture
def runs(profile_path):
    """Folder that contains the run folders."""
    return profile_path.parent / "runs"


@pytest.fixture
def name():
    """Unique name of a model."""
    return f"resumed_{next(NUMBERS)}"


@pytest.fixture
def champion(train, store, name):
    """champion() trains a version with a new seed and makes it champion; returns the version."""
    seeds = count(1)

    def train_champion():
        training = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.3, "seed": next(seeds)}
        version = train("deepfm", name, deepfm={"training": training}).summary["version"]
        store.client.set_registered_model_alias(name, "champion", version)
        return version

    return train_champion


def interrupt_training(monkeypatch, train, *flags, **changes):
    """Lose the workers of a training before its first step; return the run's id."""

    def lose_workers(*_, **__):
        raise WorkersLostError("a worker was lost")

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "launch", lose_workers)
        job = train(*flags, **changes)
    assert job.status == 1
    return job.stderr.rpartition("--resume ")[2].split()[0]


def test_a_resumed_training_ignores_a_new_champion(train, store, champion, name, monkeypatch, tmp_path):
    arguments = ("deepfm", name, "--warm-start", f"models:/{name}@champion")
    first = champion()
    uninterrupted = train(*arguments).summary
    run_id = interrupt_training(monkeypatch, train, *arguments)
    champion()
    resumed = train(*arguments, "--resume", run_id).summary
    assert store.client.get_run(run_id).data.tags["started_from"] == f"models:/{name}/{first}"
    assert (resumed["run_id"], resumed["test_logloss"]) == (run_id, uninterrupted["test_logloss"])
    path = store.download(store.resolve(f"models:/{name}/{resumed['version']}"), str(tmp_path))
    started_from = load_artifact(f"file://{path}").card.started_from
    assert [data.model for data in started_from] == [f"models:/{name}/{first}"]


def test_a_trained_model_can_be_registered_after_its_start_model_was_removed(
    train, store, champion, name, monkeypatch, runs
):
    def fail(*_):
        raise mlflow.exceptions.MlflowException("unreachable")

    champion()
    arguments = ("deepfm", name, "--warm-start", f"models:/{name}@champion")
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "register_result", fail)
        folder = train(*arguments).stderr.rpartition("--register-only ")[2].split()[0]
    store.client.delete_registered_model_alias(name, "champion")
    summary = train(*arguments, "--register-only", folder).summary
    assert store.client.get_model_version_by_alias(name, "candidate").run_id == summary["run_id"]
    assert not (runs / summary["run_id"]).exists()


def test_other_settings_are_refused_even_before_the_first_checkpoint(train, name, monkeypatch):
    run_id = interrupt_training(monkeypatch, train, "deepfm", name)
    error = train("deepfm", name, "--resume", run_id, deepfm={"embedding_dim": 3}).mistake
    assert "resume_spec.json: expected embedding_dim 2 of the original run, found 3" in error
    assert train("deepfm", name, "--resume", run_id).summary["run_id"] == run_id


def test_a_training_that_ran_out_of_memory_can_be_resumed(train, name, monkeypatch, runs):
    save = Checkpoints.save

    def save_and_run_out(self, position, *state):
        save(self, position, *state)
        raise OutOfMemoryError("rank 0 ran out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_run_out)
        error = train("deepfm", name).mistake
    assert "ran out of memory; its checkpoints are kept; resume with the same command and --resume" in error
    run_id = error.rpartition("--resume ")[2].split()[0]
    summary = train("deepfm", name, "--resume", run_id).summary
    assert (summary["epochs"], summary["test_logloss"]) == (2, train("deepfm", name).summary["test_logloss"])
    assert not (runs / run_id).exists()


def test_a_resumed_training_reports_that_the_number_of_workers_changed(train, name, monkeypatch):
    save = Checkpoints.save

    def save_and_run_out(self, position, *state):
        position.history.num_ranks = [2]
        save(replace(self, num_ranks=2), position, *state)
        raise OutOfMemoryError("rank 0 ran out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_run_out)
        run_id = train("deepfm", name).mistake.rpartition("--resume ")[2].split()[0]
    assert "resumed_with" not in train("deepfm", name).summary
    summary = train("deepfm", name, "--resume", run_id).summary
    assert (summary["num_workers"], summary["epochs"]) == (0, 2)
    assert summary["resumed_with"] == {"num_workers": 1, "num_workers_before": [2], "same_weights": False}


def test_a_resume_after_damaged_test_rows_does_not_train_again(train, name, monkeypatch, runs):
    def damaged(*_):
        raise UserError("test/part-0.parquet: the dataset is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "final_result", damaged)
        error = train("deepfm", name).mistake
    run_id = error.rpartition("--resume ")[2].split()[0]
    assert load_result(f"file://{runs}/{run_id}") is None
    with monkeypatch.context() as patch:
        patch.setattr(worker.Worker, "read", refuse_training_rows(worker.Worker.read))
        assert train("deepfm", name, "--resume", run_id).summary["epochs"] == 2


def refuse_training_rows(read):
    def read_no_training_rows(self, settings, split, *order) -> list[Batch]:
        assert split != "train"
        return read(self, settings, split, *order)

    return read_no_training_rows
