"""Workers started by Spark and Horovod: their results, files and errors."""

import hashlib
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest

from deepfm import storage
from deepfm.errors import JobFailedError, OutOfMemoryError, UserError
from deepfm.launch import launch as launching
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.launch import check_slots, launch
from deepfm.launch.run_channel import RunChannel
from deepfm.launch.worker_errors import MESSAGE, report_worker_error
from deepfm.settings.deployment import WorkerSettings
from deepfm.settings.model import ModelSettings

# Functions of this file are pickled to the workers, which cannot import it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

WORKERS = WorkerSettings(threads_per_worker=1)


@pytest.fixture
def job(dataset_url, tmp_path):
    def make(deep=None, **training):
        settings = {
            "model": "deepfm",
            "embedding_dim": 2,
            "deep": {"hidden_units": [4], **(deep or {})},
            "training": {"batch_size": 8, "max_epochs": 2, "learning_rate": 0.01, **training},
        }
        run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        run.mkdir()
        return TrainJob(dataset_url, f"file://{run}", ModelSettings.model_validate(settings), num_threads=1)

    return make


def file_of(job, name):
    return Path(storage.local_path(job.run_url)) / name


def train_and_leave_a_digest(job, collectives):
    """Train as a rank does, then write a digest of all weights to the run folder."""
    from deepfm.launch.rank import worker

    models, build_model = [], worker.build_model

    def keep_model(*arguments):
        models.append(build_model(*arguments))
        return models[0]

    worker.build_model = keep_model
    result = launching._train(job, collectives)
    digest = hashlib.sha256()
    for weight in models[0].state_dict().values():
        digest.update(weight.numpy().tobytes())
    print("a line of a worker")
    file_of(job, f"digest-{os.getpid()}").write_text(digest.hexdigest())
    return result


def test_two_workers_end_with_identical_weights(spark, job, monkeypatch, capfd):
    monkeypatch.setattr(launching, "_train", train_and_leave_a_digest)
    train_job = replace(job(deep={"dropout": 0.5, "batch_norm": True}), checkpoint_every_n_steps=2)
    result = launch(spark, train_job, 2, WORKERS)
    digests = [path.read_text() for path in file_of(train_job, "").glob("digest-*")]
    assert len(digests) == 2 and len(set(digests)) == 1
    # The rows of both ranks, each once.
    assert (result.valid.num_rows, result.test.num_rows) == (21, 20)
    assert result.valid == result.best_epoch.valid
    # Standard output is reserved for the summary of the job.
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "a line of a worker" in printed.err


def test_no_workers_and_one_worker_end_with_the_same_weights(spark, job):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    jobs = [job(deep={"dropout": 0.5}) for _ in range(2)]
    results = [launch(spark, train_job, num_workers, WORKERS) for num_workers, train_job in enumerate(jobs)]
    weights = [file_of(train_job, "weights.safetensors").read_bytes() for train_job in jobs]
    assert weights[0] == weights[1]
    assert results[0].valid == results[1].valid
    assert results[0].test == results[1].test
    # Horovod would keep its own handlers, which do nothing after the workers ended.
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_loss_that_is_not_finite_stops_all_workers_with_one_line_and_no_stack_trace(spark, job, capfd):
    message = (
        r"^epoch 1, step 2: the loss is nan \(rank 0, 1 of 2\); its rows are in part-\d.*, with "
        r"A \d to \d, B \d to \d; lower training.learning_rate"
    )
    with pytest.raises(UserError, match=message):
        launch(spark, job(learning_rate=1e30), 2, WORKERS)
    assert "Traceback" not in capfd.readouterr().err


def break_on_rank_one(job, collectives):
    """Train as a rank does, but fail on rank 1 while the others wait for its part of the metrics."""
    from deepfm.training import loop

    evaluate = loop.evaluate

    def break_or_evaluate(model, collectives, *arguments):
        if collectives.rank == 1:
            raise KeyError("rank 1 is broken")
        return evaluate(model, collectives, *arguments)

    loop.evaluate = break_or_evaluate
    return launching._train(job, collectives)


# Horovod's thread that waits for the Spark tasks raises when they fail.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_raises_ends_the_job_with_its_message(spark, job, monkeypatch):
    monkeypatch.setattr(launching, "_train", break_on_rank_one)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^rank 1 failed: KeyError: 'rank 1 is broken'$"):
        launch(spark, job(), 2, WORKERS)
    assert time.monotonic() - started < 120


