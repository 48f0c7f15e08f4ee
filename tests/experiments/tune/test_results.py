"""Table and best combination of a study: by validation metrics and means over seeds, never by test rows."""

import csv
import io
from pathlib import Path

import pytest

from deepfm.experiments.tune.results import (
    best,
    best_summary,
    best_yaml,
    combinations,
    counts,
    csv_text,
    markdown,
)
from deepfm.experiments.tune.study import TrialResult
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings


def trial(number, label, logloss=None, *, state="complete", seed=1, test=0.5, name="embedding_dim", **more):
    """A trial with value `label`; its AUC is 1 - logloss, also on the test rows."""
    metrics = {}
    if logloss is not None:
        metrics = {"valid_logloss": logloss, "valid_auc": 1 - logloss, "epochs": 2}
    if state == "complete":
        metrics |= {"test_logloss": test, "test_auc": 1 - test}
    return TrialResult(number, state, {name: label, "training.seed": seed}, metrics, **more)


def test_the_best_has_the_lowest_validation_logloss_and_test_metrics_do_not_count(plan_of):
    plan = plan_of({"embedding_dim": [2, 4, 8]})
    trials = [trial(0, 2, 0.4, test=0.1), trial(1, 4, 0.3, test=0.9), trial(2, 8, 0.5, test=0.2)]
    assert best(combinations(trials, plan), plan).choice == {"embedding_dim": 4}


def test_with_monitor_auc_the_best_has_the_highest_auc(plan_of):
    plan = plan_of({"embedding_dim": [2, 4]}, monitor="auc")
    trials = [trial(0, 2, 0.4), trial(1, 4, 0.3)]
    trials[0].metrics["valid_auc"] = 0.9
    assert best(combinations(trials, plan), plan).choice == {"embedding_dim": 2}


def test_seeds_of_a_combination_are_averaged(plan_of):
    plan = plan_of({"embedding_dim": [2, 4]}, seeds=2)
    trials = [trial(0, 2, 0.1), trial(1, 2, 0.7, seed=2), trial(2, 4, 0.3), trial(3, 4, 0.4, seed=2)]
    results = combinations(trials, plan)
    assert [one.mean("valid_logloss") for one in results] == pytest.approx([0.4, 0.35])
    assert results[1].spread("valid_logloss") == pytest.approx(0.0707, abs=1e-4)
    assert best(results, plan).choice == {"embedding_dim": 4}
    assert "| **4** | **0.6500 ± 0.0707** |" in markdown(results, plan)


@pytest.mark.parametrize("other", ["pruned", "diverged", "failed", None])
def test_a_combination_with_a_missing_seed_is_not_the_best(plan_of, other):
    plan = plan_of({"embedding_dim": [2, 4]}, seeds=2)
    trials = [trial(0, 2, 0.1), trial(1, 4, 0.3), trial(2, 4, 0.4, seed=2)]
    if other:
        trials.append(trial(3, 2, 0.1, state=other, seed=2))
    assert best(combinations(trials, plan), plan).choice == {"embedding_dim": 4}


def test_a_grid_is_listed_in_its_order_and_a_search_by_its_metrics(plan_of):
    trials = [trial(0, 8, 0.3), trial(1, 2, 0.2, state="pruned"), trial(2, 4, 0.1)]
    grid = plan_of({"embedding_dim": [2, 4, 8]})
    assert [one.choice["embedding_dim"] for one in combinations(trials, grid)] == [2, 4, 8]
    for one in trials:
        del one.choice["training.seed"]
    search = plan_of({"embedding_dim": [2, 4, 8]}, search="tpe")
    assert [one.choice["embedding_dim"] for one in combinations(trials, search)] == [4, 8, 2]


def test_a_retried_trial_replaces_the_failed_one_in_the_table(plan_of):
    plan = plan_of({"embedding_dim": [2, 4]})
    trials = [
        trial(0, 2, state="failed", tried_again=True),
        trial(1, 2, 0.3),
        trial(2, 4, state="failed", reason="workers lost"),
        trial(3, 4, state="waiting"),
        TrialResult(4, "failed", {}),  # killed before it had chosen values
    ]
    table = markdown(combinations(trials, plan), plan).splitlines()
    assert [line.split("|")[-2].strip() for line in table[2:]] == ["**1: complete**", "2: failed"]
    assert counts(trials) == {"complete": 1, "pruned": 0, "diverged": 0, "failed": 3}


def test_without_a_complete_trial_there_is_no_best(plan_of):
    plan = plan_of({"embedding_dim": [2]})
    results = combinations([trial(0, 2, 0.3, state="pruned")], plan)
    assert best(results, plan) is None
    assert best_summary(None, Path("best.yaml")) == {"best": None, "best_model": None}


def test_the_best_settings_are_a_model_yaml(plan_of, base, tmp_path):
    plan = plan_of({"deep.hidden_units": {"values": {"a\nb": [3, 2]}}})
    results = combinations([trial(0, "a\nb", 0.3, name="deep.hidden_units")], plan)
    (tmp_path / "best.yaml").write_text(best_yaml(best(results, plan), plan))
    settings = load_settings(tmp_path / "best.yaml", ModelSettings)
    assert settings == base.model_copy(update={"deep": base.deep.model_copy(update={"hidden_units": (3, 2)})})


def test_the_csv_has_one_row_per_trial_with_its_reason(plan_of):
    plan = plan_of({"embedding_dim": [2, 4]})
    trials = [trial(0, 2, 0.3), trial(1, 4, state="diverged", reason="the loss is nan, at step 3")]
    rows = list(csv.DictReader(io.StringIO(csv_text(trials, plan))))
    assert [(row["trial"], row["embedding_dim"], row["valid_logloss"]) for row in rows] == [
        ("0", "2", "0.3"),
        ("1", "4", ""),
    ]
    assert rows[1]["reason"] == "the loss is nan, at step 3"
