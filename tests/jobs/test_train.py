"""train.py --init-from: the FM that an FNN starts from."""

import pytest


@pytest.fixture
def train(run_job, small_dataset, models):
    def run(model, name, *flags, **changes):
        folder = models(**changes)
        files = ["--dataset", small_dataset, "--model", folder / f"{model}.yaml"]
        return run_job("train", *files, "--num-workers", 0, "--name", name, *flags)

    return run


@pytest.fixture(scope="session")
def trained_fm():
    """Filled by the first test that needs an FM, for all of them."""
    return {}


@pytest.fixture
def fm(train, trained_fm):
    if not trained_fm:
        trained_fm.update(train("fm", "init_fm").summary)
    return trained_fm


def curves(store, summary):
    return set(store.client.get_run(summary["run_id"]).data.metrics)


def test_fnn_without_an_fm_trains_one_first(train, store):
    assert {"fm_valid_auc", "valid_auc"} <= curves(store, train("fnn", "init_fnn").summary)


@pytest.mark.parametrize("uri", ["models:/init_fm/{version}", "runs:/{run_id}"])
def test_fnn_starts_from_a_version_or_a_run(train, fm, store, uri):
    summary = train("fnn", "init_fnn", "--init-from", uri.format(**fm)).summary
    assert "valid_auc" in curves(store, summary)
    assert "fm_valid_auc" not in curves(store, summary)


def test_only_fnn_starts_from_another_model(train, fm):
    mistake = train("deepfm", "init_no", "--init-from", f"runs:/{fm['run_id']}").mistake
    assert "only fnn starts from another model" in mistake


def test_fm_must_have_the_embedding_dimension(train, fm):
    changes = {"fnn": {"embedding_dim": 3}}
    mistake = train("fnn", "init_no", "--init-from", f"runs:/{fm['run_id']}", **changes).mistake
    assert "expected an fm with embedding_dim 3" in mistake


def test_what_to_start_from_must_be_an_fm(train, store):
    other = train("lr", "init_lr").summary
    mistake = train("fnn", "init_no", "--init-from", f"models:/init_lr/{other['version']}").mistake
    assert "found lr with None" in mistake


@pytest.mark.parametrize("uri", ["runs:/0123abcd", "runs:/x'; drop", "models:/init_nobody/1"])
def test_what_to_start_from_must_be_there(train, uri):
    assert uri in train("fnn", "init_no", "--init-from", uri).mistake


def test_a_run_names_its_dataset_and_shows_its_plots_and_card(train, store, small_dataset):
    summary = train("lr", "shown").summary
    run = store.client.get_run(summary["run_id"])
    inputs = {found.dataset.name: found for found in run.inputs.dataset_inputs}
    assert set(inputs) == {"train", "valid", "test"}
    assert {found.dataset.digest for found in inputs.values()} == {run.data.params["dataset.digest"]}
    assert inputs["train"].tags[0].value == "training"
    assert str(small_dataset) in inputs["train"].dataset.source
    files = {file.path for file in store.client.list_artifacts(summary["run_id"])}
    assert {"plots", "model_card.md", "model_card.html"} <= files
    plots = {file.path for file in store.client.list_artifacts(summary["run_id"], "plots")}
    assert "plots/calibration.png" in plots
