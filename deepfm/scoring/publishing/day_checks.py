"""Checks of the written rows of a day: raise UserError if the day must not be published."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from deepfm.errors import UserError
from deepfm.scoring.publishing.day_output import DayOutput, WrittenRows


def check_probabilities_and_keys(scored: DataFrame, output: DayOutput) -> None:
    """Require probabilities from 0 to 1, and each key once."""
    probability = F.col("probability")
    # Spark orders NaN above every number.
    is_invalid = probability.isNull() | F.isnan(probability) | (probability < 0) | (probability > 1)
    num_invalid = scored.filter(is_invalid).count()
    if num_invalid:
        raise UserError(
            f"{output.day}: {num_invalid} probabilities are NaN or outside 0 to 1; nothing was published: "
            "the model is broken, restore the previous one with promote.py --rollback"
        )
    if output.key:
        by_key = scored.groupBy(*[F.col(f"`{name}`") for name in output.key]).count()
        duplicate = by_key.filter(F.col("count") > 1).first()
        if duplicate:
            values = ", ".join(f"{name} {duplicate[name]}" for name in output.key)
            raise UserError(
                f"{output.day}: expected each {', '.join(output.key)} once, found {values} "
                f"{duplicate['count']} times; nothing was published: fix the log or give another --key"
            )


def check_rows(written: WrittenRows, output: DayOutput, num_input_rows: int, model_name: str) -> None:
    """Require impressions, of which at most `max_bad_fraction` are bad."""
    # An undated row may belong to any day of a log, and a log may hold many days.
    num_bad, num_undated = written.num_bad - written.num_undated, written.num_undated
    num_rows = written.num_scored + num_bad
    if num_undated > output.max_bad_fraction * num_input_rows:
        num_bad, num_rows = num_undated, num_input_rows
    if num_bad > output.max_bad_fraction * num_rows:
        reasons = ", ".join(f"{num} {reason}" for reason, num in written.bad_by_reason.items())
        raise UserError(
            f"{output.day}: {num_bad} of {num_rows} rows do not fit ({reasons}), more than "
            f"max_bad_fraction {output.max_bad_fraction}; nothing was published, see {output.rejected_url}: "
            f"fix the log, or check that {model_name} is a model of this log"
        )
    if not written.num_scored:
        raise UserError(
            f"{output.day}: expected impressions, found none in the input; check --date and --input"
        )
