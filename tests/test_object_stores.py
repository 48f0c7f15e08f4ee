"""Files in an object store: an S3 server on loopback."""

import sys

import fsspec
import pyarrow as pa
import pytest

from deepfm import storage
from deepfm.errors import UserError


def test_a_file_is_written_replaced_and_removed(bucket):
    url = f"{bucket}/a/x.json"
    for value in (1, 2):
        storage.write_json(url, {"a": value})
        assert storage.read_json(url) == {"a": value}
    assert storage.all_names(f"{bucket}/a") == ["x.json"]
    storage.remove(f"{bucket}/a")
    assert not storage.exists(url)
    assert storage.all_names(f"{bucket}/a") == []


@pytest.mark.parametrize("content", [pa.py_buffer(b"12"), memoryview(b"12"), bytearray(b"12")])
def test_content_of_any_type_with_a_buffer_is_written(bucket, content):
    storage.write_bytes(f"{bucket}/x", content)
    assert storage.read_bytes(f"{bucket}/x") == b"12"


def test_a_file_that_another_process_writes_is_seen(bucket):
    assert storage.all_names(f"{bucket}/a") == []
    assert not storage.exists(f"{bucket}/a/x")
    other = fsspec.filesystem("s3", skip_instance_cache=True)
    other.pipe_file(f"{bucket}/a/x", b"1")
    assert storage.exists(f"{bucket}/a/x")
    assert [child["name"] for child in storage.children(f"{bucket}/a")] == ["x"]
    other.rm_file(f"{bucket}/a/x")
    assert not storage.exists(f"{bucket}/a/x")


def test_the_mark_of_a_folder_is_not_one_of_its_files(bucket):
    fsspec.filesystem("s3").pipe_file(f"{bucket}/a/", b"")
    storage.write_bytes(f"{bucket}/a/x", b"1")
    assert storage.all_names(f"{bucket}/a") == ["x"]
    assert [child["name"] for child in storage.children(f"{bucket}/a")] == ["x"]


def test_a_file_written_in_parts_appears_complete_or_not_at_all(bucket):
    url = f"{bucket}/file"
    with storage.atomic_writer(url) as file:
        file.write(b"first ")
        assert not storage.exists(url)
        file.write(b"second")
    assert storage.read_bytes(url) == b"first second"
    with pytest.raises(RuntimeError), storage.atomic_writer(url) as file:
        file.write(b"half")
        raise RuntimeError("in the middle")
    assert storage.read_bytes(url) == b"first second"


def test_a_folder_is_renamed_with_its_content(bucket):
    storage.write_bytes(f"{bucket}/a/b/x", b"1")
    storage.rename(f"{bucket}/a", f"{bucket}/c")
    assert storage.read_bytes(f"{bucket}/c/b/x") == b"1"
    assert not storage.exists(f"{bucket}/a")


@pytest.mark.parametrize("scheme", ["s3a", "s3n"])
def test_the_schemes_of_hadoop_name_the_same_objects(scheme):
    assert storage.absolute_url(f"{scheme}://bucket/log/") == "s3://bucket/log"


def test_a_missing_driver_is_a_user_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        UserError, match=r"driver of gs:// is not installed.*: pip install 'deepfm-spark\[gcs\]'"
    ):
        storage.exists("gs://bucket/log")
