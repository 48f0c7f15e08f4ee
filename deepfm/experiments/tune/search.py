"""Hyperparameter search: each trial is a training and a child run, pruned if it performs badly."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import Trial

from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments.train_run import TrainingSite, run_parameters
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
from deepfm.launch.launch import check_slots
from deepfm.launch.prune_signal import answer_prune_signal
from deepfm.launch.run_channel import RunChannel
from deepfm.settings.loader import yaml_text
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import Run
from deepfm.training.epoch import NotFiniteError
from deepfm.training.result import TrainingResult

_STATE = "trial.state"
_POLL_EVERY_S = 0.2  # while rank 0 waits for an answer

logger = logging.getLogger(__name__)


def search(
    site: TrainingSite, plan: TuningPlan, study: optuna.Study, num_trials: int, max_minutes: float | None
) -> Iterator[tuple[Run, list[TrialResult]]]:
    """Run trials; yields the parent run and the results of all trials, at the start and after each trial.

    An interrupted study continues in its parent run. After `max_minutes` no trial starts, and the running one
    ends with its current epoch.
    """
    if site.spark is not None:
        check_slots(site.spark, plan.num_workers, site.workers.start_timeout_s)  # not an error of a trial
    deadline = time.monotonic() + 60 * (max_minutes or math.inf)
    with _parent_run(site, plan, study) as parent:
        yield parent, results_of(study)
        objective = _Objective(site, plan, deadline)
        for _ in run_trials(study, plan, num_trials, objective, objective.is_time_over):
            results = results_of(study)
            _log_last_trial(results, plan, f"{num_done(study)} of {num_trials} done")
            yield parent, results


def _log_last_trial(results: list[TrialResult], plan: TuningPlan, so_far: str) -> None:
    last = next(result for result in reversed(results) if result.state != "waiting")
    values = [f"{name}={label}" for name, label in last.choice.items()]
    values += [f"{name}={last.metrics[name]:.5f}" for name in _metric_names(plan) if name in last.metrics]
    reason = f": {last.reason}" if last.reason else ""
    logger.info("trial=%d state=%s %s%s; %s", last.number, last.state, " ".join(values), reason, so_far)


def _metric_names(plan: TuningPlan) -> tuple[str, str]:
    return ("valid_auc", "valid_logloss") if plan.goal == "auc" else ("valid_logloss", "valid_auc")


@contextmanager
def _parent_run(site: TrainingSite, plan: TuningPlan, study: optuna.Study) -> Iterator[Run]:
    """Open the parent run of all trials: that of the study if there is one, else a new one."""
    existing = site.store.find_run(study.user_attrs.get(RUN_ID, ""))
    if existing is None or existing.info.lifecycle_stage != "active":
        with site.store.run(site.experiment, name=study.study_name) as parent:
            study.set_user_attr(RUN_ID, parent.run_id)
            parent.log_start(*run_parameters(plan.base, plan.manifest, plan.dataset_url, plan.num_workers))
            parent.log_text(yaml_text(plan.space), "space.yaml")
            yield parent
        return
    run_id = existing.info.run_id
    logger.info("study=%s resuming run_id=%s", study.study_name, run_id)
    site.end_interrupted_children(run_id)
    with site.store.resumed(run_id) as parent:
        yield parent


class _Objective:
    """Trains the settings of a trial and returns its validation metric."""

    def __init__(self, site: TrainingSite, plan: TuningPlan, deadline: float):
        self._site, self._plan, self._deadline = site, plan, deadline

    def is_time_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def __call__(self, trial: Trial) -> float:
        settings = self._plan.settings_of(choose(trial, self._plan))
        name, tags = f"trial {trial.number}", {"trial": str(trial.number)}
        with self._site.store.run(self._site.experiment, name=name, tags=tags, nested=True) as run:
            trial.set_user_attr(RUN_ID, run.run_id)
            try:
                result, stop_reason = self._train(run, trial, settings)
                state = stop_reason if result.history.stopped else "complete"
                _log_result(run, trial, result)
            except (WorkersLostError, OutOfMemoryError) as error:
                mark_lost(trial, str(error))
                raise
            except NotFiniteError as error:
                mark_diverged(trial, str(error))
                state = "diverged"
            run.set_tag(_STATE, state)
        # Raised outside the run, which has not failed.
        if state == "interrupted":
            trial.set_user_attr(REASON, "the time limit was reached; repeated when the study continues")
            raise TrialInterruptedError
        if state != "complete":
            raise optuna.TrialPruned
        return _value(result, self._plan.goal)

    def _train(self, run: Run, trial: Trial, settings: ModelSettings) -> tuple[TrainingResult, str]:
        plan, site = self._plan, self._site
        run.log_start(*run_parameters(settings, plan.manifest, plan.dataset_url, plan.num_workers))
        # No training continues from these, so their optimizer state is not saved.
        training = settings.training.model_copy(update={"save_optimizer": False})
        with site.temporary_run_folder(run) as run_url:
            job = TrainJob(
                plan.dataset_url,
                run_url,
                settings.model_copy(update={"training": training}),
                site.workers.threads_per_worker,
                asks_prune_signal=plan.space.pruner != "none" or math.isfinite(self._deadline),
            )
            pruner = _EpochPruner(run, RunChannel(run_url), trial, plan.goal, self.is_time_over)
            poll_every_s = _POLL_EVERY_S if job.asks_prune_signal else 1.0
            result = site.train(job, pruner, run.log_steps, poll_every_s=poll_every_s)
        return result, pruner.reason


class _EpochPruner:
    """Logs each finished epoch of a trial and answers whether to train another one."""

    def __init__(
        self, run: Run, channel: RunChannel, trial: Trial, goal: str, is_time_over: Callable[[], bool]
    ):
        self.reason = ""  # of stopping
        self._run, self._channel, self._trial = run, channel, trial
        self._key, self._is_time_over = f"valid_{goal}", is_time_over

    def __call__(self, metrics: dict[str, float]) -> None:
        self._run.log_epoch(metrics)
        if self._key not in metrics:
            return  # an epoch of an FNN's first stage
        epoch = int(metrics["epoch"])
        self._trial.report(metrics[self._key], epoch)
        if self._is_time_over():
            self.reason = "interrupted"
        elif self._trial.should_prune():
            self.reason = "pruned"
        answer_prune_signal(self._channel, epoch, not self.reason)


def _log_result(run: Run, trial: Trial, result: TrainingResult) -> None:
    """Log the metrics of a training in its run and in the study; without test metrics if it was pruned."""
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
            f"training.monitor {goal}: expected a finite value on the validation rows, found {value}: all "
            "their labels are equal; monitor logloss, or build the dataset with more validation days"
        )
    return value
