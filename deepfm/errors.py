"""Exceptions with a message for the user rather than a programmer."""

from collections.abc import Mapping


class UserError(Exception):
    """An error the user can fix (invalid input or configuration).

    The one-line message states what was expected, what was found, where, and the remedy. Jobs print it
    without a stack trace and exit with status 2. Any exception other than UserError and JobFailedError is a
    bug: it keeps its stack trace, and the job exits with status 1.
    """

    def __init__(self, message: str):
        super().__init__(_one_line(message))


class OutOfMemoryError(UserError):
    """An allocation failed. The message names the settings to lower."""


class JobFailedError(RuntimeError):
    """A failure caused by neither the user nor a bug. Printed in one line; the job exits with status 1."""

    def __init__(self, message: str):
        super().__init__(_one_line(message))


def _one_line(message: str) -> str:
    # Messages quote values, paths and library errors, which may contain newlines.
    return " ".join(message.split())


class IncompleteError(Exception):
    """Some items of a batch failed and the others are done.

    The job prints its summary as if it had succeeded, then one line with the failures. It exits with status 1
    if a retry may help any of them, else 2.
    """

    def __init__(
        self, unit: str, num_items: int, failures: Mapping[str, Exception], summary: dict | None = None
    ):
        """`unit`: plural of what the items are."""
        details = "; ".join(
            f"{item}: {str(error).removeprefix(f'{item}: ')}" for item, error in failures.items()
        )
        others = ", the others are done" if len(failures) < num_items else ""
        message = f"{len(failures)} of {num_items} {unit} failed{others}: {details}"
        super().__init__(_one_line(message))
        self.unit, self.num_items, self.failures, self.summary = unit, num_items, failures, summary or {}

    @property
    def exit_status(self) -> int:
        return 1 if any(isinstance(error, JobFailedError) for error in self.failures.values()) else 2

    def with_summary(self, summary: dict) -> "IncompleteError":
        """Return the same error with the summary of what is done."""
        failed = {item: str(error) for item, error in self.failures.items()}
        return IncompleteError(self.unit, self.num_items, self.failures, {**summary, "failed": failed})


class WorkersLostError(JobFailedError):
    """A worker ended without reporting an error: killed, out of memory, or its host lost. Can be retried."""


class NotRegisteredError(JobFailedError):
    """A model was trained but MLflow was unreachable. The model is saved and can be registered later."""
