"""Manifest (manifest.json): content of a dataset. It is written last; a dataset without one is incomplete."""

import hashlib
import json
from typing import Literal

from pydantic import Field as Setting

from deepfm import storage
from deepfm.click_log.split import SPLITS, DaySplit, Split, TimeSplit
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import Settings, parse_settings

MANIFEST = "manifest.json"


class DataFile(Settings):
    """One Parquet file of a split."""

    name: str
    num_bytes: int
    row_groups: tuple[int, ...]  # rows in each

    @property
    def num_rows(self) -> int:
        return sum(self.row_groups)


class WeightSums(Settings):
    """Sums of the weights of rows."""

    weight: float
    click_weight: float  # of the rows with a click


class SplitPart(Settings):
    """Training, validation or test split."""

    num_rows: int
    num_clicks: int
    days: dict[str, int]  # rows per day; key "" if the log has no days
    files: tuple[DataFile, ...]
    digest: str  # hash of the multiset of rows; independent of their order and files
    weights: WeightSums | None = None  # None: every row counts once
    day_weights: dict[str, WeightSums] = Setting(default_factory=dict)  # by day; empty: every row counts once

    @property
    def mean_weight(self) -> float:
        """Mean weight of a row."""
        return self.weights.weight / self.num_rows if self.weights else 1.0

    @property
    def ctr(self) -> float:
        """Share of the impressions that were clicked; of their weights if there are any."""
        if self.weights:
            return self.weights.click_weight / self.weights.weight
        return self.num_clicks / self.num_rows


class InputLog(Settings):
    """Click log that a dataset was built from; identifies its held-out rows."""

    url: str
    days: dict[str, tuple[str, str]]  # inclusive range of each split; empty: not split by days
    times: tuple[int, int] | None = None  # seconds at which validation and test start
    rows_read: int
    bad_by_reason: dict[str, int]
    files: str | None = None  # digest of names and sizes; None: written by an older version
    rows_sampled_out: int = 0  # training rows dropped by keep_negatives
    missing_days: tuple[str, ...] = ()  # days of `days` without a folder, see --allow-missing-days

    @property
    def split(self) -> Split | None:
        """Split of its rows; None: hash_split of the data YAML."""
        if self.times:
            return TimeSplit(*self.times)
        if not self.days:
            return None
        train, valid, test = (self.days[part] for part in SPLITS)
        return DaySplit((train, valid, test))


class Manifest(Settings):
    """Everything that training and scoring need to know about a dataset."""

    format_version: Literal[1] = 1
    created_at: str
    data: DataSettings  # format of raw rows; scoring reads daily logs with it
    num_ids: tuple[int, ...]  # by field
    vocabulary: str  # its fingerprint
    grown_from: str | None = None  # fingerprint of the base vocabulary, whose ids it kept
    splits: dict[str, SplitPart]
    input: InputLog

    @property
    def fields(self) -> FieldSet:
        return self.data.field_set

    @property
    def digest(self) -> str:
        """Hash of the content: equal if rows and ids are equal, independent of files and location."""
        content = [self.vocabulary, list(self.num_ids), [_describe_field(field) for field in self.fields]]
        content += [[name, part.num_rows, part.digest] for name, part in sorted(self.splits.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _describe_field(field: Field) -> dict:
    # Without defaults, so that digests do not change when a later version adds a setting.
    required = {"name": field.name, "kind": field.kind, "min_count": field.min_count}
    return required | field.model_dump(exclude_defaults=True)


def write_manifest(dataset_url: str, manifest: Manifest) -> None:
    """Write the manifest, which marks the dataset as complete."""
    storage.write_json(
        f"{dataset_url}/{MANIFEST}", {"digest": manifest.digest, **manifest.model_dump(mode="json")}
    )


def read_manifest(dataset_url: str) -> Manifest:
    """Read the manifest and check that every file in it exists with its size; else raise UserError."""
    location = f"{dataset_url}/{MANIFEST}"
    if not storage.exists(location):
        raise UserError(
            f"{dataset_url}: no {MANIFEST} found: the build did not finish, or the path is wrong; run "
            "build_features.py again, or check --dataset or --grow"
        )
    try:
        document = storage.read_json(location)
    except ValueError as error:
        raise UserError(f"{location}: invalid JSON ({error}); build the dataset again") from error
    digest = document.pop("digest", None) if isinstance(document, dict) else None
    manifest = parse_settings(document, Manifest, location)
    is_consistent = all(
        sum(f.num_rows for f in part.files) == part.num_rows for part in manifest.splits.values()
    )
    if digest != manifest.digest or set(manifest.splits) != set(SPLITS) or not is_consistent:
        raise UserError(f"{location}: the content was changed after it was written; build the dataset again")
    for split, part in manifest.splits.items():
        _check_files(f"{dataset_url}/{split}", part)
    return manifest


def read_manifest_and_vocabulary(dataset_url: str) -> tuple[Manifest, Vocabulary]:
    """Read both; raise UserError if one is missing or damaged, or if they are of different datasets.

    To be called before requesting workers: the artifact that contains both is written after the training.
    """
    manifest, vocabulary = read_manifest(dataset_url), Vocabulary.load(dataset_url)
    require_vocabulary(dataset_url, manifest, vocabulary.fingerprint)
    return manifest, vocabulary


def require_vocabulary(dataset_url: str, manifest: Manifest, fingerprint: str) -> None:
    """Raise UserError if the vocabulary in a dataset is not the one that its rows were encoded with."""
    if fingerprint != manifest.vocabulary:
        raise UserError(
            f"{dataset_url}: the rows were encoded with vocabulary {manifest.vocabulary}, but the folder "
            f"contains vocabulary {fingerprint}; build the dataset again"
        )


def _check_files(folder: str, part: SplitPart) -> None:
    children = storage.children(folder) if storage.exists(folder) else []
    sizes = {child["name"]: child["size"] for child in children}
    for file in part.files:
        if sizes.get(file.name) != file.num_bytes:
            actual = f"one of {sizes[file.name]}" if file.name in sizes else "none"
            raise UserError(
                f"{folder}/{file.name}: expected a file of {file.num_bytes} bytes, found {actual}; "
                "the dataset is damaged: build it again"
            )


def fields_with_num_ids(manifest: Manifest) -> list[tuple[Field, int]]:
    """Return (field, number of ids) in the order of the columns."""
    return list(zip(manifest.fields, manifest.num_ids, strict=True))
