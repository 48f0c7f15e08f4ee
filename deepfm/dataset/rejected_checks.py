"""Limits of rejected rows, and what to do about them."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from deepfm.click_log.click_log import ClickLog
from deepfm.click_log.row_format import BAD_LABEL, REASONS, WRONG_WIDTH
from deepfm.click_log.text.split_line import split_line
from deepfm.errors import UserError
from deepfm.features.row_counts import RowCounts
from deepfm.settings.data import DataSettings


def check_rejected(
    log: ClickLog, settings: DataSettings, counts: RowCounts, rejected: DataFrame, rejected_url: str
) -> None:
    """Raise UserError if more rows were rejected than max_bad_fraction and max_bad_labels allow.

    `rejected`: source_file, text and reason of each, stored at `rejected_url`.
    """
    num_bad_labels = counts.bad_by_reason.get(REASONS[BAD_LABEL], 0)
    if counts.num_bad > settings.max_bad_fraction * counts.num_read:
        limit = f"max_bad_fraction {settings.max_bad_fraction}"
    elif num_bad_labels > settings.max_bad_labels * counts.num_read:
        limit = f"max_bad_labels {settings.max_bad_labels}"
    else:
        return
    reasons = ", ".join(f"{num} {reason}" for reason, num in counts.bad_by_reason.items())
    raise UserError(
        f"{log.url}: {counts.num_bad} of {counts.num_read} rows do not fit ({reasons}; "
        f"{_worst_file(rejected)}), more than {limit}; see {rejected_url}, then "
        f"{_remedy(log, counts, rejected)}"
    )


def _remedy(log: ClickLog, counts: RowCounts, rejected: DataFrame) -> str:
    reason = max(counts.bad_by_reason, key=lambda name: counts.bad_by_reason[name])
    row = rejected.filter(F.col("reason") == reason).orderBy("source_file", "text").first()
    assert row is not None
    example = f"{row.text or ''!r:.200}"
    if reason == REASONS[BAD_LABEL]:
        return (
            "check the label: 0 or 1 is expected, other texts are set by positive and negative, no label for "
            f"no click by missing_label, and numbers of clicks by impressions and clicks; a row is {example}"
        )
    row_format = log.row_format
    if reason != REASONS[WRONG_WIDTH] or row_format.delimiter is None:
        return f"fix the log or the data YAML; a row is {example}"
    found, expected = (len(split_line(row.text.rstrip("\r"), row_format)), len(row_format.columns))
    if not found:
        return (
            "close each quote on its line, set escape if quotes within quotes follow a backslash, or "
            f"multiline: true if values contain line breaks; a row is {example}"
        )
    hint = "; rows end with a delimiter: name that column too" if found == expected + 1 else ""
    return (
        f"check delimiter and columns in the data YAML: expected {expected} columns, found {found} in "
        f"{example}{hint}"
    )


def _worst_file(rejected: DataFrame) -> str:
    """Describe the file with most rejected rows: files of one day may have other columns than the rest."""
    by_file = rejected.groupBy("source_file").count().orderBy(F.desc("count"), "source_file").first()
    assert by_file is not None
    return f"{by_file['count']} of them in {by_file['source_file']}"
