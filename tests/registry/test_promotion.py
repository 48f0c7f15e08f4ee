"""Promotion, history and rollback of the champion alias."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from deepfm.errors import JobFailedError, UserError
from deepfm.registry import promotion
from deepfm.registry.promotion import champion_version, format_change, history, move_champion, rollback


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch):
    """Do not wait for competing claims."""
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)


@pytest.fixture
def model(store, request):
    """A registered model with three versions, named after the test."""
    name = request.node.name
    store.client.create_registered_model(name)
    for version in ("1", "2", "3"):
        store.client.create_model_version(name, source=f"file:///{version}")
    return name


def promote(store, name, version):
    expected = champion_version(store, name)
    return move_champion(store, name, version, "promote", ("better",), expected=expected)


# --- the alias


def test_a_model_has_no_champion_at_first(store, model):
    assert champion_version(store, model) is None
    assert history(store, model) == []


def test_promotion_moves_the_alias(store, model):
    promote(store, model, "2")
    assert champion_version(store, model) == "2"
    assert store.resolve(f"models:/{model}@champion").version == 2


def test_history_lists_every_change_in_order(store, model):
    for version in ("1", "3", "2"):
        promote(store, model, version)
    changes = history(store, model)
    assert [(change.number, change.version, change.previous_version) for change in changes] == [
        (1, "1", None),
        (2, "3", "1"),
        (3, "2", "3"),
    ]
    assert format_change(changes[1]).endswith("promote   version 3 after 1: better")


def test_a_tag_of_a_user_is_not_a_change(store, model):
    store.client.set_registered_model_tag(model, "promotion.note", "ask before you promote")
    assert history(store, model) == []
    move_champion(store, model, "1", "promote", (), expected=None)
    assert [change.version for change in history(store, model)] == ["1"]


def test_history_of_more_than_nine_changes_stays_in_order(store, model):
    for number in range(11):
        promote(store, model, "12"[number % 2])
    assert [change.number for change in history(store, model)] == list(range(1, 12))


def test_rollback_restores_the_previous_champion(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    change = rollback(store, model)
    assert champion_version(store, model) == "1"
    assert (change.kind, change.version, change.previous_version) == ("rollback", "1", "2")
    assert change.reasons == ("version 2 was rolled back",)


def test_repeated_rollback_goes_further_back(store, model):
    for version in ("1", "2", "3"):
        promote(store, model, version)
    rollback(store, model)
    rollback(store, model)
    assert champion_version(store, model) == "1"
    with pytest.raises(UserError, match="there is no earlier champion"):
        rollback(store, model)


def test_rollback_after_a_new_promotion_skips_versions_that_were_rolled_back(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    rollback(store, model)
    promote(store, model, "3")
    rollback(store, model)
    assert champion_version(store, model) == "1"


@pytest.fixture
def interrupted_promotion(store, model, monkeypatch):
    """Record a promotion of a version in the history, and fail before the alias moves."""

    def promote_and_fail(version):
        with monkeypatch.context() as patch:
            patch.setattr(
                store.client, "set_registered_model_alias", lambda *_: (_ for _ in ()).throw(OSError)
            )
            with pytest.raises(OSError):  # noqa: PT011
                promote(store, model, version)

    return promote_and_fail


def test_rollback_after_an_interrupted_promotion_that_was_repeated(store, model, interrupted_promotion):
    promote(store, model, "1")
    interrupted_promotion("2")
    promote(store, model, "2")
    assert rollback(store, model).version == champion_version(store, model) == "1"


def test_rollback_never_restores_a_version_that_was_not_champion(store, model, interrupted_promotion):
    promote(store, model, "1")
    interrupted_promotion("2")
    promote(store, model, "3")
    assert rollback(store, model).version == "1"


def test_rollback_right_after_an_interrupted_promotion(store, model, interrupted_promotion):
    promote(store, model, "1")
    promote(store, model, "2")
    interrupted_promotion("3")
    assert rollback(store, model).version == "1"


def test_rollback_restores_a_version_that_was_champion_twice(store, model):
    for version in ("1", "2", "1"):
        promote(store, model, version)
    assert [rollback(store, model).version for _ in range(2)] == ["2", "1"]


def test_rollback_works_after_the_alias_was_moved_by_hand(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    store.client.set_registered_model_alias(model, "champion", "3")
    assert rollback(store, model).version == "2"
    assert rollback(store, model).version == "1"


def test_rollback_without_an_earlier_champion_changes_nothing(store, model):
    promote(store, model, "1")
    with pytest.raises(UserError, match="there is no earlier champion"):
        rollback(store, model)
    assert champion_version(store, model) == "1"
    assert len(history(store, model)) == 1


def test_rollback_to_a_deleted_version_changes_nothing(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    store.client.delete_model_version(model, "1")
    with pytest.raises(UserError, match=f"models:/{model}/1"):
        rollback(store, model)
    assert champion_version(store, model) == "2"
    assert len(history(store, model)) == 2


@pytest.mark.parametrize("query", [champion_version, history, rollback])
def test_an_unknown_model_is_reported(store, query):
    with pytest.raises(UserError, match="no model nobody at "):
        query(store, "nobody")


def test_an_unreachable_store_is_not_taken_for_one_without_a_champion():
    """Otherwise an outage would promote a candidate as if it were the first."""

    class UnreachableClient:
        def get_registered_model(self, name):
            raise MlflowException("connection refused")

        get_model_version_by_alias = get_registered_model

    unreachable = SimpleNamespace(client=UnreachableClient(), uri="http://store")
    with pytest.raises(UserError, match="connection refused"):
        champion_version(unreachable, "ctr")


def aliases(store, model):
    return {name: str(version) for name, version in store.client.get_registered_model(model).aliases.items()}


def test_previous_is_the_version_that_a_rollback_restores(store, model):
    for version in ("1", "2", "3"):
        promote(store, model, version)
    assert aliases(store, model) == {"champion": "3", "previous": "2"}
    rollback(store, model)
    assert aliases(store, model) == {"champion": "2", "previous": "1"}
    rollback(store, model)
    assert aliases(store, model) == {"champion": "1"}


def test_one_of_two_concurrent_promotions_wins_and_the_other_fails(store, model, monkeypatch):
    monkeypatch.setattr(promotion, "_SETTLE_S", 1.5)

    def attempt(version):
        try:
            return move_champion(store, model, version, "promote", ("better",), expected=None)
        except JobFailedError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, ("1", "2")))
    (won,) = [result for result in results if not isinstance(result, str)]
    (message,) = [result for result in results if isinstance(result, str)]
    assert "a concurrent change of the champion won" in message
    assert champion_version(store, model) == won.version
    assert [change.version for change in history(store, model)] == [won.version]


def test_a_change_waits_for_one_in_progress(store, model, monkeypatch):
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.5)
    claimed, set_tag = threading.Event(), store.client.set_registered_model_tag
    set_alias = store.client.set_registered_model_alias

    def claim(*tag):
        set_tag(*tag)
        claimed.set()

    def move_slowly(*alias):
        time.sleep(0.3)
        set_alias(*alias)

    monkeypatch.setattr(store.client, "set_registered_model_tag", claim)
    monkeypatch.setattr(store.client, "set_registered_model_alias", move_slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(promote, store, model, "1")
        claimed.wait()
        with pytest.raises(JobFailedError, match="a concurrent change of the champion won"):
            promote(store, model, "2")
        first.result()
    assert champion_version(store, model) == "1"
    assert [change.version for change in history(store, model)] == ["1"]


def test_a_claim_of_a_killed_process_does_not_block_others(store, model, monkeypatch):
    def killed(*alias):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_SETTLE_S", 0.0)
        patch.setattr(store.client, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(store, model, "1")
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)
    promote(store, model, "2")
    assert champion_version(store, model) == "2"
    assert [change.version for change in history(store, model)] == ["1", "2"]


def test_a_claim_that_is_written_late_does_not_win_over_a_finished_change(store, model, monkeypatch):
    claims = iter(["0" * 32, "f" * 32])  # of the late change, which has the smaller claim, and of the other
    monkeypatch.setattr(promotion, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=next(claims))))
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)
    write = store.client.set_registered_model_tag

    def write_late(*tag):
        monkeypatch.setattr(store.client, "set_registered_model_tag", write)
        promote(store, model, "1")
        write(*tag)

    monkeypatch.setattr(store.client, "set_registered_model_tag", write_late)
    with pytest.raises(JobFailedError, match="a concurrent change of the champion won"):
        promote(store, model, "2")
    assert champion_version(store, model) == "1"
    assert [change.version for change in history(store, model)] == ["1"]


def test_a_champion_that_changed_since_the_decision_is_not_replaced(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    with pytest.raises(
        JobFailedError, match="the champion is version 2, it was 1 when this change was decided"
    ):
        move_champion(store, model, "3", "promote", ("better",), expected="1")
    assert champion_version(store, model) == "2"
