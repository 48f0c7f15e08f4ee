"""Errors of an S3 server: retried if they may pass, else reported in one line with the URL and a remedy."""

import fsspec
import pytest
from servers import faulty_proxy, free_port

from deepfm import storage
from deepfm.errors import JobFailedError, UserError


@pytest.fixture
def set_environment(s3_environment, monkeypatch):
    """Function: set or (None) delete variables of the S3 client, for new connections."""
    s3 = fsspec.get_filesystem_class("s3")

    def change(**variables):
        for name, value in variables.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        s3.clear_instance_cache()

    yield change
    s3.clear_instance_cache()


@pytest.fixture
def faulty_bucket(bucket, s3_environment, set_environment, tmp_path):
    """URL of a bucket in a server that answers wrongly, see faulty_proxy.py."""
    with faulty_proxy(tmp_path, s3_environment["AWS_ENDPOINT_URL"]) as address:
        set_environment(AWS_ENDPOINT_URL=address)
        yield bucket


@pytest.fixture
def few_attempts(monkeypatch):
    """Two attempts of each request, as set by FSSPEC_S3."""
    retries = {"retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": retries})


@pytest.mark.parametrize("fault", ["slow_down", "cut"])
def test_a_fault_that_passes_is_not_noticed(faulty_bucket, fault):
    url = f"{faulty_bucket}/{fault}-2/x"
    storage.write_bytes(url, b"content")
    assert storage.read_bytes(url) == b"content"
    with storage.open_file(url) as file:
        assert file.read() == b"content"
    assert storage.all_names(f"{faulty_bucket}/{fault}-2") == ["x"]


def test_a_server_that_stays_overloaded_fails_the_job(faulty_bucket, few_attempts):
    with pytest.raises(JobFailedError, match=r"slow_down-999/x: .* overloaded .*503.*run again later"):
        storage.read_bytes(f"{faulty_bucket}/slow_down-999/x")


def test_answers_that_stay_cut_fail_the_job(faulty_bucket, few_attempts):
    url = f"{faulty_bucket}/cut-999/x"
    storage.write_bytes(url, b"content")
    with pytest.raises(JobFailedError, match=r"cut-999/x: the S3 server does not answer.*and run again"):
        storage.read_bytes(url)


def test_denied_access_is_a_user_error_of_each_function(faulty_bucket):
    url = f"{faulty_bucket}/denied-999/x"
    for function in (storage.exists, storage.read_bytes, storage.make_folder, storage.children):
        with pytest.raises(UserError, match=r"denied-999/x: the S3 server denies access .*their permissions"):
            function(url)
    with pytest.raises(UserError, match="denies access"), storage.atomic_writer(url) as file:
        file.write(b"content")
    with pytest.raises(UserError, match="denies access"), storage.open_decompressed(f"{url}.gz") as file:
        file.read()


def test_missing_credentials_are_a_user_error(bucket, set_environment, tmp_path):
    nothing = str(tmp_path / "nothing")
    set_environment(
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_SHARED_CREDENTIALS_FILE=nothing,
        AWS_CONFIG_FILE=nothing,
    )
    with pytest.raises(UserError, match=r"/x: no usable credentials: .*AWS_ACCESS_KEY_ID .* all executors"):
        storage.read_bytes(f"{bucket}/x")


def test_a_missing_bucket_is_a_user_error_and_not_created(bucket):
    for function in (storage.make_folder, storage.children):
        with pytest.raises(
            UserError, match="s3://no-such-bucket/x: the bucket no-such-bucket does not exist"
        ):
            function("s3://no-such-bucket/x")
    assert not storage.exists("s3://no-such-bucket")


def test_an_invalid_name_of_a_bucket_is_a_user_error(bucket):
    with pytest.raises(
        UserError, match="/x: the S3 client refuses it: .*Invalid bucket name.*correct the URL"
    ):
        storage.read_bytes("s3://bucket$/x")


def test_a_server_that_does_not_listen_fails_the_job(bucket, set_environment, few_attempts):
    set_environment(AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        JobFailedError, match=r"/x: the S3 server does not answer.*127\.0\.0\.1.*AWS_ENDPOINT_URL"
    ):
        storage.read_bytes(f"{bucket}/x")


def test_an_endpoint_without_scheme_is_a_user_error(bucket, set_environment):
    set_environment(AWS_ENDPOINT_URL="storage.example.com")
    with pytest.raises(UserError, match="/x: the S3 client refuses it: Invalid endpoint"):
        storage.read_bytes(f"{bucket}/x")


def test_a_missing_object_is_a_missing_file(bucket):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{bucket}/x")
