"""Optuna study in a SQLite file: trials, their results, and repeated trials."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import optuna
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler, GridSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments.tune.plan import TuningPlan
from deepfm.experiments.tune.space import SEED, Choice, Label, number_type
from deepfm.ownership import exclusive_ownership

# User attributes of a trial.
RUN_ID, METRICS, REASON = "run_id", "metrics", "reason"
_DIVERGED, _LOST, _TRIES, _AGAIN = "diverged", "lost", "tries", "again"
_MAX_TRIES = 3  # of a trial whose workers were lost or ran out of memory


class TrialInterruptedError(Exception):
    """The time limit of the study was reached; the trial is repeated when the study continues."""


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial."""

    number: int
    state: str  # complete, pruned, diverged, failed; running, waiting
    choice: Choice
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    tried_again: bool = False


@contextmanager
def opened_study(folder: str, name: str, plan: TuningPlan) -> Iterator[optuna.Study]:
    """Open the study of that name, new or existing, for one process at a time.

    Trials that were running when their process ended are marked as failed. Raises UserError if the study
    belongs to another plan or is damaged, and JobFailedError if it is in use.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # the job logs trials itself
    path = study_path(folder, name)
    with exclusive_ownership(f"file://{folder}", name, f"study {name}", "choose another --study"):
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize" if plan.goal == "auc" else "minimize",
                pruner=_pruner(plan),
                load_if_exists=True,
            )
        except (OptunaError, SQLAlchemyError, RuntimeError) as error:
            raise UserError(
                f"{path}: expected a study, found {error}; move the file, or choose another --study"
            ) from error
        try:
            _require_same_plan(study, plan, name)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def study_path(folder: str, name: str) -> Path:
    """File of a study."""
    return Path(folder) / f"{name}.db"


def _require_same_plan(study: optuna.Study, plan: TuningPlan, name: str) -> None:
    original = study.user_attrs.get("identity")
    if original is None:
        study.set_user_attr("identity", plan.identity)
        return
    differing = [part for part, value in plan.identity.items() if original.get(part) != value]
    if differing:
        raise UserError(
            f"study {name}: expected its original settings, found another {', '.join(differing)}; use the "
            "original settings, or choose another --study"
        )


def _pruner(plan: TuningPlan) -> optuna.pruners.BasePruner:
    space = plan.space
    if space.pruner == "median":
        return optuna.pruners.MedianPruner(space.startup_trials, space.warmup_epochs)
    if space.pruner == "hyperband":
        longest = space.parameters.get("training.max_epochs")
        max_epochs = plan.base.training.max_epochs
        if longest:
            max_epochs = max(longest.value_of(label) for label in longest.probes)
        return optuna.pruners.HyperbandPruner(max_resource=max_epochs)
    return optuna.pruners.NopPruner()


def _sampler(plan: TuningPlan, num_done: int) -> BaseSampler:
    if plan.space.search == "grid":
        grid = {name: list(parameter.labels) for name, parameter in plan.space.parameters.items()}
        return GridSampler(grid | {SEED: list(plan.seeds)}, seed=plan.space.seed)
    # One seed per trial: with one seed per process, the next process would repeat the first trials.
    chance = np.random.SeedSequence([plan.space.seed, num_done])
    return TPESampler(seed=int(chance.generate_state(1)[0]))


def choose(trial: Trial, plan: TuningPlan) -> Choice:
    """Choose the values of a trial."""
    choice: Choice = {}
    for name, parameter in plan.space.parameters.items():
        if parameter.labels:
            choice[name] = cast(Label, trial.suggest_categorical(name, parameter.labels))
        elif number_type(name) is int:
            low, high = parameter.bounds
            choice[name] = trial.suggest_int(
                name, int(low), int(high), step=int(parameter.step or 1), log=parameter.log
            )
        else:
            low, high = parameter.bounds
            choice[name] = trial.suggest_float(name, low, high, step=parameter.step, log=parameter.log)
    if plan.space.search == "grid":
        choice[SEED] = trial.suggest_categorical(SEED, plan.seeds)
    return choice


def run_trials(
    study: optuna.Study,
    plan: TuningPlan,
    num_trials: int,
    objective: Callable[[Trial], float],
    is_time_over: Callable[[], bool],
) -> Iterator[None]:
    """Run trials until the study has `num_trials`, including earlier processes; yields after each trial.

    Trials whose workers were lost or ran out of memory are repeated, three attempts at most. Interrupted
    trials are repeated when the study continues.
    """
    while (done := num_done(study)) < num_trials and not is_time_over():
        _repeat_failed_trials(study)
        study.sampler = _sampler(plan, done)
        study.optimize(
            objective, n_trials=1, catch=(WorkersLostError, OutOfMemoryError, TrialInterruptedError)
        )
        yield


def num_done(study: optuna.Study) -> int:
    """Number of trials that are not to be repeated."""
    return sum(
        trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or _is_final_failure(trial)
        for trial in study.get_trials(deepcopy=False)
    )


def _is_final_failure(trial: FrozenTrial) -> bool:
    is_lost = trial.state == TrialState.FAIL and _LOST in trial.user_attrs
    return is_lost and trial.user_attrs.get(_TRIES, 1) >= _MAX_TRIES


def _repeat_failed_trials(study: optuna.Study) -> None:
    """Enqueue each failed trial that was not repeated yet, with the same values."""
    trials = study.get_trials(deepcopy=False)
    repeated = _repeated_trials(trials)
    for trial in trials:
        if trial.state != TrialState.FAIL or trial.number in repeated or _is_final_failure(trial):
            continue
        tries = trial.user_attrs.get(_TRIES, 1) + (_LOST in trial.user_attrs)
        study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={_AGAIN: trial.number, _TRIES: tries},
                system_attrs=trial.system_attrs,  # the grid sampler needs its position
            )
        )


def _repeated_trials(trials: list[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[_AGAIN] for trial in trials if _AGAIN in trial.user_attrs}


def mark_diverged(trial: Trial, reason: str) -> None:
    """Mark a trial whose loss was NaN: the search treats it as pruned."""
    trial.set_user_attr(_DIVERGED, True)
    trial.set_user_attr(REASON, reason)


def mark_lost(trial: Trial, reason: str) -> None:
    """Mark a trial whose workers were lost or ran out of memory."""
    trial.set_user_attr(_LOST, True)
    trial.set_user_attr(REASON, reason)


def results_of(study: optuna.Study) -> list[TrialResult]:
    """Results of all trials, by number."""
    trials = study.get_trials(deepcopy=False)
    repeated = _repeated_trials(trials)
    names = {TrialState.FAIL: "failed"}
    return [
        TrialResult(
            trial.number,
            "diverged" if _DIVERGED in trial.user_attrs else names.get(trial.state, trial.state.name.lower()),
            dict(trial.params),
            trial.user_attrs.get(METRICS, {}),
            trial.user_attrs.get(REASON, ""),
            trial.number in repeated,
        )
        for trial in trials
    ]
