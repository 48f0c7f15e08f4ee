"""Studies in real SQLite files: each combination once, what failed again, going on as if nothing had been."""

import optuna
import pytest

from deepfm.errors import OutOfMemoryError, UserError, WorkersLostError
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
    """study_of(plan) opens the study of tests: in a file that the next call finds."""
    return lambda plan, name="study": opened_study(str(tmp_path), name, plan)


def run(study, plan, num_trials, objective, max_calls=99):
    """Trials with an objective of their choice; `max_calls`: after so many the time is over."""
    tried = []

    def of_trial(trial):
        choice = choose(trial, plan)
        tried.append(choice)
        return objective(choice, trial)

    for _ in run_trials(study, plan, num_trials, of_trial, lambda: len(tried) >= max_calls):
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


def test_a_range_is_searched_within_its_ends_and_whole_numbers_in_its_steps(study_of, plan_of):
    parameters = RATES | {"embedding_dim": {"low": 4, "high": 12, "step": 4}}
    plan = plan_of(parameters, search="tpe")
    with study_of(plan) as study:
        tried = run(study, plan, 8, rate)
    assert all(0.001 <= choice["training.learning_rate"] <= 0.1 for choice in tried)
    assert len({choice["embedding_dim"] for choice in tried} & {4, 8, 12}) > 1
    assert {choice["embedding_dim"] for choice in tried} <= {4, 8, 12}


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(study_of, plan_of):
    plan = plan_of(RATES, search="tpe")
    with study_of(plan, "whole") as study:
        whole = run(study, plan, 12, rate)  # the first ten by chance
    parts = []
    for num_more in (3, 99):
        with study_of(plan) as study:
            parts += run(study, plan, 12, rate, max_calls=num_more)
    assert parts == whole
    assert len({choice["training.learning_rate"] for choice in whole}) == 12


def test_what_a_killed_process_was_trying_has_failed_and_is_tried_again_first(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})
    with study_of(plan) as study:
        first = run(study, plan, 3, first_units, max_calls=1)
        left = study.ask()  # and nothing more is heard of it
        killed = choose(left, plan)
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


def test_a_trial_killed_before_it_had_chosen_takes_nothing_from_the_grid(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})
    with study_of(plan) as study:
        study.ask()
    with study_of(plan) as study:
        tried = run(study, plan, 3, first_units)
    assert sorted(choice["embedding_dim"] for choice in tried) == [2, 4, 8]


def test_an_error_stops_the_search_and_what_it_stopped_is_tried_again(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})

    def broken(choice, trial):
        raise ValueError("ours")

    for _ in range(4):  # no matter how often
        with study_of(plan) as study, pytest.raises(ValueError, match="ours"):
            run(study, plan, 3, broken)
    with study_of(plan) as study:
        tried = run(study, plan, 3, first_units)
    assert sorted(choice["embedding_dim"] for choice in tried) == [2, 4, 8]


@pytest.mark.parametrize("error", [WorkersLostError("killed"), OutOfMemoryError("rank 0 ran out of memory")])
def test_a_trial_that_loses_its_workers_is_tried_three_times_and_then_given_up(study_of, plan_of, error):
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


def test_what_the_budget_cut_off_is_tried_again_and_never_given_up(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2]})

    def cut(choice, trial):
        raise TrialInterruptedError

    for _ in range(4):
        with study_of(plan) as study:
            run(study, plan, 1, cut, max_calls=1)
            assert num_done(study) == 0
    with study_of(plan) as study:
        assert run(study, plan, 1, first_units) == [{"embedding_dim": 2, "training.seed": 1}]


def test_a_trial_that_diverged_counts_and_is_told_with_its_reason(study_of, plan_of):
    plan = plan_of(RATES, search="tpe")

    def diverge(choice, trial):
        mark_diverged(trial, "the loss is nan")
        raise optuna.TrialPruned

    with study_of(plan) as study:
        assert len(run(study, plan, 2, diverge)) == 2
        assert [(result.state, result.reason) for result in results_of(study)] == [
            ("diverged", "the loss is nan")
        ] * 2


def test_more_trials_can_be_asked_for_later(study_of, plan_of):
    plan = plan_of(RATES, search="tpe")
    for num_trials, num_new in ((2, 2), (2, 0), (5, 3)):
        with study_of(plan) as study:
            assert len(run(study, plan, num_trials, rate)) == num_new


@pytest.mark.parametrize(("pruner", "is_given_up"), [("none", False), ("median", True)])
def test_a_trial_worse_than_the_median_at_its_epoch_is_given_up(study_of, plan_of, pruner, is_given_up):
    plan = plan_of(RATES, search="tpe", pruner=pruner, startup_trials=2)

    def of_epochs(values):
        def objective(choice, trial):
            for epoch, value in enumerate(values, start=1):
                trial.report(value, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return values[-1]

        return objective

    with study_of(plan) as study:
        for num_trials, values in ((1, [0.5, 0.4]), (2, [0.6, 0.3]), (3, [0.7, 0.2])):
            run(study, plan, num_trials, of_epochs(values))
        states = [result.state for result in results_of(study)]
    assert states == ["complete", "complete", "pruned" if is_given_up else "complete"]


def test_by_auc_more_is_better(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]}, monitor="auc")
    with study_of(plan) as study:
        run(study, plan, 3, lambda choice, trial: choice["embedding_dim"] / 10)
        assert study.best_params["embedding_dim"] == 8


def test_a_study_of_another_plan_is_not_gone_on_with(study_of, plan_of):
    with study_of(plan_of({"embedding_dim": [2, 4]})):
        pass
    with pytest.raises(UserError, match="found another space; use the original settings, or choose"):
        study_of(plan_of({"embedding_dim": [2, 8]})).__enter__()
    with pytest.raises(UserError, match="found another space, number of seeds"):
        study_of(plan_of({"embedding_dim": [2, 8]}, seeds=2)).__enter__()


def test_a_study_is_for_one_process_at_a_time(study_of, plan_of):
    plan = plan_of({"embedding_dim": [2, 4]})
    with study_of(plan):
        with pytest.raises(UserError, match=r"is in use by process \d+;"):
            study_of(plan).__enter__()
        with study_of(plan, "another"):
            pass
    with study_of(plan):
        pass


def test_a_file_that_is_no_study_is_told(study_of, plan_of, tmp_path):
    (tmp_path / "study.db").write_text("no database, whatever its name says\n" * 50)
    with pytest.raises(UserError, match=r"study\.db: expected a study, found .*move the file"):
        study_of(plan_of({"embedding_dim": [2]})).__enter__()
