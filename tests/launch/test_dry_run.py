"""A rehearsal: what it says, and that it leaves nothing."""

import pytest

from deepfm.distributed.collectives import SingleProcess
from deepfm.errors import OutOfMemoryError, UserError
from deepfm.launch.dry_run import dry_run, dry_run_from_json, dry_run_to_json
from deepfm.launch.job_spec import TrainJob
from deepfm.settings.model import ModelSettings


def job(dataset_url, folder, embedding_dim=2, **training):
    settings = {"batch_size": 16, "max_epochs": 3, "learning_rate": 0.01, **training}
    content = {"model": "fm", "embedding_dim": embedding_dim, "training": settings}
    model = ModelSettings.model_validate(content)
    return TrainJob(dataset_url, f"file://{folder}", model, num_threads=1)


def test_it_says_what_a_training_would_take(dataset_url, tmp_path):
    rehearsal = dry_run(job(dataset_url, tmp_path), SingleProcess())
    assert (rehearsal.num_steps, rehearsal.max_epochs) == (4, 3)  # 61 rows
    assert rehearsal.num_weights == 9 * (1 + 2) + 1
    # Adam holds two moments of each weight, and counts its steps.
    assert 3 * 4 * rehearsal.num_weights <= rehearsal.model_bytes <= 3 * 4 * rehearsal.num_weights + 100
    assert rehearsal.peak_bytes > rehearsal.model_bytes
    assert rehearsal.epoch_seconds == 4 * rehearsal.step_seconds > 0
    (place,) = rehearsal.places
    assert (place.rank, place.device) == (0, "cpu, 1 threads")


def test_no_weights_are_left(dataset_url, tmp_path):
    dry_run(job(dataset_url, tmp_path), SingleProcess())
    assert not list(tmp_path.glob("*.safetensors"))


def test_it_survives_the_way_back_from_a_worker(dataset_url, tmp_path):
    rehearsal = dry_run(job(dataset_url, tmp_path), SingleProcess())
    assert dry_run_from_json(dry_run_to_json(rehearsal)) == rehearsal


def test_ranks_name_each_others_places(dataset_url, tmp_path, in_ranks):
    found = in_ranks(2, lambda collectives: dry_run(job(dataset_url, tmp_path, batch_size=8), collectives))
    assert [[place.rank for place in rehearsal.places] for rehearsal in found] == [[0, 1]] * 2


def test_a_field_that_gauc_cannot_go_by_is_refused(dataset_url, tmp_path):
    with pytest.raises(UserError, match="gauc_field user: expected a field of kind category .* among A, B"):
        dry_run(job(dataset_url, tmp_path, gauc_field="user"), SingleProcess())


def test_memory_that_would_run_out_is_told_with_what_to_lower(dataset_url, tmp_path):
    with pytest.raises(
        OutOfMemoryError, match=r"^rank 0 ran out of memory: .* embedding_dim \(now 10000000000000\)"
    ):
        dry_run(job(dataset_url, tmp_path, embedding_dim=10**13), SingleProcess())
