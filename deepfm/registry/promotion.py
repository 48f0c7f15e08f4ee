"""Champion alias of a registered model: promotion, history and rollback."""

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from deepfm.errors import JobFailedError, UserError
from deepfm.tracking.entities import MlflowException, ModelVersion, RegisteredModel
from deepfm.tracking.errors import to_job_error
from deepfm.tracking.store import MlflowStore

#: Aliases of the version that scores new days, of its predecessor, and of the version trained last.
CHAMPION, PREVIOUS, CANDIDATE = "champion", "previous", "candidate"
#: The history is stored in tags of the registered model: promotion.00001.CLAIM, each an AliasChange as JSON.
_TAG_PREFIX = "promotion."
_TAG_PATTERN = re.compile(r"promotion\.\d{5,}\.[0-9a-f]{32}")
#: Seconds, longer than it takes to read the history and write a claim.
_SETTLE_S = 2.0


@dataclass(frozen=True)
class AliasChange:
    """One change of the champion alias."""

    number: int
    at: str
    version: str
    previous_version: str | None
    kind: str  # promote or rollback
    reasons: tuple[str, ...]


def champion_version(store: MlflowStore, name: str) -> str | None:
    """Return the current champion, None if there is none; raise UserError if the model does not exist."""
    # Not get_model_version_by_alias: an error of an unreachable store would read as "there is no champion".
    version = registered_model(store, name).aliases.get(CHAMPION)
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
    """Make `version` champion and record the change in the history.

    `expected`: champion at the time of the decision; `previous`: version that the next rollback would
    restore, by default the current champion. Raise JobFailedError if the champion has changed since, or if
    a concurrent change won: of two concurrent changes exactly one wins.
    """
    claim = uuid.uuid4().hex
    current = champion_version(store, name)
    if current != expected:
        raise JobFailedError(
            f"{name}: the champion is version {current or 'none'}, it was {expected or 'none'} when this "
            "change was decided; check --history, then run again"
        )
    changes = _settled_history(store, name)
    change = AliasChange(
        number=changes[-1].number + 1 if changes else 1,
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=version,
        previous_version=current,
        kind=kind,
        reasons=reasons,
    )
    # A registry has no compare-and-set. Each process claims a number, then waits until every process that
    # could have read the same history has claimed it too; then all see the same claims: the smallest wins.
    key = f"{_TAG_PREFIX}{change.number:05d}"
    # The history first: a change that was recorded but not made is one whose version is not champion.
    store.client.set_registered_model_tag(name, f"{key}.{claim}", json.dumps(asdict(change)))
    time.sleep(_SETTLE_S)
    claims = sorted(tag for tag in registered_model(store, name).tags if tag.startswith(f"{key}."))
    # Another claim is smaller, or another change was made before this claim was written.
    if claims[0] != f"{key}.{claim}" or champion_version(store, name) != current:
        store.client.delete_registered_model_tag(name, f"{key}.{claim}")
        raise JobFailedError(
            f"{name}: a concurrent change of the champion won; check --history, then run again"
        )
    store.client.set_registered_model_alias(name, CHAMPION, version)
    _set_previous(store, name, previous if kind == "rollback" else current)
    return change


def _settled_history(store: MlflowStore, name: str) -> list[AliasChange]:
    """Return the history once no change is in progress: a later change must not take the next number."""
    changes = history(store, name)
    while changes and changes[-1].version != champion_version(store, name):
        before = changes
        time.sleep(2 * _SETTLE_S)
        changes = history(store, name)
        if changes == before:
            break  # the last change was killed, or the alias was moved by hand
    return changes


def _set_previous(store: MlflowStore, name: str, version: str | None) -> None:
    if version is not None:
        store.client.set_registered_model_alias(name, PREVIOUS, version)
    elif PREVIOUS in registered_model(store, name).aliases:
        store.client.delete_registered_model_alias(name, PREVIOUS)


def candidate_version(store: MlflowStore, name: str) -> ModelVersion:
    """Return the candidate, the version that was trained last."""
    version = registered_model(store, name).aliases.get(CANDIDATE)
    return store.latest(name) if version is None else store.resolve(f"models:/{name}/{version}")


def history(store: MlflowStore, name: str) -> list[AliasChange]:
    """Return all changes of the alias, oldest first; raise UserError if the model does not exist."""
    tags = registered_model(store, name).tags
    # Users may add tags with the same prefix.
    recorded = [json.loads(value) for key, value in sorted(tags.items()) if _TAG_PATTERN.fullmatch(key)]
    return [AliasChange(**{**change, "reasons": tuple(change["reasons"])}) for change in recorded]


def registered_model(store: MlflowStore, name: str) -> RegisteredModel:
    """Return the registered model with its aliases and tags; raise UserError if it does not exist."""
    try:
        return store.client.get_registered_model(name)
    except MlflowException as error:
        if to_job_error(error):
            raise
        raise UserError(
            f"no model {name} at {store.uri} ({error.message}); train one with train.py --name {name}"
        ) from error


def rollback(store: MlflowStore, name: str) -> AliasChange:
    """Restore the previous champion; repeated calls go further back."""
    champions = _past_champions(history(store, name), champion_version(store, name))
    if len(champions) < 2:
        raise UserError(
            f"{name}: there is no earlier champion to restore; see promote.py --name {name} --history"
        )
    store.resolve(f"models:/{name}/{champions[-2]}")  # raises UserError if it was deleted
    reason = f"version {champions[-1]} was rolled back"
    return move_champion(
        store,
        name,
        champions[-2],
        "rollback",
        (reason,),
        expected=champions[-1],
        previous=champions[-3] if len(champions) > 2 else None,
    )


def _past_champions(changes: Sequence[AliasChange], champion: str | None) -> list[str]:
    """Return the champions that a rollback can restore, followed by the current one.

    A recorded change may not have been made, and the alias may have been moved by hand: the champion that a
    change replaced is what counts.
    """
    champions: list[str] = []

    def unwind_to(version: str | None) -> None:
        if version in champions:
            while champions[-1] != version:
                champions.pop()
        elif version is not None:
            champions.append(version)

    for change in changes:
        unwind_to(change.previous_version)
        if change.kind == "rollback":
            champions.pop()
        else:
            champions.append(change.version)
    unwind_to(champion)
    return champions if champion is not None else []


def format_change(change: AliasChange) -> str:
    """Format a change as one line of text."""
    return (
        f"{change.at}  {change.kind:<8}  version {change.version} after {change.previous_version or 'none'}: "
        f"{'; '.join(change.reasons)}"
    )
