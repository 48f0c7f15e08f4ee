"""Held-out rows that a compared model was trained on are found, for every kind of split."""

from datetime import datetime, timezone

import pytest

from deepfm.artifact.training_data import TrainingData
from deepfm.metrics.binary import Metrics
from deepfm.registry.gate import ModelEvaluation
from deepfm.registry.held_out import HeldOutRows, format_days
from deepfm.registry.seen_rows import ModelLineage, decide_promotion, find_unseen, seen_days_warning
from deepfm.settings.data import Shares, SplitFiles
from deepfm.settings.deployment import PromotionLimits

LOG = "file:///log"
LIMITS = PromotionLimits(
    max_logloss_increase=0.001, max_auc_decrease=0.002, min_calibration=0.9, max_calibration=1.1
)
EVALUATION = ModelEvaluation(
    Metrics(num_rows=1000, logloss=0.45, auc=0.80, ctr=0.25, mean_probability=0.25, ece=0.0)
)


def by_days(train, valid, test, **changes):
    """Data of January 2026, split by days such as "1:3" or "4"."""
    parts = {}
    for name, text in (("train", train), ("valid", valid), ("test", test)):
        first, _, last = text.partition(":")
        parts[name] = (f"2026-01-{int(first):02}", f"2026-01-{int(last or first):02}")
    return TrainingData(**{"model": "models:/m/1", "url": LOG, "days": parts, **changes})


def by_time(valid_from, test_from, **changes):
    """Data split at seconds of 2026-01-01."""
    start = int(datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp())
    times = (start + valid_from, start + test_from)
    return TrainingData(**{"model": "models:/m/1", "url": LOG, "times": times, **changes})


def by_hash(valid=0.1, test=0.1, **changes):
    shares = Shares(valid=valid, test=test)
    return TrainingData(**{"model": "models:/m/1", "url": LOG, "shares": shares, **changes})


def by_files(test="test.csv", **changes):
    files = SplitFiles(train="train.csv", valid="valid.csv", test=test)
    return TrainingData(**{"model": "models:/m/1", "url": LOG, "files": files, **changes})


def unseen_of(candidate, champion, *started_from, unknown_start=""):
    models = [
        ModelLineage("2", (candidate,), "the candidate"),
        ModelLineage("1", (champion, *started_from), "the champion", unknown_start),
    ]
    return find_unseen(HeldOutRows.of_model(candidate), models)


# --- days


@pytest.mark.parametrize(
    "champion",
    [
        by_days("1", "2", "3"),
        by_days("1", "2", "3:5"),
        by_days("1:3", "6", "7"),
        by_days("1:5", "6", "7", missing_days=("2026-01-04", "2026-01-05")),
    ],
)
def test_days_that_no_model_has_seen_are_all_compared(champion):
    unseen = unseen_of(by_days("1:2", "3", "4:5"), champion)
    assert unseen.rows == unseen.held_out
    assert (unseen.are_narrowed, unseen.reasons) == (False, ())


def test_a_day_the_champion_was_trained_on_is_left_out():
    unseen = unseen_of(by_days("1:2", "3", "4:5"), by_days("1:4", "6", "7"))
    assert unseen.rows.days == ("2026-01-05",)
    assert unseen.reasons == (
        "compared on 2026-01-05, which no model has seen: version 1, the champion, was trained on 2026-01-04",
    )


def test_days_between_which_a_day_is_left_out_are_compared():
    unseen = unseen_of(by_days("1", "2", "3:6"), by_days("1", "4:5", "6"))
    assert unseen.rows.days == ("2026-01-03", "2026-01-06")
    assert unseen.findings == ("version 1, the champion, was validated on 2026-01-04 to 2026-01-05",)


def test_no_day_remains_if_the_champion_was_trained_and_validated_on_all():
    unseen = unseen_of(by_days("1:2", "3", "4:5"), by_days("1:4", "5", "6"))
    assert unseen.rows is None
    assert unseen.findings == (
        "version 1, the champion, was trained on 2026-01-04 and validated on 2026-01-05",
    )


def test_days_of_a_model_that_the_champion_started_from_count():
    started_from = by_days("4", "5", "6", model="models:/m/7")
    unseen = unseen_of(by_days("1", "2", "3:4"), by_days("1", "2", "3"), started_from)
    assert unseen.rows.days == ("2026-01-03",)
    assert unseen.findings == (
        "version 1, the champion, started from models:/m/7, which was trained on 2026-01-04",
    )


def test_days_that_the_candidate_itself_has_seen_through_its_start_are_left_out():
    candidate, started_from = by_days("1", "2", "3"), by_days("1:3", "4", "5", model="models:/m/7")
    lineage = ModelLineage("1", (candidate, started_from), "the candidate")
    unseen = find_unseen(HeldOutRows.of_model(candidate), [lineage])
    assert unseen.rows is None
    assert "version 1, the candidate, started from models:/m/7" in unseen.findings[0]


def test_days_of_a_copied_log_are_the_same_days():
    unseen = unseen_of(by_days("1", "2", "3:4"), by_days("1:3", "5", "6", url="file:///copy"))
    assert unseen.rows.days == ("2026-01-04",)


# --- times


