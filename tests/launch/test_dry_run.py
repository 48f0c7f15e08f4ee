"""A dry run measures time and memory and keeps nothing."""

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


def test_it_measures_what_a_training_would_take(dataset_url, tmp_path):
    result = dry_run(job(dataset_url, tmp_path), SingleProcess())
    assert (result.num_steps, result.max_epochs) == (4, 3)  # 61 rows
    assert result.num_weights == 9 * (1 + 2) + 1
    # Adam has two moments per weight and a step count.
    assert 3 * 4 * result.num_weights <= result.model_bytes <= 3 * 4 * result.num_weights + 100
    assert result.peak_bytes > result.model_bytes
    assert result.epoch_seconds == 4 * result.step_seconds > 0
    (placement,) = result.placements
    assert (placement.rank, placement.device) == (0, "cpu, 1 threads")


def test_no_weights_are_written(dataset_url, tmp_path):
    dry_run(job(dataset_url, tmp_path), SingleProcess())
    assert not list(tmp_path.glob("*.safetensors"))


def test_it_is_unchanged_by_serialization(dataset_url, tmp_path):
    result = dry_run(job(dataset_url, tmp_path), SingleProcess())
    assert dry_run_from_json(dry_run_to_json(result)) == result


def test_the_placement_of_all_ranks_is_returned(dataset_url, tmp_path, in_ranks):
    results = in_ranks(2, lambda collectives: dry_run(job(dataset_url, tmp_path, batch_size=8), collectives))
    assert [[placement.rank for placement in result.placements] for result in results] == [[0, 1]] * 2


def test_a_gauc_field_that_is_not_a_category_is_refused(dataset_url, tmp_path):
    with pytest.raises(UserError, match="gauc_field user: expected a field of kind category .* among A, B"):
        dry_run(job(dataset_url, tmp_path, gauc_field="user"), SingleProcess())


def test_an_out_of_memory_error_names_what_to_lower(dataset_url, tmp_path):
    with pytest.raises(
        OutOfMemoryError, match=r"^rank 0 ran out of memory: .* embedding_dim \(now 10000000000000\)"
    ):
        dry_run(job(dataset_url, tmp_path, embedding_dim=10**13), SingleProcess())
