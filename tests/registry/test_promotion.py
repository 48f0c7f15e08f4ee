"""The champion's alias, its history and the way back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from deepfm.errors import UserError
from deepfm.registry import promotion
from deepfm.registry.promotion import champion_version, format_change, history, move_champion, rollback


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Claims settle at once, where nobody else makes any."""
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)


@pytest.fixture
def model(store, request):
    """A registered model with three versions, of this test's name."""
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


def test_history_tells_every_move_in_order(store, model):
    for version in ("1", "3", "2"):
        promote(store, model, version)
    moves = history(store, model)
    assert [(move.number, move.version, move.previous_version) for move in moves] == [
        (1, "1", None),
        (2, "3", "1"),
        (3, "2", "3"),
    ]
    assert format_change(moves[1]).endswith("promote   version 3 after 1: better")


def test_a_tag_of_somebody_elses_is_no_move(store, model):
    store.client.set_registered_model_tag(model, "promotion.note", "ask before you promote")
    assert history(store, model) == []
    move_champion(store, model, "1", "promote", (), expected=None)
    assert [move.version for move in history(store, model)] == ["1"]


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


@pytest.fixture
def cut_off(store, model, monkeypatch):
    """cut_off(version): a promotion that is written into the history, and killed before the alias moves."""

    def promote_half(version):
        with monkeypatch.context() as patch:
            patch.setattr(
                store.client, "set_registered_model_alias", lambda *_: (_ for _ in ()).throw(OSError)
            )
            with pytest.raises(OSError):
                promote(store, model, version)

    return promote_half


def test_rollback_after_a_move_that_was_cut_off_and_made_again(store, model, cut_off):
    promote(store, model, "1")
    cut_off("2")
    promote(store, model, "2")
    assert rollback(store, model).version == champion_version(store, model) == "1"


def test_rollback_never_goes_to_what_was_not_champion(store, model, cut_off):
    promote(store, model, "1")
    cut_off("2")
    promote(store, model, "3")
    assert rollback(store, model).version == "1"


def test_rollback_right_after_a_move_that_was_cut_off(store, model, cut_off):
    promote(store, model, "1")
    promote(store, model, "2")
    cut_off("3")
    assert rollback(store, model).version == "1"


def test_rollback_where_a_version_was_champion_twice(store, model):
    for version in ("1", "2", "1"):
        promote(store, model, version)
    assert [rollback(store, model).version for _ in range(2)] == ["2", "1"]


def test_rollback_after_other_hands_moved_the_alias(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    store.client.set_registered_model_alias(model, "champion", "3")
    assert rollback(store, model).version == "2"
    assert rollback(store, model).version == "1"


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


def aliases(store, model):
    return {name: str(version) for name, version in store.client.get_registered_model(model).aliases.items()}


def test_previous_is_what_a_rollback_would_go_to(store, model):
    for version in ("1", "2", "3"):
        promote(store, model, version)
    assert aliases(store, model) == {"champion": "3", "previous": "2"}
    rollback(store, model)
    assert aliases(store, model) == {"champion": "2", "previous": "1"}
    rollback(store, model)
    assert aliases(store, model) == {"champion": "1"}


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(store, model, monkeypatch):
    monkeypatch.setattr(promotion, "_SETTLE_S", 1.5)

    def attempt(version):
        try:
            return move_champion(store, model, version, "promote", ("better",), expected=None)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(attempt, ("1", "2")))
    (won,) = [move for move in found if not isinstance(move, str)]
    (told_,) = [message for message in found if isinstance(message, str)]
    assert "another move was made at the same time and won" in told_
    assert champion_version(store, model) == won.version
    assert [move.version for move in history(store, model)] == [won.version]


def test_a_move_begun_behind_a_claim_waits_for_its_end(store, model, monkeypatch):
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
        with pytest.raises(UserError, match="another move was made at the same time and won"):
            promote(store, model, "2")
        first.result()
    assert champion_version(store, model) == "1"
    assert [move.version for move in history(store, model)] == ["1"]


def test_a_claim_that_was_left_behind_holds_nobody_up(store, model, monkeypatch):
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
    assert [move.version for move in history(store, model)] == ["1", "2"]


def test_a_move_that_is_written_late_does_not_win_over_one_that_ended(store, model, monkeypatch):
    claims = iter(["0" * 32, "f" * 32])  # of the late move, which is first by its claim, and of the other
    monkeypatch.setattr(promotion, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=next(claims))))
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)
    write = store.client.set_registered_model_tag

    def write_late(*tag):
        monkeypatch.setattr(store.client, "set_registered_model_tag", write)
        promote(store, model, "1")
        write(*tag)

    monkeypatch.setattr(store.client, "set_registered_model_tag", write_late)
    with pytest.raises(UserError, match="another move was made at the same time and won"):
        promote(store, model, "2")
    assert champion_version(store, model) == "1"
    assert [move.version for move in history(store, model)] == ["1"]


def test_a_champion_that_moved_since_the_decision_is_not_replaced(store, model):
    promote(store, model, "1")
    promote(store, model, "2")
    with pytest.raises(UserError, match="the champion is version 2, it was 1 when this move was decided"):
        move_champion(store, model, "3", "promote", ("better",), expected="1")
    assert champion_version(store, model) == "2"
