"""Folders that can be removed: of ended runs, of killed scoring jobs, and datasets without a version."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from deepfm import storage
from deepfm.click_log.labels_and_days import is_day
from deepfm.dataset.build import OWNER
from deepfm.dataset.manifest import MANIFEST
from deepfm.errors import JobFailedError, UserError
from deepfm.experiments.run_folder import is_resumable_folder
from deepfm.ownership import exclusive_ownership
from deepfm.scoring.days import published_version
from deepfm.scoring.predict import SCORED
from deepfm.scoring.publishing.day_versions import ATTEMPTS, REPLACED
from deepfm.tracking.entities import MlflowRun
from deepfm.tracking.store import MlflowStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leftover:
    """A folder that can be removed, and why."""

    kind: str  # run, attempt or dataset
    url: str
    reason: str
    num_bytes: int
    owner: tuple[str, str]  # folder and label of the file of a process that uses it, see ownership


def find_run_folders(store: MlflowStore, work_url: str, *, before: datetime) -> Iterator[Leftover]:
    """Find folders of runs that are finished, deleted, or failed and cannot or will not be resumed.

    A failed run with a checkpoint or a result is kept if it ended after `before`. A run that MLflow calls
    RUNNING and one that this store does not know are always kept: it may train, or be tracked elsewhere.
    """
    for name in _folders(work_url):
        run = store.find_run(name) if name.isalnum() else None
        reason = _run_reason(run, f"{work_url}/{name}", before) if run else None
        if reason:
            yield _leftover("run", f"{work_url}/{name}", reason, (work_url, name))


def _run_reason(run: MlflowRun, url: str, before: datetime) -> str | None:
    """Return why the folder of a run can be removed; None if it must be kept."""
    status = run.info.status
    if status not in ("FINISHED", "FAILED", "KILLED"):
        return None
    if status == "FINISHED":
        return "the run is finished"
    if run.info.lifecycle_stage == "deleted":
        return "the run was deleted"
    ended = _end_of(run)
    text = f"the run is {status} since {ended.date()}"
    if not is_resumable_folder(url):
        return f"{text} and has no checkpoint"
    return text if ended < before else None


def find_attempts(scores_url: str) -> Iterator[Leftover]:
    """Find what killed scoring jobs left; one that holds a published day is kept for the next score.py."""
    attempts_url = f"{scores_url}/{ATTEMPTS}"
    for name in _folders(attempts_url):
        url = f"{attempts_url}/{name}"
        if not _holds_a_day(url):
            day = name.partition(".")[0]
            reason = "a scoring job was killed"
            if storage.is_object_store(url):
                reason = "it is not the published version of its day"
            yield _leftover("attempt", url, reason, (scores_url, day))


def _holds_a_day(attempt_url: str) -> bool:
    """Whether an attempt holds the version that was being replaced or, in an object store, is current."""
    scores_url, _, name = attempt_url.rpartition(f"/{ATTEMPTS}/")
    day = name.removeprefix("ds=").partition(".")[0]
    version = published_version(scores_url, day) if is_day(day) else None
    return version == f"{ATTEMPTS}/{name}/{SCORED}" or storage.exists(f"{attempt_url}/{REPLACED}")


def find_datasets(store: MlflowStore, folder_url: str, *, before: datetime) -> Iterator[Leftover]:
    """Find datasets built before `before` that no model version and no unfinished run refers to."""
    used = _used_digests(store, before)
    for name in _folders(folder_url):
        url = f"{folder_url}/{name}"
        if not storage.exists(f"{url}/{MANIFEST}"):
            continue
        manifest = storage.read_json(f"{url}/{MANIFEST}")
        if datetime.fromisoformat(manifest["created_at"]) < before and manifest["digest"] not in used:
            yield _leftover("dataset", url, f"no model version at {store.uri} refers to it", (url, OWNER))


def _used_digests(store: MlflowStore, before: datetime) -> set[str]:
    """Digests of the datasets of all versions, of running trainings, and of those that may be resumed."""
    used = set()
    for version in store.all_versions():
        run = None if "dataset" in version.tags else store.find_run(version.run_id or "")
        used.add(version.tags.get("dataset") or (run and run.data.params.get("dataset.digest")))
    for run in store.all_runs("attributes.status != 'FINISHED'"):
        if run.info.status == "RUNNING" or _end_of(run) >= before:
            used.add(run.data.params.get("dataset.digest"))
    return {digest for digest in used if digest}


def _end_of(run: MlflowRun) -> datetime:
    return datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, timezone.utc)


def remove_leftover(leftover: Leftover) -> bool:
    """Remove the folder unless a process uses it; return whether it was removed, and log why not."""
    try:
        with exclusive_ownership(*leftover.owner, leftover.url, "clean up later"):
            # A job that was running when the attempt was listed may have moved the published day into it.
            if leftover.kind == "attempt" and _holds_a_day(leftover.url):
                logger.warning("%s was not removed: it holds a published day", leftover.url)
                return False
            storage.remove(leftover.url)
    except (JobFailedError, UserError, OSError) as error:
        logger.warning("%s was not removed: %s", leftover.url, error)
        return False
    return True


def limit_of_age(days: float, now: datetime) -> datetime:
    """Time before which something is older than `days` days."""
    return now - timedelta(days=days)


def _leftover(kind: str, url: str, reason: str, owner: tuple[str, str]) -> Leftover:
    return Leftover(kind, url, reason, storage.folder_bytes(url), owner)


def _folders(url: str) -> list[str]:
    """Names of the folders in a folder, which need not exist."""
    children = storage.children(url) if storage.is_folder(url) else []
    return [child["name"] for child in children if child["is_folder"]]
