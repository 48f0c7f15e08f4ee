"""Batches of independent items, such as days: one that fails does not keep the others from being done."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from deepfm.cli.job import to_job_error
from deepfm.errors import JobFailedError

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def do_each(
    items: Sequence[str], work: Callable[[str], Result], *, is_batch: bool = True
) -> tuple[dict[str, Result], dict[str, Exception]]:
    """Do the work of each item; return the results, and the errors of items that failed.

    An unexpected error, such as a lost Spark session, is logged with its stack trace and ends the batch, so
    that what is done is reported. If it is not a batch, the error of its only item is raised.
    """
    results: dict[str, Result] = {}
    failures: dict[str, Exception] = {}
    for item in items:
        try:
            results[item] = work(item)
        except Exception as error:
            if not is_batch:
                raise
            failure = to_job_error(error)
            if failure is None:
                logger.exception("%s failed", item)
                rest = items[items.index(item) :]
                stopped = JobFailedError(f"stopped by an internal error, {type(error).__name__}, see the log")
                return results, failures | dict.fromkeys(rest, stopped)
            click.echo(f"warning: {item} failed: {failure}", err=True)
            failures[item] = failure
    return results, failures
