"""Errors of ranks, sent to the driver: Horovod itself only reports that a process exited."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from deepfm.errors import OutOfMemoryError
from deepfm.launch.run_channel import RunChannel
from deepfm.settings.model import ModelSettings

MESSAGE = "worker_error"
#: PyTorch reports a failed allocation on a CPU as a RuntimeError with these words.
_CPU_MESSAGES = ("not enough memory", "can't allocate memory")


def report_worker_error(channel: RunChannel, rank: int, error: Exception, *, is_user_error: bool) -> None:
    """Send the error that stopped a rank."""
    message = {
        "rank": rank,
        "message": str(error),
        "type": type(error).__name__,
        "is_user_error": is_user_error,
    }
    channel.send(MESSAGE, message, rank)


def read_worker_errors(channel: RunChannel, num_workers: int) -> list[dict]:
    """Read the errors of all ranks: user errors first, then those with the longest message."""
    errors = channel.receive_from_ranks(MESSAGE, num_workers).values()
    return sorted(errors, key=lambda error: (not error["is_user_error"], -len(error["message"])))


@contextmanager
def explain_out_of_memory(rank: int, settings: ModelSettings, num_ids: Sequence[int]) -> Iterator[None]:
    """Turn a failed allocation in the block into an OutOfMemoryError that names what to lower.

    A process that the kernel kills for its memory has no chance to report anything.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"rank {rank} ran out of memory: {str(error).splitlines()[0]}; lower training.batch_size (now "
            f"{settings.training.batch_size}) or embedding_dim (now {settings.embedding_dim}), reduce the "
            f"{sum(num_ids):,} ids of the tables (min_count, max_size, hash_buckets in the data YAML), use "
            "optimizer: adagrad, whose state is one number per row, or give workers more memory"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _CPU_MESSAGES)
