"""What stopped a rank, left where the driver finds it: Horovod only reports that a process exited."""

from deepfm import storage


def worker_error_url(run_url: str, rank: int) -> str:
    """Where a rank leaves the message of what stopped it."""
    return f"{run_url}/failure-{rank}.json"


def report_worker_error(run_url: str, rank: int, error: Exception, *, by_user: bool) -> None:
    """Leave the message; `by_user`: it is a mistake that the user can mend."""
    document = {"rank": rank, "message": str(error), "type": type(error).__name__, "by_user": by_user}
    storage.write_json(worker_error_url(run_url, rank), document)


def clear_worker_errors(run_url: str, num_workers: int) -> None:
    """Before another try."""
    for rank in range(num_workers):
        storage.remove(worker_error_url(run_url, rank))


def read_worker_errors(run_url: str, num_workers: int) -> list[dict]:
    """What the ranks left, first a user's mistake, from the rank that says the most of it."""
    urls = [worker_error_url(run_url, rank) for rank in range(num_workers)]
    found = [storage.read_json(url) for url in urls if storage.exists(url)]
    return sorted(found, key=lambda failure: (not failure["by_user"], -len(failure["message"])))
