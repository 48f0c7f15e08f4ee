"""How far Spark is, told while a job runs."""

import logging
import re
import time

from deepfm.cli.spark import progress as spark_progress
from deepfm.cli.spark.progress import progress_shown


def test_without_a_terminal_progress_is_logged_periodically(spark, caplog, monkeypatch):
    def wait(number: int) -> int:
        # Not all at once: Spark tells of tasks that end together only when the next event comes.
        time.sleep(0.3 + 0.15 * (number % 2))
        return number

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(spark_progress, "_LINE_EVERY_S", 0.05)
    with progress_shown(spark, "score"):
        spark.sparkContext.parallelize(range(8), 8).map(wait).collect()
    told = [re.fullmatch(r"score: 0 min, (\d) of 8 tasks of this stage", line) for line in caplog.messages]
    assert {int(found[1]) for found in told if found} - {0, 8}


def test_nothing_is_logged_after_the_block(spark, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(spark_progress, "_LINE_EVERY_S", 0.05)
    with progress_shown(spark, "score"):
        pass
    caplog.clear()
    time.sleep(0.2)
    assert caplog.messages == []
