"""Every setting of a model YAML reaches its part of the training."""

import math

import pytest
import torch

from deepfm.dataset.manifest import WeightSums, read_manifest
from deepfm.errors import UserError
from deepfm.launch import factory
from deepfm.launch.factory import build_loop_config, build_optimizer, epoch_steps
from deepfm.launch.job_spec import TrainJob
from deepfm.metrics.gauc import Groups
from deepfm.models.deepfm import DeepFM
from deepfm.settings.model import ModelSettings, TrainingSettings
from deepfm.training.optimizers.lazy_adam import LazyAdam
from deepfm.training.optimizers.row_adagrad import RowAdagrad
from deepfm.training.schedule import EpochSteps, ResumedEpoch
from deepfm.training.state import ResumePoint, TrainingHistory

NUM_STEPS, NUM_WORKERS = 7, 4
#: Used by launch.rank, and tested in test_worker and test_stages.
IN_THE_WORKER = {
    "batch_size",
    "save_optimizer",
    "recipe",
    "deep_rate_factor",
    "table_rate_factor",
    "rare_id_damping",
}
IN_THE_LOOP = [
    ("max_epochs", 9, "max_epochs", 9),
    ("patience", 4, "patience", 4),
    ("keep", "last", "keep_last", True),
    ("monitor", "auc", "monitor", "auc"),
    ("precision", "bf16", "bf16", True),
    ("gradient_compression", "bf16", "gradient_compression", "bf16"),
    ("seed", 23, "seed", 23),
    ("positive_weight", 3.0, "positive_weight", 3.0),
    ("plateau_patience", 3, "plateau_patience", 3),
    ("gauc_field", "B", "groups", Groups(1, 2)),
]
OF_THE_SCHEDULE = [
    ("schedule", "cosine", "kind", "cosine"),
    ("warmup_steps", 3, "warmup_steps", 3),
    ("max_epochs", 9, "num_steps", 9 * NUM_STEPS),
    ("scale_learning_rate", "sqrt", "scale", 2.0),
    ("plateau_factor", 0.3, "reduction", 0.3),
]
OF_THE_OPTIMIZER = {"learning_rate", "table_learning_rate", "optimizer", "ftrl", "table_l2"}


def settings(training=(), **changes):
    training = {"batch_size": 16, "max_epochs": 2, "learning_rate": 0.01, **dict(training)}
    content = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4]}, "training": training}
    return ModelSettings.model_validate({**content, **changes})


@pytest.fixture
def loop_of(dataset_url, monkeypatch):
    """Build the loop configuration for the small dataset on a device with bfloat16."""
    monkeypatch.setattr(factory, "multiplies_bf16", lambda device: True)

    def make(model, keep_negatives=1.0, **job):
        manifest = read_manifest(dataset_url)
        data = manifest.data.model_copy(update={"keep_negatives": keep_negatives})
        job = TrainJob(dataset_url, "file:///run", model, num_threads=1, **job)
        return build_loop_config(
            job,
            model,
            manifest.model_copy(update={"data": data}),
            torch.device("cpu"),
            NUM_WORKERS,
            EpochSteps(NUM_STEPS),
        )

    return make


def test_every_training_setting_is_tested():
    tested = {case[0] for case in IN_THE_LOOP + OF_THE_SCHEDULE}
    assert tested | OF_THE_OPTIMIZER | IN_THE_WORKER == set(TrainingSettings.model_fields)


@pytest.mark.parametrize(("name", "value", "part", "expected"), IN_THE_LOOP)
def test_a_setting_reaches_the_loop(loop_of, name, value, part, expected):
    assert getattr(loop_of(settings({name: value})), part) == expected
    assert getattr(loop_of(settings()), part) != expected


@pytest.mark.parametrize(("name", "value", "part", "expected"), OF_THE_SCHEDULE)
def test_a_setting_reaches_the_schedule(loop_of, name, value, part, expected):
    assert getattr(loop_of(settings({name: value})).schedule, part) == expected
    assert getattr(loop_of(settings()).schedule, part) != expected


@pytest.mark.parametrize("name", ["w_reg", "v_reg"])
def test_each_penalty_reaches_the_loop_as_itself(loop_of, name):
    config = loop_of(settings(**{name: 0.25}))
    assert {key: getattr(config, key) for key in ("w_reg", "v_reg")} == {"w_reg": 0, "v_reg": 0, name: 0.25}


