"""Studies in real SQLite files: each combination once, retries of failed trials, and resuming."""

import optuna
import pytest

from deepfm.errors import JobFailedError, OutOfMemoryError, UserError, WorkersLostError
from deepfm.experiments.tune.study import (
    TrialInterruptedError,
    choose,
    mark_diverged,
    mark_lost,
    num_done,
    opened_study,
    results_of,
    run_trials,
)

RATES = {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}, "embedding_dim": [2, 4, 8]}


@pytest.fixture
def study_of(tmp_path):
    """study_of(plan) opens a study in a file; the next call opens the same file."""
    return lambda plan, name="study": opened_study(str(tmp_path), name, plan)


def run(study, plan, num_trials, objective, max_calls=99):
    """Run trials with an objective(choice, trial); stop after `max_calls`, as if time were up."""
    tried = []

    def run_trial(trial):
        choice = choose(trial, plan)
        tried.append(choice)
        return objective(choice, trial)

    for _ in run_trials(study, plan, num_trials, run_trial, lambda: len(tried) >= max_calls):
        pass
    return tried


def rate(choice, trial):
    return choice["training.learning_rate"]


def first_units(choice, trial):
    return choice.get("embedding_dim", 1) + choice.get("deep.dropout", 0)


def test_a_grid_tries_each_combination_once_with_each_seed(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4], "deep.dropout": [0.0, 0.5]}, seeds=2)
    with study_of(plan) as study:
        tried = run(study, plan, plan.num_trials(None), first_units)
    assert sorted((c["embedding_dim"], c["deep.dropout"], c["training.seed"]) for c in tried) == [
        (dim, dropout, seed) for dim in (2, 4) for dropout in (0.0, 0.5) for seed in (1, 2)
    ]


def test_a_range_is_searched_between_its_bounds_and_in_its_steps(study_of, plan_of):
    parameters = RATES | {"embedding_dim": {"low": 4, "high": 12, "step": 4}}
    plan = plan_of(parameters, search="tpe")
    with study_of(plan) as study:
        tried = run(study, plan, 8, rate)
    assert all(0.001 <= choice["training.learning_rate"] <= 0.1 for choice in tried)
    assert len({choice["embedding_dim"] for choice in tried} & {4, 8, 12}) > 1
    assert {choice["embedding_dim"] for choice in tried} <= {4, 8, 12}


def test_an_interrupted_search_continues_with_the_same_trials(study_of, plan_of):
    plan = plan_of(RATES, search="tpe")
    with study_of(plan, "whole") as study:
        whole = run(study, plan, 12, rate)  # the first ten are random
    parts = []
    for num_more in (3, 99):
        with study_of(plan) as study:
            parts += run(study, plan, 12, rate, max_calls=num_more)
    assert parts == whole
    assert len({choice["training.learning_rate"] for choice in whole}) == 12


def test_the_trial_of_a_killed_process_has_failed_and_is_retried_first(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})
    with study_of(plan) as study:
        first = run(study, plan, 3, first_units, max_calls=1)
        abandoned = study.ask()  # never finished
        killed = choose(abandoned, plan)
    with study_of(plan) as study:
        tried = run(study, plan, 3, first_units)
        results = results_of(study)
    assert tried[0] == killed
    assert sorted(choice["embedding_dim"] for choice in first + tried) == [2, 4, 8]
    assert [(result.state, result.tried_again) for result in results] == [
        ("complete", False),
        ("failed", True),
        ("complete", False),
        ("complete", False),
    ]


def test_a_trial_killed_before_it_chose_values_uses_up_no_combination(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})
    with study_of(plan) as study:
        study.ask()
    with study_of(plan) as study:
        tried = run(study, plan, 3, first_units)
    assert sorted(choice["embedding_dim"] for choice in tried) == [2, 4, 8]


def test_an_error_stops_the_search_and_the_trial_is_retried(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})

    def broken(choice, trial):
        raise ValueError("a bug")

    for _ in range(4):  # any number of times
        with study_of(plan) as study, pytest.raises(ValueError, match="a bug"):
            run(study, plan, 3, broken)
    with study_of(plan) as study:
        tried = run(study, plan, 3, first_units)
    assert sorted(choice["embedding_dim"] for choice in tried) == [2, 4, 8]


