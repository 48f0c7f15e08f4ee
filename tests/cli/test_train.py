"""train.py: the FM that initializes an FNN, logged artifacts, slices and the profiler."""

import mlflow
import pytest
import yaml

from deepfm.cli import train as train_job
from deepfm.dataset.manifest import read_manifest_and_vocabulary

TRAINING = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.01}


@pytest.fixture
def train(run_job, small_dataset, models):
    def run(model, name, *flags, **changes):
        folder = models(**changes)
        files = ["--dataset", small_dataset, "--model", folder / f"{model}.yaml"]
        return run_job("train", *files, "--num-workers", 0, "--name", name, *flags)

    return run


@pytest.fixture(scope="session")
def trained_fm():
    """Cache of the summary of one FM, filled by the first test that needs it."""
    return {}


@pytest.fixture
def fm(train, trained_fm):
    if not trained_fm:
        trained_fm.update(train("fm", "init_fm").summary)
    return trained_fm


def metric_names(store, summary):
    return set(store.client.get_run(summary["run_id"]).data.metrics)


def test_fnn_without_an_fm_trains_one_first(train, store):
    assert {"fm_valid_auc", "valid_auc"} <= metric_names(store, train("fnn", "init_fnn").summary)


@pytest.mark.parametrize("uri", ["models:/init_fm/{version}", "runs:/{run_id}"])
def test_fnn_starts_from_a_version_or_a_run(train, fm, store, uri):
    summary = train("fnn", "init_fnn", "--init-from", uri.format(**fm)).summary
    assert "valid_auc" in metric_names(store, summary)
    assert "fm_valid_auc" not in metric_names(store, summary)


def test_only_fnn_starts_from_another_model(train, fm):
    message = train("deepfm", "init_no", "--init-from", f"runs:/{fm['run_id']}").mistake
    assert "only fnn starts from another model" in message


def test_fm_must_have_the_embedding_dimension(train, fm):
    changes = {"fnn": {"embedding_dim": 3}}
    message = train("fnn", "init_no", "--init-from", f"runs:/{fm['run_id']}", **changes).mistake
    assert "expected an fm with embedding_dim 3" in message


def test_pretraining_is_refused_if_an_fm_is_given(train, fm):
    changes = {"fnn": {"embedding_dim": 2, "pretraining": TRAINING}}
    message = train("fnn", "init_no", "--init-from", f"runs:/{fm['run_id']}", **changes).mistake
    assert "expected no pretraining in --model" in message


def test_an_fm_of_a_dataset_with_other_sampling_is_refused(train, fm, monkeypatch):
    def read_sampled(url):
        manifest, vocabulary = read_manifest_and_vocabulary(url)
        data = manifest.data.model_copy(update={"keep_negatives": 0.5})
        return manifest.model_copy(update={"data": data}), vocabulary

    monkeypatch.setattr(train_job, "read_manifest_and_vocabulary", read_sampled)
    message = train("fnn", "init_no", "--init-from", f"runs:/{fm['run_id']}").mistake
    assert "--init-from runs:/" in message
    assert "expected a dataset with keep_negatives 1.0, found 0.5" in message


def test_a_start_model_that_is_no_fm_is_refused(train, store):
    other = train("lr", "init_lr").summary
    message = train("fnn", "init_no", "--init-from", f"models:/init_lr/{other['version']}").mistake
    assert "found lr with None" in message


@pytest.mark.parametrize("uri", ["runs:/0123abcd", "runs:/x'; drop", "models:/init_nobody/1"])
def test_a_start_model_that_does_not_exist_is_refused(train, uri):
    assert uri in train("fnn", "init_no", "--init-from", uri).mistake


def test_a_run_names_its_dataset_and_shows_its_plots_and_card(train, store, small_dataset):
    summary = train("lr", "shown").summary
    run = store.client.get_run(summary["run_id"])
    inputs = {dataset_input.dataset.name: dataset_input for dataset_input in run.inputs.dataset_inputs}
    assert set(inputs) == {"train", "valid", "test"}
    assert {dataset_input.dataset.digest for dataset_input in inputs.values()} == {
        run.data.params["dataset.digest"]
    }
    assert inputs["train"].tags[0].value == "training"
    assert str(small_dataset) in inputs["train"].dataset.source
    files = {file.path for file in store.client.list_artifacts(summary["run_id"])}
    assert {"plots", "model_card.md", "model_card.html"} <= files
    plots = {file.path for file in store.client.list_artifacts(summary["run_id"], "plots")}
    assert "plots/calibration.png" in plots


@pytest.fixture
def sliced(profile_path, tmp_path):
    """sliced(*fields) -> flags for a profile with these slices."""

    def flags(*names):
        profile = yaml.safe_load(profile_path.read_text())
        profile["promotion"] |= {"slices": list(names), "min_slice_rows": 12}
        (tmp_path / "sliced.yaml").write_text(yaml.safe_dump(profile))
        return "--profile", tmp_path / "sliced.yaml"

    return flags


def test_the_model_card_has_metrics_for_each_value_of_the_sliced_fields(train, store, sliced):
    run = store.client.get_run(train("lr", "sliced", *sliced("C")).summary["run_id"])
    card = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/model_card.md")
    rows = [line for line in card.splitlines() if line.startswith("| C |")]
    # Every other of the 24 impressions of the test day has the value a.
    assert sorted(row.split(" | ")[1:3] for row in rows) == [["a", "12"], ["b", "12"]]


@pytest.mark.parametrize(("name", "actual"), [("I", "a field of kind count"), ("D", "no such field")])
def test_a_slice_that_is_no_category_is_refused_before_training(train, sliced, name, actual):
    message = train("lr", "sliced_no", *sliced(name)).mistake
    assert (
        f"promotion.slices {name}: expected a field of kind category in the dataset, found {actual}"
        in message
    )


@pytest.mark.parametrize(("batch_size", "is_traced"), [(8, True), (24, False)])
def test_a_training_too_short_for_the_profiler_logs_a_warning(train, store, caplog, batch_size, is_traced):
    changes = {"lr": {"training": {**TRAINING, "max_epochs": 2, "batch_size": batch_size}}}
    job = train("lr", "traced", "--profile-steps", 5, **changes)
    files = {file.path for file in store.client.list_artifacts(job.summary["run_id"], "profile")}
    assert ("profile/trace.json.gz" in files) is is_traced
    assert ("--profile-steps 5: no step was profiled" in caplog.text) is not is_traced


def test_register_only_and_dry_run_exclude_each_other(train):
    message = train("lr", "dry_run_no", "--register-only", "runs/1", "--dry-run").mistake
    assert message == "--register-only and --dry-run exclude each other; give one of them"
