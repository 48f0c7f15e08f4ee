"""Which version is champion: the move of the alias, its history and the way back."""

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from deepfm.errors import UserError
from deepfm.tracking.entities import MlflowException, ModelVersion, RegisteredModel
from deepfm.tracking.errors import as_told
from deepfm.tracking.store import MlflowStore

#: What scores the nights; what did before it; what was trained last.
CHAMPION, PREVIOUS, CANDIDATE = "champion", "previous", "candidate"
#: The history is kept as tags of the registered model: promotion.00001.CLAIM, …, each a Move as JSON.
_TAG = "promotion."
_OF_A_MOVE = re.compile(r"promotion\.\d{5,}\.[0-9a-f]{32}")
#: Longer than it takes to read the history and write a claim.
_SETTLE_S = 2.0


@dataclass(frozen=True)
class AliasChange:
    """One move of the champion alias."""

    number: int
    at: str
    version: str
    previous_version: str | None
    kind: str  # promote or rollback
    reasons: tuple[str, ...]


def champion_version(store: MlflowStore, name: str) -> str | None:
    """The version that is champion now; UserError where there is no such model."""
    # Not by asking for the alias: the error of a store that is away would read as "there is no champion".
    version = _registered(store, name).aliases.get(CHAMPION)
    return None if version is None else str(version)


def move_champion(
    store: MlflowStore,
    name: str,
    version: str,
    kind: str,
    reasons: tuple[str, ...],
    *,
    expected: str | None,
    previous: str | None = None,
) -> AliasChange:
    """Make `version` champion and write it into the history.

    `expected`: the champion that the decision was about; `previous`: the version that a rollback would go
    to, the present champion where it is None. UserError where the champion has moved since, or another move
    was begun at the same time and won: of two exactly one does.
    """
    claim = uuid.uuid4().hex
    present = champion_version(store, name)
    if present != expected:
        raise UserError(
            f"{name}: the champion is version {present or 'none'}, it was {expected or 'none'} when this "
            "move was decided; look at --history, then run again"
        )
    moves = _settled_history(store, name)
    move = AliasChange(
        number=moves[-1].number + 1 if moves else 1,
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=version,
        previous_version=present,
        kind=kind,
        reasons=reasons,
    )
    # A registry has no compare-and-set. Who claims a number waits until every other that could have read the
    # history as it was has claimed it too; then all see the same claims, and the least wins.
    key = f"{_TAG}{move.number:05d}"
    # The history first: a move that is written but not done shows as one whose version is not champion.
    store.client.set_registered_model_tag(name, f"{key}.{claim}", json.dumps(asdict(move)))
    time.sleep(_SETTLE_S)
    claims = sorted(tag for tag in _registered(store, name).tags if tag.startswith(f"{key}."))
    # Another one's claim that came first, or one that won before this one was written.
    if claims[0] != f"{key}.{claim}" or champion_version(store, name) != present:
        store.client.delete_registered_model_tag(name, f"{key}.{claim}")
        raise UserError(
            f"{name}: another move was made at the same time and won; look at --history, then run again"
        )
    store.client.set_registered_model_alias(name, CHAMPION, version)
    _set_previous(store, name, previous if kind == "rollback" else present)
    return move


def _settled_history(store: MlflowStore, name: str) -> list[AliasChange]:
    """The moves, of which none is on its way: behind one that is, another would take the next number."""
    moves = history(store, name)
    while moves and moves[-1].version != champion_version(store, name):
        before = moves
        time.sleep(2 * _SETTLE_S)
        moves = history(store, name)
        if moves == before:
            break  # of one that was killed, or the champion was moved by other hands
    return moves


def _set_previous(store: MlflowStore, name: str, version: str | None) -> None:
    if version is not None:
        store.client.set_registered_model_alias(name, PREVIOUS, version)
    elif PREVIOUS in _registered(store, name).aliases:
        store.client.delete_registered_model_alias(name, PREVIOUS)


def candidate_version(store: MlflowStore, name: str) -> ModelVersion:
    """The version that was trained last, and waits for the gate."""
    version = _registered(store, name).aliases.get(CANDIDATE)
    return store.latest(name) if version is None else store.resolve(f"models:/{name}/{version}")


def history(store: MlflowStore, name: str) -> list[AliasChange]:
    """All moves of the alias, oldest first; UserError where there is no such model."""
    tags = _registered(store, name).tags
    # Other tags may begin alike: people write notes.
    found = [json.loads(value) for key, value in sorted(tags.items()) if _OF_A_MOVE.fullmatch(key)]
    return [AliasChange(**{**move, "reasons": tuple(move["reasons"])}) for move in found]


def _registered(store: MlflowStore, name: str) -> RegisteredModel:
    try:
        return store.client.get_registered_model(name)
    except MlflowException as error:
        if as_told(error):
            raise
        raise UserError(
            f"no model {name} at {store.uri} ({error.message}); train one with train.py --name {name}"
        ) from error


def rollback(store: MlflowStore, name: str) -> AliasChange:
    """Make the champion before the present one champion again; repeated, it goes further back."""
    standing = _standing(history(store, name), champion_version(store, name))
    if len(standing) < 2:
        raise UserError(
            f"{name}: there is no earlier champion to go back to; see promote.py --name {name} --history"
        )
    store.resolve(f"models:/{name}/{standing[-2]}")  # UserError where it was deleted since
    reason = f"version {standing[-1]} was taken back"
    return move_champion(
        store,
        name,
        standing[-2],
        "rollback",
        (reason,),
        expected=standing[-1],
        previous=standing[-3] if len(standing) > 2 else None,
    )


def _standing(moves: Sequence[AliasChange], champion: str | None) -> list[str]:
    """The champions that can be gone back to, the present one last.

    A move that is written may not have been made, and the alias may be moved by other hands: which champion
    a move found is what is true.
    """
    standing: list[str] = []

    def find(version: str | None) -> None:
        if version in standing:
            while standing[-1] != version:
                standing.pop()
        elif version is not None:
            standing.append(version)

    for move in moves:
        find(move.previous_version)
        if move.kind == "rollback":
            standing.pop()
        else:
            standing.append(move.version)
    find(champion)
    return standing if champion is not None else []


def format_change(move: AliasChange) -> str:
    """A move as a line for people."""
    return (
        f"{move.at}  {move.kind:<8}  version {move.version} after {move.previous_version or 'none'}: "
        f"{'; '.join(move.reasons)}"
    )
