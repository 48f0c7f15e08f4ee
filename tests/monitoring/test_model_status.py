"""State of a registered model."""

from datetime import datetime, timedelta, timezone

import pytest

from deepfm.errors import UserError
from deepfm.monitoring.model_status import model_status
from deepfm.registry import promotion
from deepfm.registry.promotion import move_champion, rollback


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch):
    """Do not wait for competing claims."""
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)


@pytest.fixture
def model(store, request):
    """A model with the versions 1, without a run, and 2, with a run; named after the test."""
    name = request.node.name
    store.client.create_registered_model(name)
    store.client.create_model_version(name, source="file:///1")
    with store.run(name) as run:
        run.log_metrics({"best_test_auc": 0.75, "best_test_logloss": 0.5, "best_valid_auc": 0.7})
        manifest = '{"input": {"days": {"train": ["2026-01-01", "2026-01-05"]}}}'
        run.log_text(manifest, "dataset_manifest.json")
    store.client.create_model_version(name, source="file:///2", run_id=run.run_id)
    return name


def now():
    return datetime.now(timezone.utc)


def promote(store, name, version):
    expected = promotion.champion_version(store, name)
    move_champion(store, name, version, "promote", ("better",), expected=expected)


def test_an_unknown_model_is_an_error_of_the_user(store):
    with pytest.raises(UserError, match="no model nothing at .*train one with train.py"):
        model_status(store, "nothing", now=now())


def test_a_model_without_a_champion_has_none(store, model):
    status = model_status(store, model, now=now())
    assert (status.champion, status.champion_since, status.previous) == (None, None, None)


def test_the_champion_has_the_days_and_test_metrics_of_its_run(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    status = model_status(store, model, now=now() + timedelta(days=3))
    assert (status.champion.version, status.previous.version) == ("2", "1")
    assert status.champion.train_days == ("2026-01-01", "2026-01-05")
    assert status.champion.test_metrics == {"auc": 0.75, "logloss": 0.5}
    assert status.champion.age_days == 3.0
    assert status.champion_since == promotion.history(store, model)[-1].at


def test_a_version_without_a_run_has_no_days_and_no_metrics(store, model):
    promote(store, model, "1")
    champion = model_status(store, model, now=now()).champion
    assert (champion.train_days, champion.test_metrics, champion.gate) == (None, {}, None)


def test_a_champion_that_was_rolled_back_to_is_champion_since_the_rollback(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    change = rollback(store, model)
    status = model_status(store, model, now=now())
    assert (status.champion.version, status.champion_since) == ("1", change.at)


def test_a_champion_whose_alias_was_moved_by_hand_has_no_known_start(store, model):
    promote(store, model, "1")
    store.client.set_registered_model_alias(model, "champion", "2")
    assert model_status(store, model, now=now()).champion_since is None


def test_a_candidate_has_the_last_verdict_of_the_gate(store, model):
    store.client.set_registered_model_alias(model, "candidate", "2")
    version = store.resolve(f"models:/{model}/2")
    store.log_verdict(version, {"promoted": False, "reasons": ["FAILED: AUC 0.5"]})
    candidate = model_status(store, model, now=now()).candidate
    assert (candidate.gate, candidate.gate_reasons) == ("refused", "FAILED: AUC 0.5")
