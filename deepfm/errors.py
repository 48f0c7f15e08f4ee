"""Exceptions with a message for the user rather than a programmer."""


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


class WorkersLostError(JobFailedError):
    """A worker ended without reporting an error: killed, out of memory, or its host lost. Can be retried."""


class NotRegisteredError(JobFailedError):
    """A model was trained but MLflow was unreachable. The model is saved and can be registered later."""
