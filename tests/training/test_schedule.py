"""Learning rate schedules with factors computed by hand."""

import pytest

from deepfm.training.schedule import Schedule, scale_of


def factors(schedule, num_steps):
    return [round(schedule.factor(step), 6) for step in range(1, num_steps + 1)]


def test_the_default_rate_is_constant():
    assert factors(Schedule(), 3) == [1, 1, 1]


def test_warmup_is_linear():
    assert factors(Schedule(warmup_steps=4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_cosine_is_one_half_in_the_middle_and_zero_at_the_last_step():
    assert factors(Schedule("cosine", num_steps=4), 4) == [0.853553, 0.5, 0.146447, 0]


def test_a_cosine_follows_the_warmup():
    assert factors(Schedule("cosine", warmup_steps=2, num_steps=4), 4) == [0.5, 1, 0.5, 0]


def test_a_cosine_of_one_step_does_not_change_the_rate():
    assert factors(Schedule("cosine", num_steps=1), 1) == [1]


def test_further_steps_and_a_warmup_as_long_as_the_training_are_allowed():
    assert Schedule("cosine", num_steps=2).factor(5) == 0
    assert factors(Schedule("cosine", warmup_steps=2, num_steps=2), 2) == [0.5, 1]


@pytest.mark.parametrize(("rule", "scale"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_the_rule_scales_the_rate_by_the_number_of_workers(rule, scale):
    assert Schedule(warmup_steps=2, scale=scale_of(rule, 4)).factor(1) == scale / 2


def test_each_plateau_reduces_the_rate_by_the_same_factor():
    schedule = Schedule("plateau", warmup_steps=2, reduction=0.5)
    assert [schedule.factor(step, num_reductions) for step, num_reductions in ((1, 0), (9, 0), (10, 2))] == [
        0.5,
        1,
        0.25,
    ]


def test_other_kinds_ignore_plateaus():
    assert Schedule().factor(5, num_reductions=3) == 1
