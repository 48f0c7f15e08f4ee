"""Reuse of a complete dataset: a scheduler may start the same build again."""

import hashlib
import json
import logging
from typing import Any

from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.split import SPLITS, DaySplit, Split, TimeSplit
from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.errors import UserError
from deepfm.features.vocabulary.stored import StoredVocabulary
from deepfm.settings.data import DataSettings

logger = logging.getLogger(__name__)


def describe_log(log: ClickLog, split: Split, days: list[str] | None) -> dict[str, Any]:
    """Return the items of InputLog that are known before reading rows: files, and boundaries of the split.

    Raise UserError if a day is missing.
    """
    files = json.dumps(log.list_files(days))
    return {
        "url": log.url,
        "days": dict(zip(SPLITS, split.ranges, strict=True)) if isinstance(split, DaySplit) else {},
        "times": (split.valid_from, split.test_from) if isinstance(split, TimeSplit) else None,
        "missing_days": _missing_days(log, split),
        "files": hashlib.sha256(files.encode()).hexdigest()[:16],
    }


def _missing_days(log: ClickLog, split: Split) -> tuple[str, ...]:
    if log.day_paths is None or not isinstance(split, DaySplit):
        return ()
    return tuple(day for day in split.days() if day not in log.day_paths.by_day)


def reuse_dataset(
    url: str, log_description: dict[str, Any], settings: DataSettings, base: StoredVocabulary | None
) -> Manifest:
    """Return the manifest of the dataset at `url`; raise UserError if it is damaged or has other inputs."""
    manifest = read_manifest(url)
    differences = [key for key, value in log_description.items() if getattr(manifest.input, key) != value]
    differences += ["the data YAML"] if manifest.data != settings else []
    differences += ["--grow"] if manifest.grown_from != (base and base.fingerprint) else []
    if differences:
        raise UserError(
            f"{url}: is already a complete dataset of another log or other settings "
            f"({', '.join(differences)}); choose another --output or remove it"
        )
    logger.info("%s is already complete, with the same log, settings and days: nothing to do", url)
    return manifest
