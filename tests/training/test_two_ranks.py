"""What ranks that work together must do together, and what each by itself."""

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
def begun(tmp_path):
    """An order that goes on from weights in a file: ranks that are threads share torch's random numbers."""

    def begin(job):
        (tmp_path / "start").mkdir()
        run_worker(replace(job, run_url=f"file://{tmp_path}/start"), SingleProcess())
        return replace(job, start_url=f"file://{tmp_path}/start")

    return begin


@pytest.fixture
def sampled_url(dataset_url, tmp_path):
    """The same dataset, of whose rows without a click it says that a tenth was kept."""
    folder = tmp_path / "sampled"
    shutil.copytree(dataset_url.removeprefix("file://"), folder)
    manifest = read_manifest(dataset_url)
    data = manifest.data.model_copy(update={"keep_negatives": 0.1})
    write_manifest(f"file://{folder}", manifest.model_copy(update={"data": data}))
    assert Path(folder, "manifest.json").exists()
    return f"file://{folder}"


def test_slices_and_kinds_of_ids_are_of_the_test_rows_of_both_ranks(job, in_ranks):
    one, other = in_ranks(2, lambda collectives: run_worker(job(slice_fields=("A",)), collectives))
    assert sum(part.num_rows for part in one.test_slices["A"]) == 20
    assert [sum(kinds) for kinds in one.test_fields] == [20, 20]
    assert sum(count for bucket in one.test_scores for count in bucket) == 20
    assert (one.test_slices, one.test_fields) == (other.test_slices, other.test_fields)


def test_both_ranks_measure_the_best_epochs_weights(job, begun, in_ranks):
    # Clicks by chance, and large steps: what is learnt last is worse.
    ordered = begun(job(learning_rate=0.5, max_epochs=6, patience=6))
    for result in in_ranks(2, lambda collectives: run_worker(ordered, collectives)):
        assert result.history.best < 6
        assert result.valid == result.best_epoch.valid


def test_each_rank_drops_out_units_of_its_own_and_others_in_every_step(job, in_ranks, monkeypatch):
    seeds, seed = defaultdict(list), torch.manual_seed

    def seed_and_tell(number):
        seeds[threading.get_ident()].append(number)
        return seed(number)

    monkeypatch.setattr(torch, "manual_seed", seed_and_tell)
    in_ranks(2, lambda collectives: run_worker(job(deep={"dropout": 0.5}, seed=5), collectives))
    (fresh, *one), (fresh_too, *other) = seeds.values()
    assert fresh == fresh_too == 5
    # 31 rows a rank in batches of at most 8, twice.
    assert len(one) == len(other) == 2 * 4
    assert len({*one, *other}) == 16


def test_when_checkpoints_are_written_changes_nothing_of_what_comes_out(job, begun, in_ranks, tmp_path):
    ordered = begun(job(deep={"batch_norm": True}, keep="last"))

    def weights_of(**checkpoints):
        going_on = replace(ordered, **checkpoints)
        in_ranks(2, lambda collectives: run_worker(going_on, collectives))
        return (tmp_path / WEIGHTS).read_bytes()

    without = weights_of()
    assert weights_of(checkpoint_every_n_steps=3) == without
    # Cut off in the second epoch: of its four steps three were done.
    (last,) = tmp_path.glob("weights-00002-000000000.*")
    last.unlink()
    assert len(list(tmp_path.glob("weights-00001-000000003.*"))) == 1
    (tmp_path / WEIGHTS).unlink()
    assert weights_of(checkpoint_every_n_steps=0, resume=True) == without


def test_what_is_measured_at_the_end_is_corrected_for_negatives_that_were_left_out(job, sampled_url):
    whole, sampled = (run_worker(one, SingleProcess()) for one in (job(), job(sampled_url)))
    assert sampled.valid == sampled.best_epoch.valid
    # Half of the rows have a click; odds of about 1 become a tenth of it.
    assert whole.test.mean_probability == pytest.approx(0.5, abs=0.1)
    assert sampled.test.mean_probability == pytest.approx(0.1, abs=0.04)
