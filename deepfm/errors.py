"""Exceptions whose message is for the user and not for a programmer."""


class UserError(Exception):
    """A mistake the user can mend; one line: what was expected, what was found, where, and what to do.

    Jobs print the message without a stack trace and exit with status 2. Everything else that is raised
    is a fault of ours, keeps its stack trace and exits with status 1.
    """

    def __init__(self, message: str):
        super().__init__(_one_line(message))


class OutOfMemoryError(UserError):
    """An allocation failed: told with what to lower."""


class JobFailedError(RuntimeError):
    """Nobody's mistake, and no fault of ours: told in one line, with exit status 1."""

    def __init__(self, message: str):
        super().__init__(_one_line(message))


def _one_line(message: str) -> str:
    # A message quotes values, paths and what libraries say: none of them may break the one line.
    return " ".join(message.split())


class WorkersLostError(JobFailedError):
    """A worker ended without a word: killed, out of memory, or its host gone. Try again."""


class NotRegisteredError(JobFailedError):
    """A model was trained, but the registry was away: it is kept, and can be registered later."""
