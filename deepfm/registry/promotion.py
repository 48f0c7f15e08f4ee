"""Which version is champion: the gate, the move of the alias, its history and the way back."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from deepfm.config import PromotionLimits
from deepfm.errors import UserError
from deepfm.registry.tracking import Store
from deepfm.training.metrics import Metrics

CHAMPION = "champion"
#: The history is kept as tags of the registered model: promotion.00001, …, each a Move as JSON.
_TAG = "promotion."


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate becomes champion, and why."""

    promoted: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """One move of the champion alias."""

    number: int
    at: str
    version: str
    previous_version: str | None
    kind: str  # promote or rollback
    reasons: tuple[str, ...]


def decide(candidate: Metrics, champion: Metrics | None, limits: PromotionLimits) -> Verdict:
    """Compare both on the same rows: promoted without a champion, or where nothing is worse than allowed."""
    if champion is None:
        return Verdict(True, ("there is no champion yet", _described(candidate)))
    checks = [
        (
            candidate.logloss - champion.logloss <= limits.max_logloss_increase,
            f"logloss {candidate.logloss:.5f}, the champion's {champion.logloss:.5f}, "
            f"may be {limits.max_logloss_increase} more",
        ),
        (
            champion.auc - candidate.auc <= limits.max_auc_decrease,
            f"AUC {candidate.auc:.5f}, the champion's {champion.auc:.5f}, "
            f"may be {limits.max_auc_decrease} less",
        ),
        (
            limits.min_calibration <= candidate.calibration <= limits.max_calibration,
            f"calibration {candidate.calibration:.3f}, "
            f"must be {limits.min_calibration} to {limits.max_calibration}",
        ),
    ]
    # Written so that a nan, which compares false with everything, never passes.
    return Verdict(
        all(passed for passed, _ in checks),
        tuple(f"{'ok' if ok else 'FAILED'}: {text}" for ok, text in checks),
    )


def _described(metrics: Metrics) -> str:
    return f"logloss {metrics.logloss:.5f}, AUC {metrics.auc:.5f}, calibration {metrics.calibration:.3f}"


def champion_version(store: Store, name: str) -> str | None:
    """The version that is champion now; UserError where there is no such model."""
    # Not by asking for the alias: the error of a store that is away would read as "there is no champion".
    version = _registered(store, name).aliases.get(CHAMPION)
    return None if version is None else str(version)


def move_champion(store: Store, name: str, version: str, kind: str, reasons: tuple[str, ...]) -> Move:
    """Make `version` champion and write it into the history."""
    moves = history(store, name)
    move = Move(
        number=moves[-1].number + 1 if moves else 1,
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=version,
        previous_version=champion_version(store, name),
        kind=kind,
        reasons=reasons,
    )
    # The history first: a move that is written but not done shows as one whose version is not champion.
    store.client.set_registered_model_tag(name, f"{_TAG}{move.number:05d}", json.dumps(asdict(move)))
    store.client.set_registered_model_alias(name, CHAMPION, version)
    return move


def history(store: Store, name: str) -> list[Move]:
    """All moves of the alias, oldest first; UserError where there is no such model."""
    tags = _registered(store, name).tags
    found = [json.loads(value) for key, value in sorted(tags.items()) if key.startswith(_TAG)]
    return [Move(**{**move, "reasons": tuple(move["reasons"])}) for move in found]


def _registered(store: Store, name: str) -> RegisteredModel:
    try:
        return store.client.get_registered_model(name)
    except MlflowException as error:
        raise UserError(
            f"no model {name} at {store.uri} ({error.message}); train one with train.py --name {name}"
        ) from error


def rollback(store: Store, name: str) -> Move:
    """Make the champion before the present one champion again; repeated, it goes further back."""
    standing: list[str] = []
    for move in history(store, name):
        if move.kind == "rollback":
            standing.pop()
        else:
            standing.append(move.version)
    if len(standing) < 2:
        raise UserError(
            f"{name}: there is no earlier champion to go back to; see promote.py --name {name} --history"
        )
    store.resolve(f"models:/{name}/{standing[-2]}")  # UserError where it was deleted since
    reason = f"version {standing[-1]} was taken back"
    return move_champion(store, name, standing[-2], "rollback", (reason,))


def told(move: Move) -> str:
    """A move as a line for people."""
    return (
        f"{move.at}  {move.kind:<8}  version {move.version} after {move.previous_version or 'none'}: "
        f"{'; '.join(move.reasons)}"
    )
