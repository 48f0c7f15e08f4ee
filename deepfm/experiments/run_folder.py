"""Folder of a run, shared with its workers: resume specification, checkpoints and result."""

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from deepfm import storage
from deepfm.dataset.manifest import Manifest
from deepfm.errors import JobFailedError, NotRegisteredError, UserError, WorkersLostError
from deepfm.experiments.warm_start import Start
from deepfm.ownership import Ownership, exclusive_ownership
from deepfm.settings.loader import with_current_names
from deepfm.settings.model import ModelSettings
from deepfm.tracking.errors import FAILURES, failure_reason
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.tracking.uri import TrackingUnavailableError
from deepfm.training.checkpoint import is_checkpoint
from deepfm.training.epoch import NotFiniteError
from deepfm.training.result import TrainingResult, result_from_json, result_to_json

logger = logging.getLogger(__name__)

_NUM_WORKERS = "--num-workers"
_RESUMED_NUM_WORKERS = "resumed_num_workers"
_RESUME_SPEC, _RESULT = "resume_spec.json", "result.json"
#: Names of these files in folders that an earlier version wrote.
_FORMER_NAMES = {_RESUME_SPEC: "begun_with.json", _RESULT: "outcome.json"}


@contextmanager
def run_with_folder(
    store: MlflowStore, experiment: str, run_name: str, work_url: str, resumed_run: str | None
) -> Iterator[tuple[Run, str, Ownership]]:
    """Open a new run, or an interrupted one, and its folder; yields both and their ownership.

    If the block fails, the folder is kept if the training can be resumed or is finished. It is removed after
    an error before the first checkpoint of a new run, and after a NaN loss, which the same training would
    reach again.

    Raises NotRegisteredError if MLflow is unreachable once the model is trained, and JobFailedError if
    another process uses the run: MLflow does not distinguish a killed run from one that still trains.
    """
    with ExitStack() as stack:
        if resumed_run:
            # Owned before the run is opened, because closing it changes its status.
            ownership = stack.enter_context(_exclusive_run(work_url, resumed_run))
            _require_unfinished(store, resumed_run, work_url)  # may have ended since the first check
            run = stack.enter_context(store.resumed(resumed_run, system_metrics=True))
        else:
            run = stack.enter_context(store.run(experiment, name=run_name, system_metrics=True))
            ownership = stack.enter_context(_exclusive_run(work_url, run.run_id))
        run_url = f"{work_url}/{run.run_id}"
        storage.make_folder(run_url)
        try:
            yield run, run_url, ownership
        except WorkersLostError as error:
            remedy = f"resume with the same command and --resume {run.run_id}"
            raise WorkersLostError(f"{error}; {remedy}") from error
        except (UserError, JobFailedError, *FAILURES) as error:
            if load_result(run_url) is not None and isinstance(error, (TrackingUnavailableError, *FAILURES)):
                raise _not_registered(store, run_url, error) from error
            is_resumable = not isinstance(error, NotFiniteError) and _has_checkpoint(run_url)
            if not (resumed_run or is_resumable or load_result(run_url) or ownership.is_lost()):
                storage.remove(run_url)
            if is_resumable and isinstance(error, (UserError, JobFailedError)):
                remedy = f"its checkpoints are kept; resume with the same command and --resume {run.run_id}"
                raise type(error)(f"{error}; {remedy}") from error
            raise
        except KeyboardInterrupt:
            logger.warning(
                "the training was stopped; resume with the same command and --resume %s", run.run_id
            )
            raise


def _exclusive_run(work_url: str, run_id: str) -> AbstractContextManager[Ownership]:
    return exclusive_ownership(work_url, run_id, f"run {run_id}", "start a new training")


def is_resumable_folder(run_url: str) -> bool:
    """Whether a run's folder has a checkpoint, or the weights of a finished but unregistered training."""
    return _has_checkpoint(run_url) or storage.exists(_existing_url(run_url, _RESULT))


def _has_checkpoint(run_url: str) -> bool:
    return any(is_checkpoint(child["name"]) for child in storage.children(run_url))


def _not_registered(store: MlflowStore, run_url: str, error: Exception) -> NotRegisteredError:
    reason = (
        str(error).partition(";")[0] if isinstance(error, TrackingUnavailableError) else failure_reason(error)
    )
    reason = reason.removeprefix(f"{store.uri}: ")
    return NotRegisteredError(
        f"the model is trained, but {store.uri} did not register it: {reason}; the weights are kept: "
        f"register them with the same command and --register-only {run_url}"
    )


# --- resume specification


