"""Learning rate schedules with factors computed by hand."""

import pytest

from deepfm.training.schedule import EpochSteps, ResumedEpoch, Schedule, scale_of


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


# Another number of workers


def schedule_steps(steps, *positions):
    return [round(steps.schedule_step(epoch, step), 6) for epoch, step in positions]


def test_a_schedule_counts_the_steps_of_all_epochs():
    assert schedule_steps(EpochSteps(10), (1, 1), (1, 10), (2, 1), (3, 10)) == [1, 10, 11, 30]


def test_a_schedule_continues_where_it_was_if_more_workers_resume_an_epoch():
    # 30 of 40 steps of epoch 2 are done; twice as many workers have 5 steps left, then 20 in each epoch.
    resumed = ResumedEpoch(2, num_steps_before=40, num_done=30, share_done=0.75, num_left=5)
    steps = EpochSteps(20, 40, resumed)
    assert schedule_steps(steps, (2, 31), (2, 32), (2, 35), (3, 1), (3, 20)) == [72, 74, 80, 82, 120]
    schedule = Schedule("cosine", warmup_steps=100, num_steps=120)
    assert schedule.factor(steps.schedule_step(2, 31)) == pytest.approx(0.72)
    assert schedule.factor(steps.schedule_step(3, 20)) == 0


def test_a_schedule_continues_between_epochs():
    steps = EpochSteps(20, 40, ResumedEpoch(3, num_steps_before=80, num_left=20))
    assert schedule_steps(steps, (3, 1), (3, 20), (4, 1)) == [82, 120, 122]
    assert (steps.before(3), steps.before(4), steps.before(5)) == (80, 100, 120)


def test_steps_are_counted_over_all_epochs():
    steps = EpochSteps(20, 40, ResumedEpoch(2, num_steps_before=40, num_done=30, share_done=0.75, num_left=5))
    assert [steps.in_epoch(epoch) for epoch in (2, 3)] == [35, 20]
    assert [steps.before(epoch) for epoch in (2, 3, 4)] == [40, 75, 95]