@pytest.mark.parametrize("error", [WorkersLostError("killed"), OutOfMemoryError("rank 0 ran out of memory")])
def test_a_trial_that_loses_its_workers_is_tried_three_times(study_of, plan_of, error):
    plan = plan_of({"embedding_dim": [2, 4, 8]})

    def four_is_too_large(choice, trial):
        if choice["embedding_dim"] == 4:
            mark_lost(trial, str(error))
            raise error
        return 0.5

    with study_of(plan) as study:
        tried = run(study, plan, 3, four_is_too_large)
        states = [result.state for result in results_of(study)]
        assert num_done(study) == 3
    assert sorted(choice["embedding_dim"] for choice in tried) == [2, 4, 4, 4, 8]
    assert states.count("failed") == 3


def test_a_trial_interrupted_by_the_budget_is_always_retried(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2]})

    def interrupt(choice, trial):
        raise TrialInterruptedError

    for _ in range(4):
        with study_of(plan) as study:
            run(study, plan, 1, interrupt, max_calls=1)
            assert num_done(study) == 0
    with study_of(plan) as study:
        assert run(study, plan, 1, first_units) == [{"embedding_dim": 2, "training.seed": 1}]


def test_a_diverged_trial_counts_and_has_a_reason(study_of, plan_of):
    plan = plan_of(RATES, search="tpe")

    def diverge(choice, trial):
        mark_diverged(trial, "the loss is nan")
        raise optuna.TrialPruned

    with study_of(plan) as study:
        assert len(run(study, plan, 2, diverge)) == 2
        assert [(result.state, result.reason) for result in results_of(study)] == [
            ("diverged", "the loss is nan")
        ] * 2


def test_the_number_of_trials_can_be_increased_later(study_of, plan_of):
    plan = plan_of(RATES, search="tpe")
    for num_trials, num_new in ((2, 2), (2, 0), (5, 3)):
        with study_of(plan) as study:
            assert len(run(study, plan, num_trials, rate)) == num_new


@pytest.mark.parametrize(("pruner", "is_pruned"), [("none", False), ("median", True)])
def test_a_trial_worse_than_the_median_at_its_epoch_is_pruned(study_of, plan_of, pruner, is_pruned):
    plan = plan_of(RATES, search="tpe", pruner=pruner, startup_trials=2)

    def report_epochs(values):
        def objective(choice, trial):
            for epoch, value in enumerate(values, start=1):
                trial.report(value, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return values[-1]

        return objective

    with study_of(plan) as study:
        for num_trials, values in ((1, [0.5, 0.4]), (2, [0.6, 0.3]), (3, [0.7, 0.2])):
            run(study, plan, num_trials, report_epochs(values))
        states = [result.state for result in results_of(study)]
    assert states == ["complete", "complete", "pruned" if is_pruned else "complete"]


def test_with_monitor_auc_a_higher_value_is_better(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]}, monitor="auc")
    with study_of(plan) as study:
        run(study, plan, 3, lambda choice, trial: choice["embedding_dim"] / 10)
        assert study.best_params["embedding_dim"] == 8


def test_a_study_with_another_plan_is_rejected(study_of, plan_of):
    with study_of(plan_of({"embedding_dim": [2, 4]})):
        pass
    with pytest.raises(UserError, match="found another space; use the original settings, or choose"):
        study_of(plan_of({"embedding_dim": [2, 8]})).__enter__()
    with pytest.raises(UserError, match="found another space, number of seeds"):
        study_of(plan_of({"embedding_dim": [2, 8]}, seeds=2)).__enter__()


def test_a_study_is_for_one_process_at_a_time(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4]})
    with study_of(plan):
        with pytest.raises(JobFailedError, match=r"is in use by process \d+ on "):
            study_of(plan).__enter__()
        with study_of(plan, "another"):
            pass
    with study_of(plan):
        pass


def test_a_file_that_is_not_a_study_is_an_error(study_of, plan_of, tmp_path):
    (tmp_path / "study.db").write_text("not a database, despite its name\n" * 50)
    with pytest.raises(UserError, match=r"study\.db: expected a study, found .*move the file"):
        study_of(plan_of({"embedding_dim": [2]})).__enter__()
