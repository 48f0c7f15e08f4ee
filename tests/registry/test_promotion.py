"""The gate, the champion's history and the way back."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from deepfm.config import PromotionLimits
from deepfm.errors import UserError
from deepfm.registry.promotion import champion_version, decide, history, move_champion, rollback, told
from deepfm.training.metrics import Metrics

CHAMPION = Metrics(num_rows=1000, logloss=0.45, auc=0.80, ctr=0.25, mean_probability=0.25, ece=0.0)
LIMITS = PromotionLimits(
    max_logloss_increase=0.001, max_auc_decrease=0.002, min_calibration=0.9, max_calibration=1.1
)


@pytest.fixture
def model(store, request):
    """A registered model with three versions, of this test's name."""
    name = request.node.name
    store.client.create_registered_model(name)
    for version in ("1", "2", "3"):
        store.client.create_model_version(name, source=f"file:///{version}")
    return name


def promote(store, name, version):
    return move_champion(store, name, version, "promote", ("better",))


# --- the gate


def test_the_first_candidate_is_promoted():
    verdict = decide(replace(CHAMPION, auc=0.1), None, LIMITS)
    assert verdict.promoted
    assert verdict.reasons == (
        "there is no champion yet",
        "logloss 0.45000, AUC 0.10000, calibration 1.000",
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"logloss": 0.40, "auc": 0.85},
        {"logloss": 0.4509},
        {"auc": 0.7981},
        {"mean_probability": 0.23},
        {"mean_probability": 0.27},
    ],
)
def test_candidate_within_the_limits_is_promoted(change):
    verdict = decide(replace(CHAMPION, **change), CHAMPION, LIMITS)
    assert verdict.promoted
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"logloss": 0.4511}, "FAILED: logloss 0.45110, the champion's 0.45000, may be 0.001 more"),
        ({"auc": 0.7979}, "FAILED: AUC 0.79790, the champion's 0.80000, may be 0.002 less"),
        ({"mean_probability": 0.22}, "FAILED: calibration 0.880, must be 0.9 to 1.1"),
        ({"mean_probability": 0.28}, "FAILED: calibration 1.120, must be 0.9 to 1.1"),
        ({"auc": 0.9, "logloss": 0.46}, "FAILED: logloss 0.46000, the champion's 0.45000, may be 0.001 more"),
    ],
)
def test_worse_candidate_is_not_promoted(change, failed):
    verdict = decide(replace(CHAMPION, **change), CHAMPION, LIMITS)
    assert not verdict.promoted
    assert [reason for reason in verdict.reasons if reason.startswith("FAILED")] == [failed]


@pytest.mark.parametrize("key", ["logloss", "auc", "mean_probability"])
def test_nan_never_passes(key):
    assert not decide(replace(CHAMPION, **{key: float("nan")}), CHAMPION, LIMITS).promoted


def test_a_day_without_clicks_never_passes():
    silent = replace(CHAMPION, ctr=0.0, auc=float("nan"))
    assert not decide(silent, silent, LIMITS).promoted


# --- the alias


def test_a_model_has_no_champion_at_first(store, model):
    assert champion_version(store, model) is None
    assert history(store, model) == []


def test_promotion_moves_the_alias(store, model):
    promote(store, model, "2")
    assert champion_version(store, model) == "2"
    assert store.resolve(f"models:/{model}@champion").version == 2


def test_history_tells_every_move_in_order(store, model):
    for version in ("1", "3", "2"):
        promote(store, model, version)
    moves = history(store, model)
    assert [(move.number, move.version, move.previous_version) for move in moves] == [
        (1, "1", None),
        (2, "3", "1"),
        (3, "2", "3"),
    ]
    assert told(moves[1]).endswith("promote   version 3 after 1: better")


def test_history_of_more_than_nine_moves_stays_in_order(store, model):
    for number in range(11):
        promote(store, model, "12"[number % 2])
    assert [move.number for move in history(store, model)] == list(range(1, 12))


def test_rollback_returns_to_the_champion_before(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    move = rollback(store, model)
    assert champion_version(store, model) == "1"
    assert (move.kind, move.version, move.previous_version) == ("rollback", "1", "2")
    assert move.reasons == ("version 2 was taken back",)


def test_rollback_repeated_goes_further_back(store, model):
    for version in ("1", "2", "3"):
        promote(store, model, version)
    rollback(store, model)
    rollback(store, model)
    assert champion_version(store, model) == "1"
    with pytest.raises(UserError, match="there is no earlier champion"):
        rollback(store, model)


def test_rollback_after_a_new_promotion_forgets_what_was_taken_back(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    rollback(store, model)
    promote(store, model, "3")
    rollback(store, model)
    assert champion_version(store, model) == "1"


def test_rollback_without_an_earlier_champion_moves_nothing(store, model):
    promote(store, model, "1")
    with pytest.raises(UserError, match="there is no earlier champion"):
        rollback(store, model)
    assert champion_version(store, model) == "1"
    assert len(history(store, model)) == 1


def test_rollback_to_a_deleted_version_moves_nothing(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    store.client.delete_model_version(model, "1")
    with pytest.raises(UserError, match=f"models:/{model}/1"):
        rollback(store, model)
    assert champion_version(store, model) == "2"
    assert len(history(store, model)) == 2


@pytest.mark.parametrize("question", [champion_version, history, rollback])
def test_an_unknown_model_is_told(store, question):
    with pytest.raises(UserError, match="no model nobody at "):
        question(store, "nobody")


def test_a_store_that_is_away_is_not_one_without_a_champion():
    """Else an outage would open the gate: the first candidate is promoted unseen."""

    class Away:
        def get_registered_model(self, name):
            raise MlflowException("connection refused")

        get_model_version_by_alias = get_registered_model

    away = SimpleNamespace(client=Away(), uri="http://store")
    with pytest.raises(UserError, match="connection refused"):
        champion_version(away, "ctr")