def resume_spec(
    settings: ModelSettings,
    manifest: Manifest,
    num_workers: int,
    init_from: str | None = None,
    warm_start: str | None = None,
) -> dict:
    """Everything that determines the result of a training, as JSON values.

    The model to start from is recorded as given: an alias may point to another version when the run is
    resumed, but the run then continues from the weights in its folder.
    """
    start = {"--init-from": init_from, "--warm-start": warm_start}
    shape = {"dataset": manifest.digest, _NUM_WORKERS: num_workers, **start}
    return {**shape, **settings.model_dump(mode="json")}


def start_run(run: Run, run_url: str, spec: dict, start: Start | None) -> None:
    """Write the weights to start from and the resume specification to the folder of a new run."""
    if start:
        start.save(run, run_url)
    # Written last: without it the folder is incomplete.
    storage.write_json(f"{run_url}/{_RESUME_SPEC}", spec)


def require_resumable(store: MlflowStore, run_id: str, work_url: str, spec: dict) -> None:
    """Raise UserError if the run does not exist, is finished, or was started with other settings.

    The number of workers may differ.
    """
    _require_unfinished(store, run_id, work_url)
    run_url = f"{work_url}/{run_id}"
    where = _existing_url(run_url, _RESUME_SPEC)
    if not storage.exists(where):
        raise UserError(
            f"--resume {run_id}: expected {where}, found none: the run was interrupted before it could be "
            "resumed; start a new training"
        )
    if where.endswith(_FORMER_NAMES[_RESUME_SPEC]) and load_result(run_url) is None:
        raise UserError(
            f"--resume {run_id}: the run was started by an earlier version, whose checkpoints this version "
            "cannot read; finish it with that version, or start a new training"
        )
    original = with_current_names(storage.read_json(where))
    for key, value in spec.items():
        if key != _NUM_WORKERS and original.get(key) != value:
            raise UserError(
                f"{where}: expected {key} {original.get(key)} of the original run, found {value}; "
                "use the original settings, or start a new training"
            )


def log_num_workers(run: Run, run_url: str, num_workers: int) -> None:
    """Log that another number of workers than the original one resumes a run.

    Its parameter in MLflow cannot be changed, so the new number becomes a tag.
    """
    original = storage.read_json(_existing_url(run_url, _RESUME_SPEC))[_NUM_WORKERS]
    is_original = max(original, 1) == max(num_workers, 1)
    if not is_original or run.has_tag(_RESUMED_NUM_WORKERS):
        run.set_tag(_RESUMED_NUM_WORKERS, str(num_workers))
    if is_original:
        return
    logger.warning(
        "resuming with another number of workers: num_workers=%d original_num_workers=%d; the rows of a step "
        "are now %d x batch_size, so the weights differ from those of an uninterrupted training",
        num_workers,
        original,
        max(num_workers, 1),
    )


def _require_unfinished(store: MlflowStore, run_id: str, work_url: str) -> None:
    run = store.find_run(run_id)
    if run is None:
        found = "no run with this id"
    elif run.info.lifecycle_stage != "active":
        found = f"a deleted run, which `mlflow runs restore --run-id {run_id}` restores"
    elif run.info.status == "FINISHED":
        found = "a finished run"
    elif not storage.exists(f"{work_url}/{run_id}"):
        found = "a run without a folder"
    else:
        return
    raise UserError(
        f"--resume {run_id}: expected an interrupted run with its folder in {work_url}, found {found}; "
        "use the id that the error of the job named, or start a new training"
    )


# --- result


def save_result(run_url: str, result: TrainingResult) -> None:
    """Save the result next to the trained weights, until they are registered."""
    storage.write_bytes(f"{run_url}/{_RESULT}", result_to_json(result).encode())


def load_result(run_url: str) -> TrainingResult | None:
    """Load the result of the training of this run; None if it has not finished."""
    where = _existing_url(run_url, _RESULT)
    if not storage.exists(where):
        return None
    document = storage.read_json(where)
    if "training" in document:  # former key
        document["history"] = document.pop("training")
    return result_from_json(json.dumps(document))


def _existing_url(run_url: str, name: str) -> str:
    """URL of a file in a run folder, under its former name if an earlier version wrote the folder."""
    former = f"{run_url}/{_FORMER_NAMES[name]}"
    return former if storage.exists(former) else f"{run_url}/{name}"


def run_to_register(folder: str, work_url: str) -> str:
    """Return the id of the run in `folder`; UserError unless it contains a finished training."""
    run_url = storage.absolute_url(folder)
    if run_url.rpartition("/")[0] != work_url or load_result(run_url) is None:
        raise UserError(
            f"--register-only {folder}: expected the folder in {work_url} of a trained, unregistered run, "
            "found none; use the folder that the error of the job named"
        )
    return run_url.rpartition("/")[2]
