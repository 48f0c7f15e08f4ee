"""Dataset and model grow by a day, through the jobs."""

import pytest
import yaml

from deepfm.artifact.artifact import load_artifact
from deepfm.dataset.manifest import read_manifest
from deepfm.features.vocabulary.vocabulary import Vocabulary

DAYS = [f"2026-01-0{n}" for n in range(1, 6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log of five days, each with a distinct value."""
    folder = tmp_path_factory.mktemp("growing")
    for number, day in enumerate(DAYS):
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        values = ["a", "b", "rare", f"of day {number}", f"of day {number}"] * 8
        rows = [f"{n % 2}\t{n % 5}\t{value}\n" for n, value in enumerate(values)]
        (folder / "log" / f"ds={day}" / "part.tsv").write_text("".join(rows))
    data = {
        "format": "delimited",
        "columns": ["label", "I", "C"],
        "fields": [
            {"kind": "count", "names": ["I"]},
            {"kind": "category", "names": ["C"], "min_count": 9},
        ],
    }
    model = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4]}}
    model["training"] = {"batch_size": 8, "max_epochs": 2, "learning_rate": 0.01}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    return folder


def build(run_job, folder, name, days, *flags):
    parts = [f"--{part}-days={day}" for part, day in zip(("train", "valid", "test"), days, strict=True)]
    files = ["--data", folder / "data.yaml", "--input", folder / "log", "--output", folder / name]
    return run_job("build_features", *files, *parts, *flags)


def train(run_job, folder, dataset, *flags):
    files = ["--dataset", folder / dataset, "--model", folder / "model.yaml", "--num-workers", 0]
    return run_job("train", *files, "--name", "growing", *flags)


@pytest.fixture(scope="module")
def first(run_job, folder):
    build(run_job, folder, "first", DAYS[:3]).summary
    return train(run_job, folder, "first").summary


@pytest.fixture(scope="module")
def grown(run_job, folder, first):
    return build(run_job, folder, "grown", DAYS[1:4], "--grow", folder / "first").summary


def test_ids_stay_and_new_values_follow(folder, first, grown):
    old, new = (Vocabulary.load(f"file://{folder}/{name}") for name in ("first", "grown"))
    assert old.values[1].to_pylist() == ["of day 0"]
    # a, b and rare occur eight times a day: two days together make them known.
    assert new.values[1].to_pylist() == ["of day 0", "a", "b", "of day 1", "rare"]
    assert grown["grown_from"] == read_manifest(f"file://{folder}/first").vocabulary


def test_a_champion_continues_training_on_the_grown_dataset(run_job, folder, store, first, grown, tmp_path):
    uri = f"models:/growing/{first['version']}"
    second = train(run_job, folder, "grown", "--warm-start", uri).summary
    assert store.client.get_run(second["run_id"]).data.tags["started_from"] == uri
    versions = [store.resolve(f"models:/growing/{run['version']}") for run in (first, second)]
    paths = [store.download(version, f"{tmp_path}/{version.version}") for version in versions]
    models = [load_artifact(f"file://{path}") for path in paths]
    assert models[1].card.started_from == (models[0].card.training_data(uri),)
    old, new = (model.network.state_dict() for model in models)
    tables = [state["embedding.table.weight"] for state in (old, new)]
    # A few small steps from the old weights, not from new ones, whose standard deviation is 0.01.
    old_rows = read_manifest(f"file://{folder}/first").num_ids
    assert len(tables[1]) == len(tables[0]) + 4
    assert (tables[1][: old_rows[0]] - tables[0][: old_rows[0]]).abs().max() < 0.2
    assert not (tables[1][: old_rows[0]] == tables[0][: old_rows[0]]).all()
    repeated = train(run_job, folder, "grown", "--warm-start", uri).summary
    assert repeated["test_logloss"] == second["test_logloss"]


def test_a_dataset_that_did_not_grow_is_refused_before_training(run_job, folder, first):
    build(run_job, folder, "other", DAYS[2:5]).summary
    uri = f"models:/growing/{first['version']}"
    message = train(run_job, folder, "other", "--warm-start", uri).mistake
    assert message.startswith(f"--warm-start {uri}: expected a dataset that grew from the model's")


def test_another_share_of_negatives_is_refused(run_job, folder, first, tmp_path):
    data = yaml.safe_load((folder / "data.yaml").read_text()) | {"keep_negatives": 0.5}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    parts = [f"--{part}-days={day}" for part, day in zip(("train", "valid", "test"), DAYS[1:4], strict=True)]
    files = ["--data", tmp_path / "data.yaml", "--input", folder / "log", "--output", folder / "sampled"]
    run_job("build_features", *files, *parts, "--grow", folder / "first").summary
    message = train(run_job, folder, "sampled", "--warm-start", f"models:/growing/{first['version']}").mistake
    assert "expected a dataset with keep_negatives 1.0, found 0.5" in message


def test_fields_must_be_those_of_the_dataset_that_is_grown(run_job, folder, first):
    data = yaml.safe_load((folder / "data.yaml").read_text())
    data["fields"][1]["min_count"] = 1
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    message = build(run_job, folder, "changed", DAYS[1:4], "--grow", folder / "first").mistake
    assert "expected a dataset with the fields in --data, found other fields" in message
    assert not (folder / "changed").exists()


def test_another_model_cannot_continue(run_job, folder, first, grown):
    model = yaml.safe_load((folder / "model.yaml").read_text())
    model["embedding_dim"] = 3
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    message = train(run_job, folder, "grown", "--warm-start", f"models:/growing/{first['version']}").mistake
    assert "expected embedding_dim 2, found 3 in --model" in message
