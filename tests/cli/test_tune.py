"""tune.py: trials as children of one run, pruned, and resumed after an interruption."""

import itertools
from pathlib import Path

import mlflow
import pytest
import yaml

from deepfm.experiments import train_run
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings

NUMBERS = itertools.count()


@pytest.fixture
def tune(run_job, small_dataset, models, tmp_path):
    """tune({"deep.dropout": [0.1]}, "--seeds", 2) runs the job, in a separate study unless one is given."""

    def run(parameters, *flags, study=None, training=None, **space):
        parameters = {
            name: content if isinstance(content, dict) else {"values": content}
            for name, content in parameters.items()
        }
        content = {"search": "grid", "parameters": parameters, **space}
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(content))
        base = {"batch_size": 8, "max_epochs": 2, "patience": 2, "learning_rate": 0.01}
        folder = models(deepfm={"training": base | (training or {})})
        study = study or f"study-{next(NUMBERS)}"
        files = ["--dataset", small_dataset, "--model", folder / "deepfm.yaml"]
        files += ["--space", tmp_path / "space.yaml", "--study-dir", tmp_path / "studies"]
        return run_job("tune", *files, "--study", study, "--experiment", study, "--num-workers", 0, *flags)

    return run


@pytest.fixture
def trained(monkeypatch):
    """Embedding sizes that were trained, in order; `work` is called before each training."""

    class Trained(list):
        work = None

    trained, real = Trained(), train_run.launch

    def launch(spark, job, num_workers, workers, **options):
        trained.append(job.model.embedding_dim)
        if trained.work:
            trained.work(len(trained))
        return real(spark, job, num_workers, workers, **options)

    monkeypatch.setattr(train_run, "launch", launch)
    return trained


def children(store, run_id):
    experiment = store.client.get_run(run_id).info.experiment_id
    return store.client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'")


def test_trials_are_children_of_one_run_with_table_plot_and_best_settings(tune, store):
    done = tune({"embedding_dim": [1, 2]})
    summary = done.summary
    assert summary["trials"] == {"complete": 2, "pruned": 0, "diverged": 0, "failed": 0, "remaining": 0}
    parent = store.client.get_run(summary["run_id"])
    assert parent.info.status == "FINISHED"
    trials = {child.data.params["embedding_dim"]: child for child in children(store, summary["run_id"])}
    assert set(trials) == {"1", "2"}
    for child in trials.values():
        assert child.info.status == "FINISHED" and child.data.tags["trial.state"] == "complete"
        assert len(store.client.get_metric_history(child.info.run_id, "valid_logloss")) == 2
    best_metrics = trials[str(summary["best"]["embedding_dim"])].data.metrics
    assert best_metrics["best_valid_logloss"] == pytest.approx(summary["valid_logloss"])
    assert best_metrics["best_valid_logloss"] == min(
        t.data.metrics["best_valid_logloss"] for t in trials.values()
    )
    assert best_metrics["best_test_auc"] == pytest.approx(summary["test_auc"])
    artifacts = parent.info.artifact_uri
    assert (
        mlflow.artifacts.load_text(f"{artifacts}/trials.md").strip()
        == done.stdout.rpartition("\n{")[0].strip()
    )
    assert mlflow.artifacts.load_text(f"{artifacts}/trials.csv").count("\n") == 3
    assert mlflow.artifacts.load_image(f"{artifacts}/plots/embedding_dim.png").width > 500
    settings = load_settings(summary["best_model"], ModelSettings)
    assert settings.embedding_dim == summary["best"]["embedding_dim"]
    assert mlflow.artifacts.load_text(f"{artifacts}/best.yaml") == Path(summary["best_model"]).read_text()


def test_the_best_settings_give_the_metrics_of_the_best_trial(tune, run_job, small_dataset):
    summary = tune({"training.learning_rate": [0.01, 0.05]}).summary
    flags = ["--dataset", small_dataset, "--model", summary["best_model"], "--name", "tuned"]
    trained = run_job("train", *flags, "--num-workers", 0).summary
    assert trained["valid_logloss"] == summary["valid_logloss"]
    assert trained["test_auc"] == summary["test_auc"]


