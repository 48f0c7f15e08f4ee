"""Progress of Spark's stages in the log."""

import logging
import re
import time

from deepfm.cli.spark import progress as spark_progress
from deepfm.cli.spark.progress import show_progress


def test_without_a_terminal_progress_is_logged_periodically(spark, caplog, monkeypatch):
    def wait(number: int) -> int:
        # At different times: Spark reports tasks that end together only with the next event.
        time.sleep(0.3 + 0.15 * (number % 2))
        return number

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(spark_progress, "_LOG_EVERY_S", 0.05)
    with show_progress(spark, "score"):
        spark.sparkContext.parallelize(range(8), 8).map(wait).collect()
    matches = [re.fullmatch(r"score: 0 min, (\d) of 8 tasks of this stage", line) for line in caplog.messages]
    assert {int(match[1]) for match in matches if match} - {0, 8}


def test_nothing_is_logged_after_the_block(spark, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(spark_progress, "_LOG_EVERY_S", 0.05)
    with show_progress(spark, "score"):
        pass
    caplog.clear()
    time.sleep(0.2)
    assert caplog.messages == []
