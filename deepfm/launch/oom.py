"""What to do where memory ran out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from deepfm.errors import OutOfMemoryError
from deepfm.settings.model import ModelSettings

#: How PyTorch says it of a CPU: by a RuntimeError of these words.
_OF_A_CPU = ("not enough memory", "can't allocate memory")


@contextmanager
def explain_out_of_memory(rank: int, settings: ModelSettings, num_ids: Sequence[int]) -> Iterator[None]:
    """Turn an allocation that failed in the block into an OutOfMemoryError that says what to lower.

    A kernel that kills a process for its memory leaves it no time to say so.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"rank {rank} ran out of memory: {str(error).splitlines()[0]}; lower training.batch_size (now "
            f"{settings.training.batch_size}) or embedding_dim (now {settings.embedding_dim}), make the "
            f"tables of {sum(num_ids):,} ids shorter (min_count, max_size, hash_buckets in the data's YAML), "
            "take optimizer: adagrad, which remembers one number a row, or give workers more memory"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _OF_A_CPU)
