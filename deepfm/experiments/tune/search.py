"""Trials in turn: each a training, a child run of one parent, and given up where it lags."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.trial import Trial
from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments.train_run import start_of_run
from deepfm.experiments.tune.plan import TuningPlan
from deepfm.experiments.tune.study import (
    METRICS,
    REASON,
    RUN_ID,
    TrialInterruptedError,
    TrialResult,
    choose,
    mark_diverged,
    mark_lost,
    num_done,
    results_of,
    run_trials,
)
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.launch import check_slots, launch
from deepfm.launch.progress import monitor_progress
from deepfm.launch.prune_signal import answer_prune_signal
from deepfm.launch.run_channel import RunChannel
from deepfm.settings.deployment import WorkerSettings
from deepfm.settings.loader import yaml_text
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.training.loop import NotFiniteError
from deepfm.training.result import TrainingResult

_STATE = "trial.state"
_POLL_EVERY_S = 0.2  # while rank 0 waits for an answer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """Where trials are trained and told of."""

    spark: SparkSession | None
    store: MlflowStore
    experiment: str
    workers: WorkerSettings
    work_url: str  # the driver and every worker reach it


def search(
    site: Site, plan: TuningPlan, study: optuna.Study, num_trials: int, max_minutes: float | None
) -> Iterator[tuple[Run, list[TrialResult]]]:
    """The parent run and what became of all trials so far: at once, and after each trial.

    A study that was interrupted goes on in its parent run; beyond `max_minutes` no trial begins and the one
    that is running ends with its epoch.
    """
    if site.spark is not None:
        check_slots(site.spark, plan.num_workers, site.workers.start_timeout_s)  # no trial's fault
    deadline = time.monotonic() + 60 * (max_minutes or math.inf)
    with _parent_run(site, plan, study) as parent:
        yield parent, results_of(study)
        objective = _Objective(site, plan, deadline)
        for _ in run_trials(study, plan, num_trials, objective, objective.is_time_over):
            results = results_of(study)
            _tell(results, plan, f"{num_done(study)} of {num_trials} done")
            yield parent, results


def _tell(results: list[TrialResult], plan: TuningPlan, so_far: str) -> None:
    last = next(result for result in reversed(results) if result.state != "waiting")
    tried = ", ".join(f"{name} = {label}" for name, label in last.choice.items())
    figures = "".join(f", {name} {last.metrics[name]:.5f}" for name in _figures(plan) if name in last.metrics)
    told = f": {last.reason}" if last.reason else ""
    logger.info("trial %d, %s: %s%s%s; %s", last.number, tried, last.state, figures, told, so_far)


def _figures(plan: TuningPlan) -> tuple[str, str]:
    return ("valid_auc", "valid_logloss") if plan.goal == "auc" else ("valid_logloss", "valid_auc")


@contextmanager
def _parent_run(site: Site, plan: TuningPlan, study: optuna.Study) -> Iterator[Run]:
    """The run that all trials are children of: that of the study, else a new one."""
    found = site.store.find_run(study.user_attrs.get(RUN_ID, ""))
    if found is None or found.info.lifecycle_stage != "active":
        with site.store.run(site.experiment, name=study.study_name) as parent:
            study.set_user_attr(RUN_ID, parent.run_id)
            parent.log_start(*start_of_run(plan.base, plan.manifest, plan.dataset_url, plan.num_workers))
            parent.log_text(yaml_text(plan.space), "space.yaml")
            yield parent
        return
    logger.info("study %s goes on with run %s", study.study_name, found.info.run_id)
    left = f"tags.mlflow.parentRunId = '{found.info.run_id}' and attributes.status = 'RUNNING'"
    for child in site.store.find_runs(site.experiment, left):
        site.store.client.set_terminated(child.info.run_id, "KILLED")
        storage.remove(f"{site.work_url}/{child.info.run_id}")
    with site.store.resumed(found.info.run_id) as parent:
        yield parent


class _Objective:
    """Trains what a trial tries -> its validation figure."""

    def __init__(self, site: Site, plan: TuningPlan, deadline: float):
        self._site, self._plan, self._deadline = site, plan, deadline

    def is_time_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def __call__(self, trial: Trial) -> float:
        settings = self._plan.settings_of(choose(trial, self._plan))
        name, tags = f"trial {trial.number}", {"trial": str(trial.number)}
        with self._site.store.run(self._site.experiment, name=name, tags=tags, nested=True) as run:
            trial.set_user_attr(RUN_ID, run.run_id)
            run_url = f"{self._site.work_url}/{run.run_id}"
            judge = _Judge(run, run_url, trial, self._plan.goal, self.is_time_over)
            try:
                result = self._train(run, run_url, settings, judge)
                state = judge.reason if result.history.stopped else "complete"
                _log_result(run, trial, result)
            except (WorkersLostError, OutOfMemoryError) as error:
                mark_lost(trial, str(error))
                raise
            except NotFiniteError as error:
                mark_diverged(trial, str(error))
                state = "diverged"
            run.set_tag(_STATE, state)
        # Outside of the run, which has not failed.
        if state == "cut off":
            trial.set_user_attr(REASON, "the time was over; it is tried again when the study goes on")
            raise TrialInterruptedError
        if state != "complete":
            raise optuna.TrialPruned
        return _value(result, self._plan.goal)

    def _train(self, run: Run, run_url: str, settings: ModelSettings, judge: "_Judge") -> TrainingResult:
        plan, site = self._plan, self._site
        run.log_start(*start_of_run(settings, plan.manifest, plan.dataset_url, plan.num_workers))
        # Nothing goes on from these trainings.
        training = settings.training.model_copy(update={"save_optimizer": False})
        job = TrainJob(
            plan.dataset_url,
            run_url,
            settings.model_copy(update={"training": training}),
            site.workers.threads_per_worker,
            asks_prune_signal=plan.space.pruner != "none" or math.isfinite(self._deadline),
        )
        storage.make_folder(run_url)
        try:
            poll_every_s = _POLL_EVERY_S if job.asks_prune_signal else 1.0
            with monitor_progress(run_url, judge, run.log_steps, poll_every_s):
                return launch(site.spark, job, plan.num_workers, site.workers)
        finally:
            storage.remove(run_url)


class _Judge:
    """Reads of each epoch, as the driver does of every training, and says whether another is worth it."""

    def __init__(self, run: Run, run_url: str, trial: Trial, goal: str, is_time_over: Callable[[], bool]):
        self.reason = ""  # why it is not
        self._run, self._run_url, self._trial = run, run_url, trial
        self._key, self._is_time_over = f"valid_{goal}", is_time_over

    def __call__(self, metrics: dict[str, float]) -> None:
        self._run.log_epoch(metrics)
        if self._key not in metrics:
            return  # of an FNN's first stage
        epoch = int(metrics["epoch"])
        self._trial.report(metrics[self._key], epoch)
        if self._is_time_over():
            self.reason = "cut off"
        elif self._trial.should_prune():
            self.reason = "pruned"
        answer_prune_signal(RunChannel(self._run_url), epoch, not self.reason)


def _log_result(run: Run, trial: Trial, result: TrainingResult) -> None:
    """What the training came to, in its run and in the study; no test figures where it was stopped."""
    metrics = {
        "valid_logloss": result.valid.logloss,
        "valid_auc": result.valid.auc,
        "epochs": len(result.history.epochs),
        "samples_per_s": round(result.samples_per_s),
        "num_weights": result.num_weights,
    }
    if result.test is not None:
        metrics |= {"test_logloss": result.test.logloss, "test_auc": result.test.auc}
    trial.set_user_attr(METRICS, metrics)
    run.log_metrics({f"best_{name}": float(value) for name, value in metrics.items()})


def _value(result: TrainingResult, goal: str) -> float:
    value = getattr(result.valid, goal)
    if not math.isfinite(value):
        raise UserError(
            f"training.monitor {goal}: expected a number on the validation rows, found {value}: all "
            "their labels are equal; monitor logloss, or give the dataset more validation days"
        )
    return value
