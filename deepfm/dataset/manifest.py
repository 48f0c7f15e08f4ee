"""manifest.json: what a dataset holds. It is written last, so a dataset without one is unfinished."""

import hashlib
import json
from typing import Literal

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
    row_groups: tuple[int, ...]  # rows of each

    @property
    def num_rows(self) -> int:
        return sum(self.row_groups)


class SplitPart(Settings):
    """Training, validation or test rows."""

    num_rows: int
    num_clicks: int
    days: dict[str, int]  # rows a day; "" where the log has no days
    files: tuple[DataFile, ...]
    digest: str  # of the rows as a multiset: their order and files do not matter


class InputLog(Settings):
    """The click log a dataset was made from, so that its held-out rows can be found again."""

    url: str
    days: dict[str, tuple[str, str]]  # inclusive range a split; empty: not split by days
    times: tuple[int, int] | None = None  # seconds from which rows are for validation and for test
    rows_read: int
    bad_by_reason: dict[str, int]
    files: str | None = None  # digest of their names and sizes; None: built before it was kept
    rows_sampled_out: int = 0  # training rows without a click that were left out, see keep_negatives

    @property
    def split(self) -> Split | None:
        """How its rows were divided; None: by the data YAML's hash_split."""
        if self.times:
            return TimeSplit(*self.times)
        return DaySplit(tuple(self.days[part] for part in SPLITS)) if self.days else None


class Manifest(Settings):
    """Everything training and scoring need to know about a dataset."""

    format_version: Literal[1] = 1
    created_at: str
    data: DataSettings  # how raw rows are read; scoring reads nights with it
    num_ids: tuple[int, ...]  # by field
    vocabulary: str  # fingerprint
    grown_from: str | None = None  # fingerprint of the vocabulary whose ids it kept
    splits: dict[str, SplitPart]
    input: InputLog

    @property
    def fields(self) -> FieldSet:
        return self.data.field_set

    @property
    def digest(self) -> str:
        """Of the content: equal for equal rows under equal ids, wherever and however they were written."""
        content = [self.vocabulary, list(self.num_ids), [_described(field) for field in self.fields]]
        content += [[name, part.num_rows, part.digest] for name, part in sorted(self.splits.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _described(field: Field) -> dict:
    # What is left at its default goes unsaid: keys that later versions add leave digests as they were.
    always = {"name": field.name, "kind": field.kind, "min_count": field.min_count}
    return always | field.model_dump(exclude_defaults=True)


def write_manifest(dataset_url: str, manifest: Manifest) -> None:
    """Make the dataset a finished one."""
    storage.write_json(
        f"{dataset_url}/{MANIFEST}", {"digest": manifest.digest, **manifest.model_dump(mode="json")}
    )


def read_manifest(dataset_url: str) -> Manifest:
    """The manifest, after checking that every file it names is there and whole; else UserError."""
    where = f"{dataset_url}/{MANIFEST}"
    if not storage.exists(where):
        raise UserError(
            f"{dataset_url}: expected a dataset with {MANIFEST}, found none; its build did not finish or the "
            "path is wrong: run build_features.py again or check --dataset or --grow"
        )
    try:
        document = storage.read_json(where)
    except ValueError as error:
        raise UserError(f"{where}: is not valid JSON ({error}); build the dataset again") from error
    digest = document.pop("digest", None) if isinstance(document, dict) else None
    manifest = parse_settings(document, Manifest, where)
    whole = all(sum(f.num_rows for f in part.files) == part.num_rows for part in manifest.splits.values())
    if digest != manifest.digest or set(manifest.splits) != set(SPLITS) or not whole:
        raise UserError(f"{where}: was changed after it was written; build the dataset again")
    for split, part in manifest.splits.items():
        _check_files(f"{dataset_url}/{split}", part)
    return manifest


def read_parts(dataset_url: str) -> tuple[Manifest, Vocabulary]:
    """A dataset's manifest and vocabulary; UserError where one is missing, damaged or another dataset's.

    Before the workers are asked for: the model that needs both comes after hours of training.
    """
    manifest, vocabulary = read_manifest(dataset_url), Vocabulary.load(dataset_url)
    require_vocabulary(dataset_url, manifest, vocabulary.fingerprint)
    return manifest, vocabulary


def require_vocabulary(dataset_url: str, manifest: Manifest, fingerprint: str) -> None:
    """UserError where the vocabulary that lies in a dataset is not the one its rows were encoded with."""
    if fingerprint != manifest.vocabulary:
        raise UserError(
            f"{dataset_url} was encoded with vocabulary {manifest.vocabulary} but {fingerprint} "
            "lies in it; build the dataset again"
        )


def _check_files(folder: str, part: SplitPart) -> None:
    found = (
        {child["name"]: child["size"] for child in storage.children(folder)} if storage.exists(folder) else {}
    )
    for file in part.files:
        if found.get(file.name) != file.num_bytes:
            size = f"one of {found[file.name]}" if file.name in found else "none"
            raise UserError(
                f"{folder}/{file.name}: expected a file of {file.num_bytes} bytes, found {size}; "
                "the dataset is damaged: build it again"
            )


def fields_of(manifest: Manifest) -> list[tuple[Field, int]]:
    """(field, its number of ids) in the columns' order."""
    return list(zip(manifest.fields, manifest.num_ids, strict=True))
