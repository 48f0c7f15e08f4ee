"""The learning rate's course, by hand."""

import pytest

from deepfm.training.schedule import Schedule, scale_of


def course(schedule, num_steps):
    return [round(schedule.factor(step), 6) for step in range(1, num_steps + 1)]


def test_without_settings_it_stays_as_it_is():
    assert course(Schedule(), 3) == [1, 1, 1]


def test_it_rises_in_a_straight_line_to_its_full_height():
    assert course(Schedule(warmup_steps=4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_cosine_falls_to_zero_at_the_last_step_and_is_half_way_down_in_the_middle():
    assert course(Schedule("cosine", num_steps=4), 4) == [0.853553, 0.5, 0.146447, 0]


def test_a_cosine_falls_after_the_rise():
    assert course(Schedule("cosine", warmup_steps=2, num_steps=4), 4) == [0.5, 1, 0.5, 0]


def test_a_cosine_of_a_single_step_leaves_it_whole():
    assert course(Schedule("cosine", num_steps=1), 1) == [1]


def test_steps_beyond_the_last_and_a_rise_as_long_as_the_training_are_no_error():
    assert Schedule("cosine", num_steps=2).factor(5) == 0
    assert course(Schedule("cosine", warmup_steps=2, num_steps=2), 2) == [0.5, 1]


@pytest.mark.parametrize(("rule", "scale"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_workers_scale_it_by_the_rule_that_was_chosen(rule, scale):
    assert Schedule(warmup_steps=2, scale=scale_of(rule, 4)).factor(1) == scale / 2


def test_on_a_plateau_it_falls_by_the_same_factor_each_time():
    schedule = Schedule("plateau", warmup_steps=2, reduction=0.5)
    assert [schedule.factor(step, num_reductions) for step, num_reductions in ((1, 0), (9, 0), (10, 2))] == [
        0.5,
        1,
        0.25,
    ]


def test_plateaus_are_nothing_to_other_kinds():
    assert Schedule().factor(5, num_reductions=3) == 1
