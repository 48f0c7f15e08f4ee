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
from deepfm.launch.rank.stages import run_worker
from deepfm.settings.model import ModelSettings
from deepfm.training.checkpoint import Checkpoints


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


class TrainingInterruptedError(Exception):
    """A training was interrupted."""


class SavedRows(dict):
    """(finished epochs, step) of the saved checkpoints: rows read in the epoch."""

    interrupted_at: tuple[int, int] | None = None


@pytest.fixture
def saved_rows(monkeypatch):
    """Rows at each checkpoint; a training is interrupted after the one at `interrupted_at`."""
    rows, save = SavedRows(), Checkpoints.save

    def save_and_interrupt(self, position, *state):
        save(self, position, *state)
        at = len(position.history.epochs), position.step
        rows[at] = position.num_rows
        if at == rows.interrupted_at:
            raise TrainingInterruptedError

    monkeypatch.setattr(Checkpoints, "save", save_and_interrupt)
    return rows


@pytest.mark.parametrize(
    ("numbers", "interrupted", "num_steps"),
    [
        # 61 rows: 4 steps of 2 ranks. After one, 47 rows: 2 steps of 3 ranks. After one, 24: 3 steps of one.
        ((2, 3, 1), [(0, 1), (0, 2)], [5, 8]),
        ((1, 2), [(0, 5)], [7, 4]),
        ((2, 1), [(1, 0)], [4, 8]),
        ((2, 3), [(0, 4)], [4, 3]),
    ],
    ids=["twice in an epoch", "more ranks", "between epochs", "no rows left"],
)
def test_other_numbers_of_ranks_resume_a_training(
    job, with_start, in_ranks, saved_rows, numbers, interrupted, num_steps
):
    started_job = with_start(job(deep={"batch_norm": True}, keep="last", schedule="cosine"))
    trained_job = replace(started_job, checkpoint_every_n_steps=1, resume=True)
    for num_ranks, position in zip(numbers, [*interrupted, None], strict=True):
        saved_rows.interrupted_at = position
        results = in_ranks(num_ranks, lambda collectives: run_worker(trained_job, collectives))
        assert isinstance(results[0], TrainingInterruptedError) == (position is not None), results
    for result in results:
        assert result.history.num_ranks == list(numbers)
        assert [epoch.num_steps for epoch in result.history.epochs] == num_steps
        assert result.valid == results[0].valid
    # All rows of an epoch have been read after its last step.
    assert [saved_rows[at] for at in enumerate(num_steps)] == [61, 61]


def test_final_metrics_are_corrected_for_sampled_out_negatives(job, sampled_url):
    whole, sampled = (run_worker(each, SingleProcess()) for each in (job(), job(sampled_url)))
    assert sampled.valid == sampled.best_epoch.valid
    # Half of the rows have a click; the odds of about 1 become 0.1.
    assert whole.test.mean_probability == pytest.approx(0.5, abs=0.1)
    assert sampled.test.mean_probability == pytest.approx(0.1, abs=0.04)
