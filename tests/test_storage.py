"""File access by URL: listing, atomic writes, decompression, and errors of invalid or unreachable URLs."""

import bz2
import errno
import gzip
import lzma
import os
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from deepfm import storage
from deepfm.errors import UserError


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}"


def test_a_path_becomes_an_absolute_file_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute_url("data/x/") == f"file://{tmp_path}/data/x"
    assert storage.absolute_url("file:data/x") == f"file://{tmp_path}/data/x"
    assert storage.absolute_url("/data/x") == "file:///data/x"


def test_a_url_stays_as_it_is():
    assert storage.absolute_url("s3://bucket/log/") == "s3://bucket/log"
    assert storage.absolute_url("file:///data/x") == "file:///data/x"


def test_a_tilde_is_expanded_to_the_users_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/user")
    assert storage.absolute_url("~/log") == "file:///home/user/log"
    assert storage.absolute_url("log~/x").endswith("/log~/x")


@pytest.mark.parametrize("path", ["hdfs:/data/log", "s3:/bucket/log", "file://data/log", "dbfs:/log"])
def test_a_url_with_missing_slashes_is_a_user_error(path):
    with pytest.raises(UserError, match=f"^{path}: slashes are missing in this URL"):
        storage.absolute_url(path)


@pytest.mark.parametrize("name", ["ds=*", "log[1]", "day?", "{a,b}", "a\\b"])
def test_a_path_with_glob_characters_is_a_user_error(name, tmp_path, monkeypatch):
    for path in (name, f"s3://bucket/{name}/x"):
        with pytest.raises(UserError, match="expected a path without"):
            storage.absolute_url(path)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match="rename the file or folder"):
        storage.absolute_url("log")


def test_only_a_file_url_has_a_local_path():
    assert storage.local_path("file:///data/x") == "/data/x"
    assert storage.local_path("hdfs://host/data/x") is None


def test_children_are_sorted_by_name_without_hidden_files(tmp_path, url):
    for name in ("b.tsv", "a.tsv", "_SUCCESS", ".b.tsv.crc"):
        (tmp_path / name).write_text("12")
    (tmp_path / "c").mkdir()
    listed = [(child["name"], child["is_folder"]) for child in storage.children(url)]
    assert listed == [("a.tsv", False), ("b.tsv", False), ("c", True)]
    assert storage.children(url)[0]["size"] == 2


def test_a_link_to_a_folder_is_a_folder(tmp_path, url):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "log").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "log" / "ds=2026-01-01")
    assert storage.children(f"{url}/log")[0]["is_folder"]


def test_all_names_of_a_folder_include_hidden_ones(tmp_path, url):
    assert storage.all_names(url) == []
    (tmp_path / ".settings").write_text("mine")
    assert storage.all_names(url) == [".settings"]
    assert storage.all_names(f"{url}/absent") == storage.all_names(f"{url}/.settings/below") == []


def test_only_an_empty_folder_is_removed(tmp_path, url):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for name in ("empty", "full", "absent"):
        storage.remove_empty_folder(f"{url}/{name}")
    assert storage.all_names(url) == ["full"]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_the_first_line_is_read_like_spark_reads_it(tmp_path, url, name):
    content = b"\xef\xbb\xbfa\tb\r\n1\t2\r\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert storage.first_line(f"{url}/{name}") == b"a\tb\r"


