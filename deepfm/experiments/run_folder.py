"""The folder that a run shares with its workers: what its training began with, and what it came to."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from deepfm import storage
from deepfm.dataset.manifest import Manifest
from deepfm.errors import NotRegisteredError, UserError, WorkersLostError
from deepfm.experiments.warm_start import Start
from deepfm.lock import exclusive_lock, lock_file
from deepfm.settings.model import ModelSettings
from deepfm.tracking.errors import FAILURES, reason_of
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.tracking.uri import TrackingUnavailableError
from deepfm.training.checkpoint import is_checkpoint
from deepfm.training.loop import NotFiniteError
from deepfm.training.result import TrainingResult, result_from_json, result_to_json

logger = logging.getLogger(__name__)

_BEGUN_WITH, _OUTCOME = "resume_spec.json", "outcome.json"


@contextmanager
def run_with_folder(
    store: MlflowStore, experiment: str, run_name: str, work_url: str, resumed_run: str | None
) -> Iterator[tuple[Run, str]]:
    """A new run, or one that was cut off, and its folder.

    The folder stays where the block fails and the training can go on, or is over; not after a mistake that
    comes before the first checkpoint of a new run, nor after a loss that is no number, to which the same
    training would come again. NotRegisteredError where the store is away when the model is trained. UserError
    where another process has the run: the store would take one that was killed for one that still trains.
    """
    with ExitStack() as held:
        if resumed_run:
            # Before the run is opened, for whoever opens it also ends it.
            held.enter_context(_only_here(work_url, resumed_run))
            _require_unfinished(store, resumed_run, work_url)  # it may have been ended since it was asked
            run = held.enter_context(store.resumed(resumed_run, system_metrics=True))
        else:
            run = held.enter_context(store.run(experiment, name=run_name, system_metrics=True))
            held.enter_context(_only_here(work_url, run.run_id))
        run_url = f"{work_url}/{run.run_id}"
        storage.make_folder(run_url)
        try:
            yield run, run_url
        except (UserError, *FAILURES) as error:
            if load_result(run_url) is not None and isinstance(error, (TrackingUnavailableError, *FAILURES)):
                raise _not_registered(store, run_url, error) from error
            goes_on = not isinstance(error, NotFiniteError) and _has_checkpoint(run_url)
            if not (resumed_run or goes_on or load_result(run_url)):
                storage.remove(run_url)
            if goes_on and isinstance(error, UserError):
                told = (
                    f"{error}; its checkpoints are kept: with the same settings --resume {run.run_id} goes on"
                )
                raise type(error)(told) from error
            raise
        except WorkersLostError as error:
            told = f"{error}; the same command with --resume {run.run_id} goes on"
            raise WorkersLostError(told) from error
        except KeyboardInterrupt:
            logger.warning("the training was stopped; the same command with --resume %s goes on", run.run_id)
            raise


def _only_here(work_url: str, run_id: str) -> AbstractContextManager[None]:
    return exclusive_lock(lock_file(work_url, run_id), f"run {run_id}", "train anew")


def _has_checkpoint(run_url: str) -> bool:
    return any(is_checkpoint(child["name"]) for child in storage.children(run_url))


def _not_registered(store: MlflowStore, run_url: str, error: Exception) -> NotRegisteredError:
    reason = str(error).partition(";")[0] if isinstance(error, TrackingUnavailableError) else reason_of(error)
    reason = reason.removeprefix(f"{store.uri}: ")
    return NotRegisteredError(
        f"the model is trained, but {store.uri} did not register it: {reason}; it is kept: the same command "
        f"with --register-only {run_url} does it later"
    )


# --- what a training began with


def resume_spec(
    settings: ModelSettings,
    manifest: Manifest,
    num_workers: int,
    init_from: str | None = None,
    warm_start: str | None = None,
) -> dict:
    """All that decides what a training comes to, as JSON.

    What it starts from goes by the words it was given in: an alias may name another version by the time the
    run is taken up, which goes on from the weights in its folder all the same.
    """
    start = {"--init-from": init_from, "--warm-start": warm_start}
    shape = {"dataset": manifest.digest, "--num-workers": num_workers, **start}
    return {**shape, **settings.model_dump(mode="json")}


def begin(run: Run, run_url: str, begun: dict, start: Start | None) -> None:
    """Leave in a new run's folder what its training begins with."""
    if start:
        start.hand_over(run, run_url)
    # Last: a folder without it has not all that there is to take up.
    storage.write_json(f"{run_url}/{_BEGUN_WITH}", begun)


def require_resumable(store: MlflowStore, run_id: str, work_url: str, begun: dict) -> None:
    """UserError where the run is not there, is finished, or began with something else than is given now."""
    _require_unfinished(store, run_id, work_url)
    where = f"{work_url}/{run_id}/{_BEGUN_WITH}"
    if not storage.exists(where):
        raise UserError(
            f"--resume {run_id}: expected {where}, which says what the run began with, found none: it was "
            "cut off before it had anything to go on from; train anew"
        )
    before = storage.read_json(where)
    for key, now in begun.items():
        if before.get(key) != now:
            raise UserError(
                f"{where}: expected {key} {before.get(key)}, with which the run began, found {now}; give "
                "what the run was begun with, or train anew"
            )


def _require_unfinished(store: MlflowStore, run_id: str, work_url: str) -> None:
    run = store.find_run(run_id)
    if run is None:
        found = "none of that id"
    elif run.info.status == "FINISHED":
        found = "one that is finished"
    elif not storage.exists(f"{work_url}/{run_id}"):
        found = "one without"
    else:
        return
    raise UserError(
        f"--resume {run_id}: expected a run that was cut off, with its folder in {work_url}, found {found}; "
        "give the id that the job's error named, or train anew"
    )


# --- what it came to


def save_result(run_url: str, result: TrainingResult) -> None:
    """Beside the trained weights, until they are registered."""
    storage.write_bytes(f"{run_url}/{_OUTCOME}", result_to_json(result).encode())


def load_result(run_url: str) -> TrainingResult | None:
    """What a training of this run came to; None where it has not ended."""
    where = f"{run_url}/{_OUTCOME}"
    return result_from_json(storage.read_bytes(where).decode()) if storage.exists(where) else None


def run_to_register(folder: str, work_url: str) -> str:
    """The run whose folder it is; UserError where no finished training lies there."""
    run_url = storage.absolute_url(folder)
    if run_url.rpartition("/")[0] != work_url or load_result(run_url) is None:
        raise UserError(
            f"--register-only {folder}: expected the folder in {work_url} of a run that was trained and not "
            "registered, found none; give the one that the job's error named"
        )
    return run_url.rpartition("/")[2]
