"""Training and evaluation on a weighted dataset."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfm.dataset.manifest import DataFile, WeightSums, read_manifest, write_manifest
from deepfm.distributed.collectives import SingleProcess
from deepfm.launch.job_spec import WEIGHTS, TrainJob
from deepfm.launch.rank.stages import run_worker
from deepfm.settings.model import ModelSettings
from deepfm.weights import load_weights


@pytest.fixture
def add_weights(dataset_url, tmp_path):
    """Function: (labels -> float32 weights) -> URL of the dataset with a column w of these weights."""

    def add(weights_of):
        folder = tmp_path / "weighted"
        shutil.copytree(dataset_url.removeprefix("file://"), folder)
        manifest, splits = read_manifest(dataset_url), {}
        for name, part in manifest.splits.items():
            files, total, clicks = [], 0.0, 0.0
            for file in part.files:
                path = folder / name / file.name
                table = pq.read_table(path)
                labels = table.column("label").to_numpy()
                weights = weights_of(labels).astype(np.float32)
                pq.write_table(table.append_column("w", pa.array(weights)), path)
                files.append(DataFile(**{**file.model_dump(), "num_bytes": path.stat().st_size}))
                total, clicks = total + weights.sum(), clicks + weights[labels == 1].sum()
            weights = WeightSums(weight=total, click_weight=clicks)
            splits[name] = part.model_copy(update={"files": tuple(files), "weights": weights})
        columns = (*manifest.data.columns, "w")
        data = manifest.data.model_copy(update={"weight": "w", "columns": columns})
        url = f"file://{folder}"
        write_manifest(url, manifest.model_copy(update={"splits": splits, "data": data}))
        return url

    return add


def train(dataset_url, folder):
    """Train for two epochs -> (result, weights)."""
    Path(folder).mkdir()
    training = {"batch_size": 8, "max_epochs": 2, "learning_rate": 0.01, "gauc_field": "A"}
    model = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4]}, "training": training}
    job = TrainJob(
        dataset_url,
        f"file://{folder}",
        ModelSettings.model_validate(model),
        num_threads=1,
        slice_fields=("B",),
    )
    return run_worker(job, SingleProcess()), load_weights(f"file://{folder}/{WEIGHTS}")


def test_equal_weights_give_exactly_the_unweighted_model(add_weights, dataset_url, tmp_path):
    result, weights = train(add_weights(lambda labels: np.full(len(labels), 0.3)), tmp_path / "one")
    expected, expected_weights = train(dataset_url, tmp_path / "other")
    for name, weight in expected_weights.items():
        assert weights[name].equal(weight), name
    assert result.history.epochs[-1].train_logloss == expected.history.epochs[-1].train_logloss
    for name, value in dataclasses.asdict(expected.test).items():
        assert name == "weight" or getattr(result.test, name) == pytest.approx(value), name
    assert result.test.weight == pytest.approx(0.3 * 20)
    shares, expected_shares = (np.array(one.test_fields) / one.test.num_rows for one in (result, expected))
    assert shares == pytest.approx(0.3 * expected_shares, rel=1e-6)


def test_metrics_use_the_weights_of_the_dataset(add_weights, tmp_path):
    result, _ = train(add_weights(lambda labels: np.where(labels == 1, 3.0, 0.5)), tmp_path / "run")
    test = read_manifest(f"file://{tmp_path}/weighted").splits["test"]
    assert result.test.ctr == pytest.approx(test.ctr)
    assert result.test.ctr > test.num_clicks / test.num_rows
    assert result.test.num_rows == 20
    assert sum(one.num_rows for one in result.test_slices["B"]) == 20