def test_later_rows_are_compared_if_the_champion_was_split_at_a_later_time():
    unseen = unseen_of(by_time(100, 200), by_time(200, 300))
    assert unseen.rows.start == unseen.held_out.start + 100
    (reason,) = unseen.reasons
    assert reason.startswith(
        "compared on the rows from 2026-01-01 00:05:00+00:00 on, which no model has seen"
    )


def test_rows_after_the_end_of_the_champions_data_are_unseen():
    assert unseen_of(by_time(200, 300), by_time(100, 200)).reasons == ()
    assert unseen_of(by_time(200, 300), by_time(200, 300)).findings == ()


def test_days_before_a_time_are_seen():
    champion = by_time(1, 3 * 86400 + 1)  # its last training second is in 2026-01-04
    assert unseen_of(by_days("1", "2", "3:5"), champion).rows.days == ("2026-01-05",)
    assert unseen_of(by_days("1", "2", "5"), champion).reasons == ()


def test_times_on_seen_days_are_seen():
    candidate = by_time(1, 86400)
    assert unseen_of(candidate, by_days("1", "2", "3")).rows.start == candidate.times[1] + 86400
    assert unseen_of(candidate, by_days("1", "1", "2")).reasons == ()


# --- row hash and names of files


def test_the_same_shares_by_row_hash_hold_out_the_same_rows():
    assert unseen_of(by_hash(), by_hash()).reasons == ()
    assert unseen_of(by_hash(0.1, 0.1), by_hash(0.1, 0.2)).reasons == ()


def test_rows_in_the_test_parts_of_both_shares_are_compared():
    unseen = unseen_of(by_hash(0.1, 0.2), by_hash(0.2, 0.2))  # positions 0.1 to 0.3 and 0.2 to 0.4
    assert unseen.rows.hashes == pytest.approx((0.2, 0.3))
    assert "was trained or validated on 50.0% of the held-out rows" in unseen.findings[0]


def test_no_row_remains_if_the_test_shares_are_disjoint():
    assert unseen_of(by_hash(0.1, 0.1), by_hash(0.3, 0.1)).rows is None


def test_hashes_of_other_columns_split_the_log_in_another_way():
    unseen = unseen_of(by_hash(hashed_columns=("a",)), by_hash(hashed_columns=("a", "b")))
    assert unseen.rows is None
    assert "was trained on rows of the same log, which it split in another way" in unseen.findings[0]


def test_the_same_files_hold_out_the_same_rows():
    assert unseen_of(by_files(), by_files()).reasons == ()
    assert unseen_of(by_files(), by_files("late.csv")).rows is None


@pytest.mark.parametrize("champion", [by_hash(), by_files(), by_days("1", "2", "3")])
def test_other_kinds_of_splits_of_one_log_overlap(champion):
    candidate = by_files("late.csv") if not champion.files else by_hash()
    assert unseen_of(candidate, champion).rows is None


@pytest.mark.parametrize("make", [by_hash, by_files])
def test_the_overlap_of_different_logs_without_days_is_unknown(make):
    unseen = unseen_of(make(), make(url="file:///other"))
    assert unseen.rows == unseen.held_out
    assert unseen.reasons == (
        "version 1, the champion, was trained on another log, file:///other, and the two splits are not both "
        "by days: whether rows overlap is unknown",
    )


def test_an_unknown_start_is_reported():
    unseen = unseen_of(by_hash(), by_hash(), unknown_start="models:/m/9, which was deleted")
    assert unseen.reasons == (
        "version 1, the champion, started from models:/m/9, which was deleted: whether rows overlap is "
        "unknown",
    )


# --- verdict and warnings


def test_a_candidate_that_was_not_evaluated_is_refused_with_the_remedy():
    unseen = unseen_of(by_days("1", "2", "3"), by_days("1:3", "4", "5"))
    verdict = decide_promotion(unseen, None, None, LIMITS)
    assert not verdict.promoted
    assert verdict.reasons == (
        "FAILED: version 1, the champion, was trained on 2026-01-03; there are no other held-out rows to "
        "compare on: build a dataset with a later test day, or set promotion.on_seen_rows: warn",
    )


def test_a_comparison_on_seen_rows_has_a_warning_among_its_reasons():
    unseen = unseen_of(by_days("1", "2", "3"), by_days("1:3", "4", "5"))
    verdict = decide_promotion(unseen, EVALUATION, EVALUATION, LIMITS)
    assert verdict.promoted
    assert verdict.reasons[-1] == (
        "warning: version 1, the champion, was trained on 2026-01-03: its metrics on 2026-01-03 are better "
        "than on new rows"
    )


def test_a_day_to_evaluate_is_compared_with_the_training_and_validation_days():
    model = ModelLineage("1", (by_days("1:2", "3", "4"),))
    warning = seen_days_warning(model, "2026-01-03", LOG)
    assert warning == (
        "version 1 was validated on 2026-01-03: its metrics on 2026-01-03 are better than on new rows"
    )
    assert seen_days_warning(model, "2026-01-04", LOG) is None
    assert seen_days_warning(ModelLineage("1", (by_hash(url="file:///b"),)), "2026-01-04", LOG) is None


def test_days_are_written_as_ranges():
    days = ["2026-01-31", "2026-02-01", "2026-02-02", "2026-02-05"]
    assert format_days(days) == "2026-01-31 to 2026-02-02, 2026-02-05"
