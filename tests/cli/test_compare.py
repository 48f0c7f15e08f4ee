"""compare.py: every model on the same rows, one parent run with a child per model; it can be resumed."""

import csv
import io
import itertools

import mlflow
import pytest

from deepfm.experiments import train_run
from deepfm.training.epoch import NotFiniteError

NUMBERS = itertools.count()


@pytest.fixture
def compare(run_job, small_dataset, models):
    """compare("lr,fm") runs the job, in a separate experiment unless one is given."""

    def run(names="lr,fm", *flags, folder=None, experiment=None):
        experiment = experiment or f"compare {next(NUMBERS)}"
        files = ["--dataset", small_dataset, "--model-dir", folder or models(), "--experiment", experiment]
        return run_job("compare", *files, "--models", names, "--num-workers", 0, *flags)

    return run


@pytest.fixture
def trained(monkeypatch):
    """Names of the trained models, in order; the job is interrupted at `interrupted_at`."""

    class Trained(list):
        interrupted_at = None

    trained = Trained()

    def launch(spark, job, num_workers, workers, **options):
        if job.model.model == trained.interrupted_at:
            raise KeyboardInterrupt
        trained.append(job.model.model)
        return real(spark, job, num_workers, workers, **options)

    real = train_run.launch
    monkeypatch.setattr(train_run, "launch", launch)
    return trained


def children(store, run_id):
    experiment = store.client.get_run(run_id).info.experiment_id
    return store.client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'")


def test_every_model_is_evaluated_on_the_same_rows_in_a_child_run(compare, store):
    summary = compare("lr,fm,deepfm").summary
    assert [row["model"] for row in summary["models"]] == ["lr", "fm", "deepfm"]
    assert store.client.get_run(summary["run_id"]).info.status == "FINISHED"
    logged = {child.info.run_name: child for child in children(store, summary["run_id"])}
    assert set(logged) == {"lr", "fm", "deepfm"}
    for row in summary["models"]:
        child = logged[row["model"]]
        assert child.data.metrics["test_auc"] == pytest.approx(row["auc"])
        assert child.data.params["dataset.rows_test"] == "24"
        assert "seed_1/valid_logloss" in child.data.metrics


def test_the_table_is_printed_before_the_summary_and_logged(compare, store):
    done = compare("lr,deepfm")
    table = done.stdout.rpartition("\n{")[0].strip()
    artifacts = store.client.get_run(done.summary["run_id"]).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{artifacts}/comparison.md").strip() == table
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["LR", "DeepFM"]
    rows = list(csv.DictReader(io.StringIO(mlflow.artifacts.load_text(f"{artifacts}/comparison.csv"))))
    assert float(rows[1]["auc"]) == pytest.approx(done.summary["models"][1]["auc"])
    picture = mlflow.artifacts.load_image(f"{artifacts}/comparison.png")
    assert picture.width > picture.height


def test_seeds_give_a_mean_and_a_spread(compare):
    one, three = (compare("fm", "--seeds", n).summary["models"][0] for n in (1, 3))
    assert one["logloss_spread"] is None
    assert three["logloss_spread"] > 0
    assert three["logloss"] != one["logloss"]


def test_an_interrupted_comparison_resumes_at_the_first_unfinished_model(compare, trained, models, store):
    folder = models()
    trained.interrupted_at = "fm"
    stopped = compare("lr,fm,deepfm", folder=folder, experiment="interrupted")
    assert stopped.status != 0
    (parent,) = store.find_runs("interrupted", "tags.comparison != ''")
    trained.interrupted_at = None
    summary = compare("lr,fm,deepfm", folder=folder, experiment="interrupted").summary
    assert trained == ["lr", "fm", "deepfm"]
    assert summary["run_id"] == parent.info.run_id
    assert [row["model"] for row in summary["models"]] == ["lr", "fm", "deepfm"]
    assert store.client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_a_running_comparison_is_not_resumed_by_another_process(compare, trained, models, store, monkeypatch):
    folder, errors = models(), []

    def launch_with_another(*arguments, **options):
        if not errors:
            errors.append(compare("lr,fm", folder=folder, experiment="concurrent").failure)
        return once(*arguments, **options)

    once = train_run.launch
    monkeypatch.setattr(train_run, "launch", launch_with_another)
    summary = compare("lr,fm", folder=folder, experiment="concurrent").summary
    assert "in experiment concurrent is in use by process" in errors[0]
    assert trained == ["lr", "fm"]
    assert {child.info.status for child in children(store, summary["run_id"])} == {"FINISHED"}


def test_the_other_models_are_trained_if_one_diverges(compare, trained, models, store, monkeypatch):
    def fail(spark, job, num_workers, workers, **options):
        if job.model.model == "lr":
            raise NotFiniteError("the loss is nan")
        return launch(spark, job, num_workers, workers, **options)

    folder, launch = models(), train_run.launch
    with monkeypatch.context() as patch:
        patch.setattr(train_run, "launch", fail)
        summary, error = compare("lr,fm", folder=folder, experiment="diverged").incomplete
    assert [row["model"] for row in summary["models"]] == ["fm"]
    assert error == "1 of 2 models failed, the others are done: lr: the loss is nan"
    assert store.client.get_run(summary["run_id"]).info.status == "FAILED"
    # The same comparison trains only what failed.
    trained.clear()
    again = compare("lr,fm", folder=folder, experiment="diverged").summary
    assert trained == ["lr"]
    assert {row["model"] for row in again["models"]} == {"lr", "fm"}


def test_results_of_other_settings_are_not_reused(compare, trained, models):
    trained.interrupted_at = "fm"
    compare(folder=models(), experiment="changed")
    trained.interrupted_at = None
    compare(folder=models(lr={"w_reg": 0.1}), experiment="changed")
    assert trained == ["lr", "lr", "fm"]


def test_a_finished_comparison_is_not_resumed(compare, models):
    folder = models()
    runs = {compare("lr", folder=folder, experiment="twice").summary["run_id"] for _ in range(2)}
    assert len(runs) == 2


def test_the_time_of_fnn_includes_its_first_stage(compare):
    (row,) = compare("fnn").summary["models"]
    assert row["epochs"] == 4


def test_like_gives_all_models_the_settings_of_one(compare, models):
    folder = models(deepfm={"embedding_dim": 3})
    (row,) = compare("fm", "--like", folder / "deepfm.yaml", folder=folder).summary["models"]
    # 5 + 4 ids: missing, unknown and those of the values 0, 1, 2 and a, b.
    assert row["num_weights"] == 9 * (3 + 1) + 1


def test_models_of_different_sizes_are_refused(compare, models):
    folder = models(deepfm={"embedding_dim": 3})
    mistake = compare("fm,deepfm", folder=folder).mistake
    assert "embedding_dim" in mistake and "'fm': 2" in mistake and "'deepfm': 3" in mistake


@pytest.mark.parametrize(
    ("names", "message"),
    [("lr,lr", "found lr twice"), ("lr,gbdt", "gbdt.yaml: cannot read the YAML file")],
)
def test_a_wrong_list_of_models_is_refused(compare, names, message):
    assert message in compare(names).mistake