def test_an_interrupted_study_resumes_in_its_run(tune, trained, store):
    def interrupt(num_started):
        if num_started == 2:
            raise KeyboardInterrupt

    trained.work = interrupt
    assert tune({"embedding_dim": [1, 2, 3]}, study="interrupted").status != 0
    (parent,) = store.find_runs("interrupted", "tags.mlflow.runName = 'interrupted'")
    trained.work = None
    summary = tune({"embedding_dim": [1, 2, 3]}, study="interrupted").summary
    assert summary["run_id"] == parent.info.run_id
    assert trained[1] == trained[2] and sorted({*trained}) == [1, 2, 3] and len(trained) == 4
    assert summary["trials"] == {"complete": 3, "pruned": 0, "diverged": 0, "failed": 1, "remaining": 0}
    assert store.client.get_run(parent.info.run_id).info.status == "FINISHED"
    again = tune({"embedding_dim": [1, 2, 3]}, study="interrupted").summary
    assert len(trained) == 4 and again["best"] == summary["best"]


def test_the_run_and_folder_of_a_killed_job_are_cleaned_up(tune, store, profile_path):
    summary = tune({"embedding_dim": [1, 2]}, "--trials", 1, study="killed").summary
    tags = {"mlflow.parentRunId": summary["run_id"]}
    experiment = store.client.get_experiment_by_name("killed").experiment_id
    child = store.client.create_run(experiment, tags=tags).info.run_id
    folder = Path(yaml.safe_load(profile_path.read_text())["work_dir"]) / child
    folder.mkdir()
    assert tune({"embedding_dim": [1, 2]}, study="killed").summary["trials"]["complete"] == 2
    assert store.client.get_run(child).info.status == "KILLED"
    assert not folder.exists()


def test_a_bad_trial_is_pruned_after_its_epoch_without_test_metrics(tune, store):
    # In the order of the grid's seed: the low learning rate comes second.
    rates = {"training.learning_rate": [0.1, 1e-9]}
    summary = tune(rates, pruner="median", startup_trials=1, seed=1, training={"max_epochs": 4}).summary
    assert summary["trials"] == {"complete": 1, "pruned": 1, "diverged": 0, "failed": 0, "remaining": 0}
    by_state = {child.data.tags["trial.state"]: child for child in children(store, summary["run_id"])}
    pruned = by_state["pruned"]
    assert pruned.data.params["training.learning_rate"] == "1e-09"
    assert pruned.info.status == "FINISHED"
    assert pruned.data.metrics["best_epochs"] == 1 and "best_test_auc" not in pruned.data.metrics
    assert by_state["complete"].data.metrics["best_epochs"] > 1
    assert summary["best"] == {"training.learning_rate": 0.1}


def test_a_diverged_trial_does_not_stop_the_search(tune):
    summary = tune({"training.learning_rate": [0.01, 1e30]}).summary
    assert summary["trials"] == {"complete": 1, "pruned": 0, "diverged": 1, "failed": 0, "remaining": 0}
    assert summary["best"] == {"training.learning_rate": 0.01}


def test_a_trial_that_runs_out_of_memory_does_not_stop_the_search(tune, trained):
    summary = tune({"embedding_dim": [2, 10**13]}).summary
    assert summary["trials"] == {"complete": 1, "pruned": 0, "diverged": 0, "failed": 3, "remaining": 0}
    assert sorted(trained) == [2, 10**13, 10**13, 10**13]


def test_a_study_ends_with_the_running_epoch_after_its_time_limit(tune, trained):
    long = {"max_epochs": 10**6, "patience": 10**6}
    # Nine seconds, because opening the run may take some of them on a busy machine.
    summary = tune({"embedding_dim": [1, 2]}, "--max-minutes", 0.15, training=long).summary
    assert len(trained) == 1
    assert summary["trials"] == {"complete": 0, "pruned": 0, "diverged": 0, "failed": 1, "remaining": 2}
    assert (summary["best"], summary["best_model"]) == (None, None)


@pytest.mark.parametrize(
    ("parameters", "flags", "space", "message"),
    [
        (
            {"deep.dropuot": [0.1]},
            (),
            {},
            "space.yaml: 1 error: parameters.deep.dropuot: no model has such",
        ),
        ({"deep.dropout": [1.5]}, (), {}, "deep.dropout = 1.5: 1 error"),
        ({"embedding_dim": [1]}, (), {"search": "tpe"}, "--trials is required with search: tpe"),
        (
            {"embedding_dim": [1]},
            ("--seeds", 2, "--trials", 2),
            {"search": "tpe"},
            "only search: grid repeats",
        ),
        ({"embedding_dim": [1]}, ("--study", "a/b"), {}, "--study: expected letters, digits"),
        ({"embedding_dim": [1]}, ("--study-dir", "s3://there"), {}, "--study-dir: expected a local folder"),
    ],
)
def test_an_error_is_reported_before_anything_trains(tune, trained, parameters, flags, space, message):
    assert message in tune(parameters, *flags, **space).mistake
    assert trained == []
