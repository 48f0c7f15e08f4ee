"""The gate compares models on rows that neither has seen, with real models and a log of two test days."""

import json
from pathlib import Path

import pytest
import yaml

from deepfm.artifact.training_data import TrainingData
from deepfm.registry import promotion
from deepfm.scoring.compare import compare_models
from deepfm.settings.deployment import PromotionLimits

#: Value `a` is clicked in three of four impressions, `b` in one of four: logits ±1.0986 are correct.
LINES = ["1\t0\ta"] * 3 + ["0\t0\ta"] + ["1\t1\tb"] + ["0\t1\tb"] * 3
CORRECT = {"a": 1.0986, "b": -1.0986}
LIMITS = PromotionLimits(
    max_logloss_increase=0.001, max_auc_decrease=0.002, min_calibration=0.9, max_calibration=1.1
)


def days(train, valid, *test):
    """Ranges of days of January 2026."""
    parts = {"train": (train, train), "valid": (valid, valid), "test": (test[0], test[-1])}
    return {part: tuple(f"2026-01-{day:02}" for day in ends) for part, ends in parts.items()}


CANDIDATE_DAYS = days(1, 2, 4, 5)


@pytest.fixture
def log(write_log):
    return write_log({"2026-01-04": LINES * 5, "2026-01-05": LINES * 2})


@pytest.fixture
def add_version(request, log, save_model, register):
    """Register a version that was split at these days -> its number."""

    def add(split_days, **changes):
        folder = f"model-{len(list(log.parent.glob('model-*')))}"
        model = save_model(folder, c=CORRECT, log_url=f"file://{log}", days=split_days, **changes)
        return register(model, request.node.name)

    return add


@pytest.fixture
def compare(spark, store, request):
    """Compare a version with version 1."""

    def run(version, limits=LIMITS):
        versions = [store.resolve(f"models:/{request.node.name}/{number}") for number in (version, 1)]
        return compare_models(spark, store, *versions, limits)

    return run


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch):
    """Do not wait for competing claims."""
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)


def test_both_models_are_evaluated_on_the_days_that_neither_has_seen(add_version, compare):
    add_version(days(4, 6, 7))
    comparison = compare(add_version(CANDIDATE_DAYS))
    assert comparison.unseen.rows.days == ("2026-01-05",)
    rows = [part.metrics.num_rows for part in (comparison.candidate, comparison.champion)]
    assert rows == [16, 16]


def test_all_held_out_days_are_compared_if_no_model_has_seen_them(add_version, compare):
    add_version(days(1, 2, 3))
    comparison = compare(add_version(CANDIDATE_DAYS))
    assert (comparison.candidate.metrics.num_rows, comparison.unseen.reasons) == (56, ())


def test_nothing_is_evaluated_if_every_day_was_seen(add_version, compare):
    add_version(days(4, 5, 6))
    comparison = compare(add_version(CANDIDATE_DAYS))
    assert (comparison.candidate, comparison.champion) == (None, None)


def test_nothing_is_evaluated_if_the_unseen_days_have_no_row(add_version, compare, log):
    (log / "ds=2026-01-05" / "part-00000.tsv").write_text("\n")
    add_version(days(4, 6, 7))
    comparison = compare(add_version(CANDIDATE_DAYS))
    assert (comparison.candidate, comparison.unseen.rows) == (None, None)


def test_seen_days_are_compared_with_a_warning_if_the_profile_says_so(add_version, compare, caplog):
    add_version(days(4, 5, 6))
    limits = LIMITS.model_copy(update={"on_seen_rows": "warn"})
    comparison = compare(add_version(CANDIDATE_DAYS), limits)
    assert comparison.champion.metrics.num_rows == 56
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith("version 1, the champion, was trained on 2026-01-04 and validated")


def test_days_of_the_model_that_a_model_started_from_are_left_out(add_version, compare, log):
    first = TrainingData(model="models:/first/3", url=f"file://{log}", days=days(5, 6, 7))
    add_version(days(1, 2, 3), started_from=(first,))
    comparison = compare(add_version(CANDIDATE_DAYS))
    assert comparison.unseen.rows.days == ("2026-01-04",)
    assert comparison.candidate.metrics.num_rows == 40


@pytest.fixture
def promote(run_job, request):
    return lambda *flags: run_job("promote", "--name", request.node.name, *flags)


def test_a_refused_comparison_is_stored_and_moves_no_alias(add_version, promote, store, request):
    add_version(days(4, 5, 6), started_from=())
    store.client.set_registered_model_alias(request.node.name, "champion", "1")
    add_version(CANDIDATE_DAYS)
    summary = promote().summary
    assert not summary["promoted"]
    (reason,) = summary["reasons"]
    assert reason.startswith(
        "FAILED: version 1, the champion, was trained on 2026-01-04 and validated on 2026-01-05; there are no"
    )
    version = store.resolve(f"models:/{request.node.name}/2")
    assert (version.tags["gate"], version.tags["gate.reasons"]) == ("refused", reason)
    verdict = json.loads(
        Path(store.client.download_artifacts(version.run_id, "gate/verdict.json")).read_text()
    )
    assert (verdict["reasons"], verdict["candidate"]) == ([reason], None)
    assert promotion.champion_version(store, request.node.name) == "1"


def test_a_warning_is_a_reason_and_the_candidate_may_be_promoted(
    add_version, promote, store, request, profile_path, tmp_path
):
    profile = yaml.safe_load(profile_path.read_text())
    profile["promotion"]["on_seen_rows"] = "warn"
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    add_version(days(4, 5, 6))
    store.client.set_registered_model_alias(request.node.name, "champion", "1")
    add_version(CANDIDATE_DAYS)
    summary = promote("--profile", tmp_path / "profile.yaml").summary
    assert summary["promoted"]
    assert summary["reasons"][-1].startswith("warning: version 1, the champion, was trained on 2026-01-04")


def test_the_first_version_is_not_affected(add_version, promote):
    add_version(CANDIDATE_DAYS)
    assert promote().summary["reasons"][0] == "there is no champion yet"
