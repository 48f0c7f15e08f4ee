"""Training on two ranks: common metrics and weights, separate dropout, and resuming."""

import shutil
import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepfm.dataset.manifest import read_manifest, write_manifest
from deepfm.distributed.collectives import SingleProcess
from deepfm.launch.job_spec import WEIGHTS, TrainJob
from deepfm.launch.worker import run_worker
from deepfm.settings.model import ModelSettings


@pytest.fixture
def job(dataset_url, tmp_path):
    def make(dataset_url=dataset_url, slice_fields=(), deep=(), **training):
        training = {"batch_size": 8, "max_epochs": 2, "learning_rate": 0.01, **training}
        model = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4], **dict(deep)}}
        settings = ModelSettings.model_validate({**model, "training": training})
        return TrainJob(dataset_url, f"file://{tmp_path}", settings, num_threads=1, slice_fields=slice_fields)

    return make


@pytest.fixture
def with_start(tmp_path):
    """Function: job -> job with weights from a file; ranks that are threads share torch's random state."""

    def add_start(job):
        (tmp_path / "start").mkdir()
        run_worker(replace(job, run_url=f"file://{tmp_path}/start"), SingleProcess())
        return replace(job, start_url=f"file://{tmp_path}/start")

    return add_start


@pytest.fixture
def sampled_url(dataset_url, tmp_path):
    """The same dataset, whose manifest has keep_negatives 0.1."""
    folder = tmp_path / "sampled"
    shutil.copytree(dataset_url.removeprefix("file://"), folder)
    manifest = read_manifest(dataset_url)
    data = manifest.data.model_copy(update={"keep_negatives": 0.1})
    write_manifest(f"file://{folder}", manifest.model_copy(update={"data": data}))
    assert Path(folder, "manifest.json").exists()
    return f"file://{folder}"


def test_slices_and_field_counts_include_the_test_rows_of_both_ranks(job, in_ranks):
    one, other = in_ranks(2, lambda collectives: run_worker(job(slice_fields=("A",)), collectives))
    assert sum(metrics.num_rows for metrics in one.test_slices["A"]) == 20
    assert [sum(kinds) for kinds in one.test_fields] == [20, 20]
    assert sum(count for bucket in one.test_scores for count in bucket) == 20
    assert (one.test_slices, one.test_fields) == (other.test_slices, other.test_fields)


def test_both_ranks_evaluate_the_weights_of_the_best_epoch(job, with_start, in_ranks):
    # Random clicks and a high learning rate: later epochs are worse.
    started_job = with_start(job(learning_rate=0.5, max_epochs=6, patience=6))
    for result in in_ranks(2, lambda collectives: run_worker(started_job, collectives)):
        assert result.history.best < 6
        assert result.valid == result.best_epoch.valid


def test_dropout_differs_between_ranks_and_steps(job, in_ranks, monkeypatch):
    seeds, seed = defaultdict(list), torch.manual_seed

    def seed_and_record(number):
        seeds[threading.get_ident()].append(number)
        return seed(number)

    monkeypatch.setattr(torch, "manual_seed", seed_and_record)
    in_ranks(2, lambda collectives: run_worker(job(deep={"dropout": 0.5}, seed=5), collectives))
    (initial, *one), (other_initial, *other) = seeds.values()
    assert initial == other_initial == 5
    # 31 rows per rank in batches of at most 8, for two epochs.
    assert len(one) == len(other) == 2 * 4
    assert len({*one, *other}) == 16


def test_checkpoints_and_resuming_do_not_change_the_weights(job, with_start, in_ranks, tmp_path):
    started_job = with_start(job(deep={"batch_norm": True}, keep="last"))

    def train_weights(**checkpoints):
        continued_job = replace(started_job, **checkpoints)
        in_ranks(2, lambda collectives: run_worker(continued_job, collectives))
        return (tmp_path / WEIGHTS).read_bytes()

    without = train_weights()
    assert train_weights(checkpoint_every_n_steps=3) == without
    # Interrupted in the second epoch, after three of its four steps.
    (last,) = tmp_path.glob("weights-00002-000000000.*")
    last.unlink()
    assert len(list(tmp_path.glob("weights-00001-000000003.*"))) == 1
    (tmp_path / WEIGHTS).unlink()
    assert train_weights(checkpoint_every_n_steps=0, resume=True) == without


def test_final_metrics_are_corrected_for_sampled_out_negatives(job, sampled_url):
    whole, sampled = (run_worker(each, SingleProcess()) for each in (job(), job(sampled_url)))
    assert sampled.valid == sampled.best_epoch.valid
    # Half of the rows have a click; the odds of about 1 become 0.1.
    assert whole.test.mean_probability == pytest.approx(0.5, abs=0.1)
    assert sampled.test.mean_probability == pytest.approx(0.1, abs=0.04)
