"""Jobs whose input, output and work folder are in an object store: the results are those of local files."""

import hashlib
import json

import fsspec
import pytest
import yaml
from petastorm import make_batch_reader

from deepfm import storage

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
SPLIT = [f"--{part}-days={day}" for part, day in zip(("train", "valid", "test"), DAYS, strict=True)]


@pytest.fixture(scope="module")
def files(small_dataset, make_bucket, spark_with_s3):
    """URL of a bucket that holds the log of `small_dataset`."""
    url = make_bucket()
    fsspec.filesystem("s3").put(f"{small_dataset.parent}/log", f"{url}/log", recursive=True)
    return url


@pytest.fixture(scope="module")
def dataset(files, run_job, small_dataset):
    """URL of a dataset in the bucket, built from the log there."""
    flags = ["--data", small_dataset.parent / "data.yaml", "--input", f"{files}/log"]
    run_job("build_features", *flags, "--output", f"{files}/dataset", *SPLIT).summary
    return f"{files}/dataset"


def test_a_dataset_is_that_of_local_files(dataset, small_dataset):
    local = json.loads((small_dataset / "manifest.json").read_text())
    assert storage.read_json(f"{dataset}/manifest.json")["digest"] == local["digest"]
    assert "_scratch" not in storage.all_names(dataset)
    assert "_building" not in storage.all_names(dataset)


def test_petastorm_reads_a_split(dataset, tmp_path):
    fsspec.filesystem("s3").get(f"{dataset}/train", f"{tmp_path}/train", recursive=True)
    with make_batch_reader(f"file://{tmp_path}/train", reader_pool_type="dummy") as reader:
        assert sum(len(batch.label) for batch in reader) == 24


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_the_weights_are_those_of_local_files(
    dataset, run_job, small_dataset, profile_path, store, tmp_path, num_workers
):
    profile = yaml.safe_load(profile_path.read_text())
    profile["work_dir"] = dataset.rpartition("/")[0] + "/runs"
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    (tmp_path / "model.yaml").write_text(
        "model: deepfm\nembedding_dim: 2\ndeep: {hidden_units: [4]}\n"
        "training: {batch_size: 8, max_epochs: 2, learning_rate: 0.01}\n"
    )
    flags = [
        "--model",
        tmp_path / "model.yaml",
        "--num-workers",
        num_workers,
        "--name",
        f"store{num_workers}",
    ]
    digests = []
    for where in (
        ["--dataset", dataset, "--profile", tmp_path / "profile.yaml"],
        ["--dataset", small_dataset],
    ):
        run_job("train", *where, *flags).summary
        digests.append(_weights_digest(store, f"store{num_workers}", tmp_path / str(len(digests))))
    assert digests[0] == digests[1]


def _weights_digest(store, name, folder):
    path = store.download(store.latest(name), str(folder))
    return hashlib.sha256(storage.read_bytes(f"file://{path}/weights.safetensors")).hexdigest()
