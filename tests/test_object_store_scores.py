"""Scored days in an object store: evaluate.py, and the commands status and clean."""

import json

import pytest
import yaml
from click.testing import CliRunner

from deepfm import storage
from deepfm.cli.operations.clean import clean
from deepfm.cli.operations.status import status
from deepfm.scoring.days import PROVENANCE, Provenance, PublishedDay, write_pointer

DAY = "2026-01-08"


@pytest.fixture
def write_version(bucket):
    """Function: write a version of a day of two rows, without files of rows -> its path below the bucket."""

    def write(attempt):
        version = f"_attempts/ds={DAY}.{attempt}/scored"
        published = PublishedDay(Provenance("stored", "7"), 2, 0, 0.25, warnings=("psi 0.5",))
        storage.write_json(f"{bucket}/{version}/{PROVENANCE}", published.to_document())
        return version

    return write


@pytest.fixture
def profile_in_bucket(profile_path, bucket, tmp_path):
    """Path of a profile whose work_dir is in the bucket."""
    profile = yaml.safe_load(profile_path.read_text()) | {"work_dir": f"{bucket}/work"}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    return tmp_path / "profile.yaml"


def run(command, *flags):
    done = CliRunner().invoke(command, [str(flag) for flag in flags])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_labels_are_joined_with_a_day(run_job, write_log, save_model, register, bucket, spark_with_s3):
    name = f"stored-{bucket[-8:]}"
    version = register(save_model(c={"a": 1.0, "b": -1.0}), name)
    log = write_log({DAY: ["1\t0\ta", "0\t1\tb"]})
    for file in (log / f"ds={DAY}").iterdir():
        storage.write_bytes(f"{bucket}/log/ds={DAY}/{file.name}", file.read_bytes())
    flags = ["--date", DAY, "--model-uri", f"models:/{name}/{version}", "--input", f"{bucket}/log"]
    run_job("score", *flags, "--output", f"{bucket}/scores", "--keep", "C").summary
    paths = ["--scores", f"{bucket}/scores", "--input", f"{bucket}/log"]
    summary = run_job("evaluate", "--date", DAY, *paths, "--key", "C").summary
    assert (summary["rows_without_label"], summary["auc"]) == (0, 1.0)


def test_status_shows_the_published_version(bucket, store, profile_path, write_version):
    store.client.create_registered_model("stored")
    write_version("killed")
    write_pointer(bucket, DAY, write_version("published"))
    (day,) = run(status, "stored", "--scores", bucket, "--profile", profile_path)["days"]
    assert (day["day"], day["version"], day["rows_scored"], day["num_warnings"]) == (DAY, "7", 2, 1)


def test_clean_removes_all_versions_but_the_published_one(bucket, profile_in_bucket, write_version):
    write_version("replaced")
    write_pointer(bucket, DAY, write_version("published"))
    flags = ["--scores", bucket, "--profile", profile_in_bucket]
    (leftover,) = run(clean, *flags)["leftovers"]
    assert leftover["url"] == f"{bucket}/_attempts/ds={DAY}.replaced"
    assert run(clean, *flags, "--yes")["removed"] == 1
    assert storage.all_names(f"{bucket}/_attempts") == [f"ds={DAY}.published"]
