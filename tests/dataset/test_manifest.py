"""Manifest of a dataset: without it a dataset is incomplete, and its content must match the manifest."""

import hashlib
import json
import os

import pytest

from deepfm.dataset.manifest import fields_with_num_ids, read_manifest, write_manifest
from deepfm.errors import UserError
from deepfm.fields import Field


@pytest.fixture
def dataset(write_dataset, tmp_path):
    """A complete dataset: (folder, url, manifest)."""
    url, manifest = write_dataset([[(1, 2, 3), (0, 3, 2)], [(0, 2, 2)]])
    return tmp_path / "dataset", url, manifest


def test_reading_returns_the_written_manifest(dataset):
    _, url, manifest = dataset
    assert read_manifest(url) == manifest
    assert read_manifest(url).digest == manifest.digest


def test_a_manifest_contains_the_fields_and_their_number_of_ids(dataset):
    _, url, _ = dataset
    assert fields_with_num_ids(read_manifest(url)) == [
        (Field(name="I", kind="count"), 2**31),
        (Field(name="C", kind="category"), 2**31),
    ]


def test_a_dataset_without_manifest_is_rejected(dataset):
    folder, url, _ = dataset
    os.remove(folder / "manifest.json")
    with pytest.raises(UserError, match="the build did not finish, or the path is wrong"):
        read_manifest(url)


def test_the_error_names_the_flags_that_set_a_dataset(tmp_path):
    with pytest.raises(UserError, match="or check --dataset or --grow"):
        read_manifest(f"file://{tmp_path}")


def test_a_dataset_with_a_missing_file_is_rejected(dataset):
    folder, url, _ = dataset
    os.remove(folder / "train" / "part-00001.parquet")
    with pytest.raises(UserError, match=r"part-00001\.parquet: expected a file of \d+ bytes, found none"):
        read_manifest(url)


def test_a_dataset_with_a_missing_split_is_rejected(dataset):
    folder, url, _ = dataset
    os.remove(folder / "valid" / "part-00000.parquet")
    os.rmdir(folder / "valid")
    with pytest.raises(UserError, match=r"valid/part-00000\.parquet: expected a file"):
        read_manifest(url)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: content + b"!", lambda content: b""]
)
def test_a_dataset_with_a_truncated_or_changed_file_is_rejected(dataset, change):
    folder, url, _ = dataset
    path = folder / "train" / "part-00000.parquet"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match="the dataset is damaged: build it again"):
        read_manifest(url)


def test_files_outside_the_manifest_are_ignored(dataset):
    folder, url, manifest = dataset
    (folder / "train" / "part-99999.parquet").write_bytes(b"left by a failed attempt")
    assert read_manifest(url) == manifest


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_broken_manifest_is_rejected(dataset, text):
    folder, url, _ = dataset
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(url)


def change_manifest(folder, change):
    document = json.loads((folder / "manifest.json").read_text())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(num_ids=[5, 5]),
        lambda document: document.update(vocabulary="another"),
        lambda document: document["splits"]["train"].update(digest="0"),
        lambda document: document["splits"]["train"].update(num_rows=2),
        lambda document: document["splits"]["train"]["files"].pop(),
        lambda document: document["splits"].pop("test"),
        lambda document: document.pop("digest"),
    ],
)
def test_a_changed_manifest_is_rejected(dataset, change):
    folder, url, _ = dataset
    change_manifest(folder, change)
    with pytest.raises(UserError, match="was changed after it was written"):
        read_manifest(url)


def test_a_manifest_of_another_version_is_rejected(dataset):
    folder, url, _ = dataset
    change_manifest(folder, lambda document: document.update(format_version=2))
    with pytest.raises(UserError, match="format_version"):
        read_manifest(url)


def test_a_file_outside_the_dataset_is_rejected(dataset):
    folder, url, _ = dataset
    change_manifest(
        folder,
        lambda document: document["splits"]["train"]["files"][0].update(name="../valid/part-00000.parquet"),
    )
    with pytest.raises(UserError, match="the dataset is damaged"):
        read_manifest(url)


def test_the_digest_depends_on_the_content_and_not_on_time_location_or_files(dataset):
    _, _, manifest = dataset
    train = manifest.splits["train"]
    elsewhere = manifest.model_copy(
        update={
            "created_at": "2027-01-01T00:00:00+00:00",
            "input": manifest.input.model_copy(update={"url": "s3://bucket/log"}),
            "splits": {**manifest.splits, "train": train.model_copy(update={"files": train.files[::-1]})},
        }
    )
    assert elsewhere.digest == manifest.digest
    other_rows = {**manifest.splits, "train": train.model_copy(update={"digest": "1"})}
    assert manifest.model_copy(update={"splits": other_rows}).digest != manifest.digest
    assert manifest.model_copy(update={"vocabulary": "another"}).digest != manifest.digest


def test_default_settings_of_a_field_do_not_change_the_digest(dataset):
    _, _, manifest = dataset
    # All settings of a count and a category when the first datasets were written.
    fields = [
        {"name": "I", "kind": "count", "min_count": 1},
        {"name": "C", "kind": "category", "min_count": 1},
    ]
    content = [manifest.vocabulary, list(manifest.num_ids), fields]
    content += [[name, part.num_rows, part.digest] for name, part in sorted(manifest.splits.items())]
    assert manifest.digest == hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    hashed = manifest.data.fields[1].model_copy(update={"hash_buckets": 5})
    other = manifest.data.model_copy(update={"fields": (manifest.data.fields[0], hashed)})
    assert manifest.model_copy(update={"data": other}).digest != manifest.digest


def test_writing_a_manifest_leaves_no_other_file(dataset):
    folder, url, manifest = dataset
    write_manifest(url, manifest)
    assert sorted(os.listdir(folder)) == ["manifest.json", "test", "train", "valid"]
