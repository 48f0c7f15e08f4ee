"""In an object store, one small file that is written last publishes a day."""

import pytest

from deepfm import storage
from deepfm.cleanup.leftovers import find_attempts
from deepfm.scoring.days import PROVENANCE, published_day, published_url
from deepfm.scoring.publishing import publish
from deepfm.spark.parts import read_parquet_parts

DAY = "2026-01-08"


@pytest.fixture
def score(run_job, write_log, save_model, register, bucket, spark_with_s3):
    """Function: score a day of three rows into the bucket by version 1 or 2 of a model."""
    log = write_log({DAY: ["1\t0\ta", "0\t1\tb", "1\tx\tb", "1\t\t"]})
    for name in ("one", "two"):
        register(save_model(name), f"stored-{bucket[-8:]}")

    def run(version):
        flags = ["--date", DAY, "--model-uri", f"models:/stored-{bucket[-8:]}/{version}", "--input", log]
        return run_job("score", *flags, "--output", bucket, "--keep", "C", "--overwrite")

    return run


def visible_version(spark, url):
    rows = read_parquet_parts(spark, published_url(url, DAY)).collect()
    assert len(rows) == 3
    (version,) = {row.model_version for row in rows}
    assert published_day(url, DAY).provenance.version == version
    return version


def test_readers_see_the_old_or_the_new_day(score, bucket, spark, monkeypatch):
    assert published_day(bucket, DAY) is None
    _interrupt_before_publishing(score, 1, monkeypatch)
    assert published_day(bucket, DAY) is None
    assert score(1).summary["rows_scored"] == 3
    assert visible_version(spark, bucket) == "1"
    _interrupt_before_publishing(score, 2, monkeypatch)
    assert visible_version(spark, bucket) == "1"
    assert score(2).summary["rows_scored"] == 3
    assert visible_version(spark, bucket) == "2"
    _check_leftovers(bucket)


def _check_leftovers(bucket):
    """The replaced version is a leftover, the published one is not, and rejected rows are readable."""
    (leftover,) = find_attempts(bucket)
    assert not published_url(bucket, DAY).startswith(leftover.url)
    assert storage.exists(f"{leftover.url}/scored/{PROVENANCE}")
    (name,) = storage.all_names(f"{bucket}/_rejected/ds={DAY}")
    assert b'"text": ' in storage.read_bytes(f"{bucket}/_rejected/ds={DAY}/{name}")


def _interrupt_before_publishing(score, version, monkeypatch):
    """All files of the day are written, except the one that publishes it."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publish, "write_pointer", interrupt)
        assert score(version).status != 0
