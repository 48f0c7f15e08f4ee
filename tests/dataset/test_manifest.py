"""The manifest: a dataset is finished when it has one, and refused when it is not what its manifest says."""

import hashlib
import json
import os

import pytest

from deepfm.dataset.manifest import fields_of, read_manifest, write_manifest
from deepfm.errors import UserError
from deepfm.fields import Field


@pytest.fixture
def dataset(write_dataset, tmp_path):
    """A finished dataset: (folder, url, manifest)."""
    url, manifest = write_dataset([[(1, 2, 3), (0, 3, 2)], [(0, 2, 2)]])
    return tmp_path / "dataset", url, manifest


def test_a_manifest_is_read_as_it_was_written(dataset):
    _, url, manifest = dataset
    assert read_manifest(url) == manifest
    assert read_manifest(url).digest == manifest.digest


def test_a_manifest_tells_the_fields_and_their_number_of_ids(dataset):
    _, url, _ = dataset
    assert fields_of(read_manifest(url)) == [
        (Field(name="I", kind="count"), 2**31),
        (Field(name="C", kind="category"), 2**31),
    ]


def test_a_dataset_without_manifest_is_refused(dataset):
    folder, url, _ = dataset
    os.remove(folder / "manifest.json")
    with pytest.raises(UserError, match="its build did not finish or the path is wrong"):
        read_manifest(url)


def test_who_grows_a_dataset_is_told_of_the_flag_he_gave(tmp_path):
    with pytest.raises(UserError, match="check --dataset or --grow"):
        read_manifest(f"file://{tmp_path}")


def test_a_dataset_with_a_missing_file_is_refused(dataset):
    folder, url, _ = dataset
    os.remove(folder / "train" / "part-00001.parquet")
    with pytest.raises(UserError, match=r"part-00001\.parquet: expected a file of \d+ bytes, found none"):
        read_manifest(url)


def test_a_dataset_with_a_missing_split_is_refused(dataset):
    folder, url, _ = dataset
    os.remove(folder / "valid" / "part-00000.parquet")
    os.rmdir(folder / "valid")
    with pytest.raises(UserError, match=r"valid/part-00000\.parquet: expected a file"):
        read_manifest(url)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: content + b"!", lambda content: b""]
)
def test_a_dataset_with_a_truncated_or_changed_file_is_refused(dataset, change):
    folder, url, _ = dataset
    path = folder / "train" / "part-00000.parquet"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match="the dataset is damaged: build it again"):
        read_manifest(url)


def test_files_the_manifest_does_not_name_are_no_trouble(dataset):
    folder, url, manifest = dataset
    (folder / "train" / "part-99999.parquet").write_bytes(b"left by a failed attempt")
    assert read_manifest(url) == manifest


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_broken_manifest_is_refused(dataset, text):
    folder, url, _ = dataset
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(url)


def changed(folder, change):
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
def test_a_changed_manifest_is_refused(dataset, change):
    folder, url, _ = dataset
    changed(folder, change)
    with pytest.raises(UserError, match="was changed after it was written"):
        read_manifest(url)


def test_a_manifest_of_another_version_is_refused(dataset):
    folder, url, _ = dataset
    changed(folder, lambda document: document.update(format_version=2))
    with pytest.raises(UserError, match="format_version"):
        read_manifest(url)


def test_files_outside_the_dataset_are_never_named(dataset):
    folder, url, _ = dataset
    changed(
        folder,
        lambda document: document["splits"]["train"]["files"][0].update(name="../valid/part-00000.parquet"),
    )
    with pytest.raises(UserError, match="the dataset is damaged"):
        read_manifest(url)


def test_the_digest_is_of_the_content_and_not_of_time_place_or_files(dataset):
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


def test_what_a_field_leaves_at_its_default_does_not_show_in_the_digest(dataset):
    _, _, manifest = dataset
    # All that a count and a category could say when the first datasets were written.
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


def test_writing_a_manifest_leaves_nothing_beside_it(dataset):
    folder, url, manifest = dataset
    write_manifest(url, manifest)
    assert sorted(os.listdir(folder)) == ["manifest.json", "test", "train", "valid"]
