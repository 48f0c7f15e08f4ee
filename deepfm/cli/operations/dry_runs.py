"""Dry runs of build_features.py and tune.py: what would be done, without writing anything."""

import logging
from pathlib import Path

from deepfm import storage
from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.split import DaySplit, Split
from deepfm.dataset.base_dataset import base_vocabulary
from deepfm.dataset.build import BUILDING
from deepfm.dataset.manifest import MANIFEST
from deepfm.errors import UserError
from deepfm.fields import FieldSet
from deepfm.ownership import is_owner_file

logger = logging.getLogger(__name__)


def log_build(log: ClickLog, fields: FieldSet, split: Split, url: str, grow_url: str | None) -> dict:
    """Log what a build would read and write; raise UserError if it would refuse its output or base."""
    days = split.days() if log.day_paths is not None and isinstance(split, DaySplit) else None
    files = log.list_files(days)
    is_built = storage.exists(f"{url}/{MANIFEST}")
    if not is_built:
        _require_new_or_empty(url)
    if grow_url:
        base_vocabulary(grow_url, fields)
    num_bytes = sum(size for _, size, _ in files)
    action = "is a dataset already, which the same inputs would reuse" if is_built else "would be written"
    logger.info(
        "dry run: files=%d mib=%.1f days=%d fields=%d; %s %s",
        len(files), num_bytes / 2**20, len(days or ()), len(fields), url, action,
    )  # fmt: skip
    counts = {"num_files": len(files), "num_bytes": num_bytes, "days": days, "num_fields": len(fields)}
    return {"dry_run": True, **counts, "grown_from": grow_url, "is_built": is_built, "dataset": url}


def _require_new_or_empty(url: str) -> None:
    is_file = storage.exists(url) and not storage.is_folder(url)
    others = [] if is_file else [name for name in storage.all_names(url) if not is_owner_file(name)]
    if is_file or (others and not storage.exists(f"{url}/{BUILDING}")):
        raise UserError(f"{url}: expected a new or empty folder, found other files; choose another --output")


def log_study(path: Path, num_trials: int, parameters: list[str], num_workers: int) -> dict:
    """Log which trials a study would run, and whether it would be resumed."""
    is_begun = path.exists()
    logger.info(
        "dry run: trials=%d parameters=%s num_workers=%d; the study %s would be %s",
        num_trials, ",".join(parameters), num_workers, path, "resumed" if is_begun else "created",
    )  # fmt: skip
    details = {"study": path.stem, "study_path": str(path), "is_begun": is_begun, "num_workers": num_workers}
    return {"dry_run": True, **details, "num_trials": num_trials, "parameters": parameters}