def test_more_workers_than_slots_are_refused_at_once_in_one_line(spark, job):
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        launch(spark, job(), 3, WORKERS)
    assert str(caught.value).startswith(
        "--num-workers 3: expected that many task slots, found 2 on local[2]; lower"
    )
    assert time.monotonic() - started < 5


class Cluster:
    """A session on a cluster whose executors register one by one."""

    master = "spark://host:7077"

    def __init__(self, *slots):
        self.sparkContext = self._jsc = self
        self._slots = list(slots)

    def sc(self):
        return self

    def resourceProfileManager(self):
        return self

    def defaultResourceProfile(self):
        return "default"

    def isLocal(self):
        return False

    def maxNumConcurrentTasks(self, profile):
        return self._slots.pop(0) if len(self._slots) > 1 else self._slots[0]


def test_executors_that_register_late_are_waited_for():
    check_slots(Cluster(0, 1, 2), 2, within_s=30)


def test_a_cluster_that_stays_too_small_is_refused():
    with pytest.raises(JobFailedError, match="found 1 on spark://host:7077"):
        check_slots(Cluster(0, 1), 2, within_s=0.1)


def error_of(job, otherwise="exit code 1"):
    """The error that the driver raises for a job of two workers."""
    return launching._Supervisor(None, job.run_url, 2, WORKERS).to_error(otherwise)


def send_error(job, rank, message, is_user_error):
    document = {"rank": rank, "message": message, "type": "ValueError", "is_user_error": is_user_error}
    RunChannel(job.run_url).send(MESSAGE, document, rank)


def test_a_user_error_is_reported_before_other_errors(job):
    train_job = job()
    send_error(train_job, 0, "a fault", is_user_error=False)
    send_error(train_job, 1, "fix this", is_user_error=True)
    error = error_of(train_job)
    assert isinstance(error, UserError) and str(error) == "fix this"


def test_an_out_of_memory_error_of_a_worker_keeps_its_type(job):
    train_job = job()
    error = OutOfMemoryError("rank 1 ran out of memory")
    report_worker_error(RunChannel(train_job.run_url), 1, error, is_user_error=True)
    error = error_of(train_job)
    assert isinstance(error, OutOfMemoryError) and str(error) == "rank 1 ran out of memory"


def test_workers_that_sent_no_error_are_reported_with_the_message_of_horovod(job):
    error = error_of(job(), "Process name: 1\nExit code: -9\n")
    assert str(error) == "the workers failed: Process name: 1 Exit code: -9"


def test_more_workers_than_a_split_has_rows_are_refused_before_any_starts(job):
    """Test rows are read last: a rank without any would fail after the training."""
    with pytest.raises(UserError, match="expected at least one row for each of 1000000 workers, found"):
        launch(None, job(), 1_000_000, None)


def test_an_unknown_gauc_field_is_refused_before_any_worker_starts(job):
    train_job = job()
    training = train_job.model.training.model_copy(update={"gauc_field": "nosuch"})
    model = train_job.model.model_copy(update={"training": training})
    with pytest.raises(UserError, match=r"training\.gauc_field nosuch: expected a field of kind category"):
        launch(None, replace(train_job, model=model), 2, None)


@pytest.mark.parametrize("run", [launch, launching.launch_dry_run])
def test_batch_norm_over_a_single_row_is_refused_before_any_worker_starts(job, run):
    # 61 training rows: with 31 workers one would have a single row, with 30 none.
    manifest = launching.read_manifest(job().dataset_url)
    splits = {name: part.model_copy(update={"num_rows": 61}) for name, part in manifest.splits.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launching, "read_manifest", lambda url: manifest.model_copy(update={"splits": splits}))
        patch.setattr(launching, "_run_on_workers", not_started)
        with pytest.raises(UserError, match=r"^deep.batch_norm: .* each of 31 workers, found 61 in total"):
            run(None, job({"batch_norm": True}), 31, WORKERS)
        for deep, num_workers in (({"batch_norm": True}, 30), ({}, 31)):
            with pytest.raises(NotImplementedError):
                run(object(), job(deep), num_workers, WORKERS)


def not_started(*_):
    raise NotImplementedError
