"""Whether a finished dataset is the one that is to be built: a scheduler may try a build again."""

import hashlib
import json
import logging
from typing import Any

from deepfm.click_log.click_log import ClickLog, days_to_read, list_files
from deepfm.click_log.split import SPLITS, DaySplit, Split, TimeSplit
from deepfm.dataset.manifest import Manifest, read_manifest
from deepfm.errors import UserError
from deepfm.features.vocabulary.stored import StoredVocabulary
from deepfm.settings.data import DataSettings

logger = logging.getLogger(__name__)


def described_log(log: ClickLog, split: Split, days: list[str] | None) -> dict[str, Any]:
    """What a manifest's InputLog says of a log before it is read: its files and how its rows are divided.

    UserError where a day is missing.
    """
    files = json.dumps(list_files(log.url, days_to_read(log, days)))
    return {
        "url": log.url,
        "days": dict(zip(SPLITS, split.ranges, strict=True)) if isinstance(split, DaySplit) else {},
        "times": (split.valid_from, split.test_from) if isinstance(split, TimeSplit) else None,
        "files": hashlib.sha256(files.encode()).hexdigest()[:16],
    }


def reusable_manifest(
    url: str, described: dict[str, Any], settings: DataSettings, previous: StoredVocabulary | None
) -> Manifest:
    """The dataset that is there; UserError where it is damaged, or another than would be built."""
    found = read_manifest(url)
    differs = [what for what, value in described.items() if getattr(found.input, what) != value]
    differs += ["the data YAML"] if found.data != settings else []
    differs += ["--grow"] if found.grown_from != (previous and previous.fingerprint) else []
    if differs:
        raise UserError(
            f"{url}: a finished dataset is there already, of another log or other settings "
            f"({', '.join(differs)}); choose another --output or remove it"
        )
    logger.info("%s is there already, finished, of this very log, settings and days", url)
    return found