def test_a_written_file_replaces_the_old_one_and_leaves_no_temporary_file(tmp_path, url):
    storage.write_json(f"{url}/x.json", {"a": 1})
    storage.write_json(f"{url}/x.json", {"a": 2})
    assert storage.read_json(f"{url}/x.json") == {"a": 2}
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, url, monkeypatch):
    storage.write_bytes(f"{url}/x", b"old")

    def fail(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        storage.write_bytes(f"{url}/x", b"new")
    assert storage.read_bytes(f"{url}/x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_partially_written_file_is_never_listed(tmp_path, url, monkeypatch):
    def fail(filesystem, path, content):
        Path(path).write_bytes(content[:1])
        listed.extend(storage.children(url))
        raise OSError("the disk is gone")

    listed = []
    monkeypatch.setattr(LocalFileSystem, "pipe_file", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        storage.write_bytes(f"{url}/part-00000.parquet", b"PAR1")
    # Neither during the write nor afterwards.
    assert listed == []
    assert os.listdir(tmp_path) == []


def test_the_first_bytes_of_a_file_are_read(tmp_path, url):
    (tmp_path / "x").write_bytes(b"PAR1 and more")
    assert storage.read_bytes(f"{url}/x", 4) == b"PAR1"
    assert storage.read_bytes(f"{url}/x") == b"PAR1 and more"


def test_a_folder_that_cannot_be_created_is_a_user_error(tmp_path, url):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another output"):
        storage.make_folder(f"{url}/file/folder")


def test_making_a_folder_twice_changes_nothing(tmp_path, url):
    storage.make_folder(f"{url}/a/b")
    storage.make_folder(f"{url}/a/b")
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_folder_is_renamed_with_its_content(tmp_path, url):
    storage.make_folder(f"{url}/a")
    storage.write_bytes(f"{url}/a/x", b"1")
    storage.rename(f"{url}/a", f"{url}/b")
    assert os.listdir(tmp_path) == ["b"]
    assert storage.read_bytes(f"{url}/b/x") == b"1"


def test_removing_a_missing_folder_is_not_an_error(tmp_path, url):
    storage.make_folder(f"{url}/a/b")
    storage.remove(f"{url}/a")
    storage.remove(f"{url}/a")
    assert os.listdir(tmp_path) == []


def test_an_unknown_filesystem_is_a_user_error():
    with pytest.raises(UserError, match="cannot access its filesystem"):
        storage.exists("nosuch://host/log")


def test_a_byte_range_of_a_file_is_read(tmp_path):
    url = f"file://{tmp_path}/file"
    storage.write_bytes(url, b"0123456789")
    assert storage.read_range(url, 2, 5) == b"234"
    assert storage.read_range(url, 8, 50) == b"89"
    assert storage.read_bytes(url, 3) == b"012"


def test_an_open_file_has_random_access_and_is_closed_afterwards(tmp_path):
    url = f"file://{tmp_path}/file"
    storage.write_bytes(url, b"0123456789")
    with storage.open_file(url) as file:
        file.seek(7)
        assert file.read(2) == b"78"
        file.seek(0)
        assert file.read(1) == b"0"
    assert file.closed


def test_a_file_written_in_parts_appears_complete_or_not_at_all(tmp_path):
    url = f"file://{tmp_path}/file"
    with storage.atomic_writer(url) as file:
        file.write(b"first ")
        assert not storage.exists(url)
        file.write(b"second")
    assert storage.read_bytes(url) == b"first second"
    with pytest.raises(RuntimeError), storage.atomic_writer(url) as file:
        file.write(b"half")
        raise RuntimeError("in the middle")
    assert storage.read_bytes(url) == b"first second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def corrupt(content: bytes) -> bytes:
    return content[:-20] + bytes(10) + content[-10:]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv.gz", b"label,C\n1,a\n"),
        ("cut.csv.gz", gzip.compress(b"label,C\n1,a\n")[:-10]),
        ("corrupt.csv.gz", corrupt(gzip.compress(b"label,C\n1,a\n"))),
        ("plain.csv.bz2", b"label,C\n1,a\n"),
        ("cut.csv.bz2", bz2.compress(b"label,C\n1,a\n")[:-10]),
        ("corrupt.csv.bz2", corrupt(bz2.compress(b"label,C\n1,a\n"))),
        ("cut.csv.xz", lzma.compress(b"label,C\n1,a\n")[:-10]),
    ],
)
def test_a_corrupt_or_truncated_compressed_file_is_a_user_error(tmp_path, url, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: corrupt or truncated compressed file: "):
        storage.first_lines(f"{url}/{name}", 9)


def test_a_system_error_is_not_reported_as_a_corrupt_file(tmp_path, url):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"label,C\n"))
    with pytest.raises(OSError, match="the disk is gone"), storage.open_decompressed(f"{url}/a.csv.gz"):
        raise OSError(errno.EIO, "the disk is gone")


def test_an_error_of_an_uncompressed_file_is_not_reported_as_a_corrupt_file(tmp_path, url):
    (tmp_path / "a.csv").write_bytes(b"label,C\n")
    with pytest.raises(OSError, match="no such block"), storage.open_decompressed(f"{url}/a.csv"):
        raise OSError("no such block")  # without errno, like pyarrow's HDFS


@pytest.mark.parametrize("url", ["s3a://key:secret@bucket/log", "https://u:se/cret@host/x", "s3://:secret@b"])
def test_a_password_in_a_url_is_rejected_and_not_repeated(url):
    """It would be written into manifests, runs and published days."""
    with pytest.raises(UserError, match="expected a URL without a password") as caught:
        storage.absolute_url(url)
    assert "cret" not in str(caught.value)


def test_an_azure_container_is_not_a_password():
    url = "abfss://container@account.dfs.core.windows.net/log"
    assert storage.absolute_url(url) == url