def test_a_device_without_bf16_uses_fp32(loop_of, monkeypatch):
    monkeypatch.setattr(factory, "multiplies_bf16", lambda device: False)
    assert not loop_of(settings({"precision": "bf16"})).bf16


def test_the_schedule_knows_the_steps_per_epoch(loop_of):
    assert loop_of(settings()).steps.per_epoch == NUM_STEPS


def test_checkpoint_intervals_are_those_of_the_job(loop_of):
    config = loop_of(settings(), checkpoint_every_n_steps=5, checkpoint_every_min=1.5)
    assert (config.checkpoint_every_n_steps, config.checkpoint_every_s) == (5, 90)
    assert loop_of(settings()).checkpoint_every_n_steps == 0


def test_evaluation_is_corrected_for_down_sampled_negatives(loop_of):
    assert loop_of(settings(), keep_negatives=0.1).logit_correction == pytest.approx(math.log(0.1))
    assert loop_of(settings()).logit_correction == 0


# The optimizer


def optimizers(**training):
    """Return the optimizers of the tables and of the dense weights."""
    return build_optimizer(DeepFM((4, 5), 2, hidden_units=(4,)), settings(training).training)._optimizers


def test_tables_can_have_another_learning_rate():
    def rates(**training):
        return [part.param_groups[0]["lr"] for part in optimizers(**training)]

    assert rates(learning_rate=0.5) == [0.5, 0.5]
    assert rates(learning_rate=0.5, table_learning_rate=0.125) == [0.125, 0.5]


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", LazyAdam), ("adam_dense", torch.optim.Adam), ("adagrad", RowAdagrad)]
)
def test_the_optimizer_setting_chooses_that_of_the_tables(name, kind):
    table_optimizer, dense_optimizer = optimizers(optimizer=name)
    assert (type(table_optimizer), type(dense_optimizer)) == (kind, torch.optim.Adam)


def test_table_l2_applies_to_tables_only():
    decays = [
        part.param_groups[0]["weight_decay"] for part in optimizers(optimizer="adam_dense", table_l2=0.25)
    ]
    assert decays == [0.25, 0]


def test_the_loop_knows_the_mean_weight_of_the_training_rows(dataset_url):
    manifest = read_manifest(dataset_url)
    train = manifest.splits["train"].model_copy(update={"weights": WeightSums(weight=122, click_weight=1)})
    manifest = manifest.model_copy(update={"splits": {**manifest.splits, "train": train}})
    job = TrainJob(dataset_url, "file:///run", settings(), num_threads=1)
    config = build_loop_config(
        job, settings(), manifest, torch.device("cpu"), NUM_WORKERS, EpochSteps(NUM_STEPS)
    )
    assert config.mean_weight == 2  # 61 rows


# Other numbers of workers; the training split has 61 rows


def resumed_by(num_ranks, step):
    """Position in the first epoch of two ranks, for other ranks."""
    return ResumePoint(TrainingHistory(num_ranks=[2]), step).resumed_by(num_ranks)


def test_the_steps_of_an_epoch_that_other_ranks_finish_are_counted(dataset_url):
    manifest, model = read_manifest(dataset_url), settings({"batch_size": 8})
    # 61 rows are 4 steps of two ranks; after one of them 47 rows are left, for 3 ranks 2 steps.
    steps = epoch_steps(model, manifest, 3, resumed_by(3, 1))
    assert steps == EpochSteps(3, 4, ResumedEpoch(1, 0, 1, pytest.approx(14 / 61), 2))


def test_an_epoch_without_rows_that_are_left_has_no_further_steps(dataset_url):
    manifest, model = read_manifest(dataset_url), settings({"batch_size": 8})
    assert epoch_steps(model, manifest, 3, resumed_by(3, 4)).in_epoch(1) == 4


@pytest.mark.parametrize(("batch_norm", "num_ranks", "remedy"), [(False, 17, 16), (True, 9, 8)])
def test_fewer_rows_left_than_ranks_is_an_error(dataset_url, batch_norm, num_ranks, remedy):
    manifest = read_manifest(dataset_url)
    model = settings({"batch_size": 8}, deep={"hidden_units": [4], "batch_norm": batch_norm})
    message = (
        f"--num-workers {num_ranks}: expected at least .* left in epoch 1 .*, found 16 .*, or with {remedy}$"
    )
    with pytest.raises(UserError, match=message):
        epoch_steps(model, manifest, num_ranks, resumed_by(num_ranks, 3))
    epoch_steps(model, manifest, remedy, resumed_by(remedy, 3))
