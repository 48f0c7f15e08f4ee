"""Batches of independent items, such as days: one that fails does not keep the others from being done."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from deepfm.cli.job import task_user_error
from deepfm.errors import JobFailedError, UserError

Result = TypeVar("Result")


def do_each(
    items: Sequence[str], work: Callable[[str], Result]
) -> tuple[dict[str, Result], dict[str, Exception]]:
    """Do the work of each item; return the results, and the errors of items that failed.

    Only errors that concern an item are caught: UserError, also of a Spark task, and JobFailedError. The
    error of a single item is raised.
    """
    results: dict[str, Result] = {}
    failures: dict[str, Exception] = {}
    for item in items:
        try:
            results[item] = work(item)
        except Exception as error:
            failure = error if isinstance(error, (UserError, JobFailedError)) else task_user_error(error)
            if failure is None or len(items) == 1:
                raise
            click.echo(f"warning: {item} failed: {failure}", err=True)
            failures[item] = failure
    return results, failures
