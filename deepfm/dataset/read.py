"""Batches of one rank: over all ranks each row once per epoch, in a new order, with equally many steps.

Petastorm's own sharding assigns the same row groups to a rank in every epoch, and unequal numbers of steps
if row groups are unequal. Here the files of the manifest are shuffled for each epoch, the sequence of their
rows is cut into one equal range per rank, and Petastorm reads the files of a range in that order. It gets
file URLs instead of the folder, so it never opens the file `_common_metadata`, which it would unpickle.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepfm.dataset.manifest import Manifest
from deepfm.dataset.row_groups import Block, read_blocks, row_ranges
from deepfm.dataset.tensors import to_model_inputs
from deepfm.errors import UserError
from deepfm.fields import FieldSet

#: Rows shuffled in memory at a time. The rows of a file are in random order already, so this mixes files.
SHUFFLE_ROWS = 4 * 65_536
#: Readers beyond which the shuffling thread limits the speed.
MAX_READERS = 8


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    ids: Tensor  # (B, S) int64
    x: Tensor | None  # (B, S) float32, the value of each feature; None if all are 1
    labels: Tensor  # (B,) float32
    num_rows_all_ranks: int
    files: tuple[str, ...] = ()  # files of the dataset that contain its rows
    weights: Tensor | None = None  # (B,) float32; None: every row counts once


@dataclass(frozen=True)
class Shard:
    """Share of one of `size` ranks in each epoch, in steps of at most `batch_size` rows."""

    rank: int
    size: int
    batch_size: int

    def row_bounds(self, num_rows: int, rank: int) -> tuple[int, int]:
        """Return first and last (exclusive) row of a rank in an epoch; ranks differ by at most one row."""
        return rank * num_rows // self.size, (rank + 1) * num_rows // self.size

    def num_steps(self, num_rows: int) -> int:
        """Return the number of steps per epoch, equal on all ranks: a rank with one more would hang."""
        longest = math.ceil(num_rows / self.size)
        return math.ceil(longest / self.batch_size)

    def batch_rows(self, num_rows: int, rank: int, step: int) -> int:
        """Return the size of a rank's batch: its rows are divided almost equally among `num_steps`."""
        first, last = self.row_bounds(num_rows, rank)
        num_steps = self.num_steps(num_rows)
        return (step + 1) * (last - first) // num_steps - step * (last - first) // num_steps


def require_rows(dataset_url: str, manifest: Manifest, num_workers: int) -> None:
    """Raise UserError if a split has fewer rows than there are workers."""
    for split in manifest.splits:
        _require_rows(dataset_url, manifest, split, num_workers)


def _require_rows(dataset_url: str, manifest: Manifest, split: str, num_workers: int) -> None:
    num_rows = manifest.splits[split].num_rows
    if num_rows < num_workers:
        raise UserError(
            f"{dataset_url}/{split}: expected at least one row for each of {num_workers} workers, found "
            f"{num_rows}; use fewer --num-workers, or build a dataset of more days"
        )


_CPU = torch.device("cpu")


def read_batches(
    dataset_url: str,
    manifest: Manifest,
    split: str,
    shard: Shard,
    *,
    epoch: int = 0,
    seed: int | None = None,
    device: torch.device = _CPU,
    num_readers: int = 1,
) -> Iterator[Batch]:
    """Yield this rank's batches of one epoch, shuffled by (seed, epoch); in file order if `seed` is None.

    `device`: of the batches; `num_readers`: files that are read at once, which does not change the batches.
    Raise UserError if the split has fewer rows than there are ranks.
    """
    part = manifest.splits[split]
    _require_rows(dataset_url, manifest, split, shard.size)
    files = list(part.files)
    if seed is not None:
        files = [files[index] for index in np.random.default_rng([seed, epoch]).permutation(len(files))]
    ranges = row_ranges(files, *shard.row_bounds(part.num_rows, shard.rank))
    blocks = read_blocks(f"{dataset_url}/{split}", manifest, ranges, num_readers)
    if seed is not None:
        blocks = _shuffle(blocks, np.random.default_rng([seed, epoch, shard.rank]))
    yield from _to_batches(blocks, part.num_rows, shard, manifest, device)


def _shuffle(blocks: Iterator[Block], rng: np.random.Generator) -> Iterator[Block]:
    """Shuffle the rows of each SHUFFLE_ROWS or slightly more rows."""
    buffer: list[np.ndarray] = []
    files: tuple[str, ...] = ()
    for rows, block_files in blocks:
        buffer.append(rows)
        files = _union(files, block_files)
        if sum(map(len, buffer)) >= SHUFFLE_ROWS:
            yield rng.permutation(np.concatenate(buffer)), files
            buffer, files = [], ()
    if buffer:
        yield rng.permutation(np.concatenate(buffer)), files


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def _to_batches(
    blocks: Iterator[Block], num_rows: int, shard: Shard, manifest: Manifest, device: torch.device
) -> Iterator[Batch]:
    is_weighted, fields = manifest.data.weight_column is not None, manifest.fields
    first_slot = 2 if is_weighted else 1
    buffer = np.empty((0, first_slot + len(fields.slots)), np.int32)
    files: tuple[str, ...] = ()
    for step in range(shard.num_steps(num_rows)):
        batch_rows = shard.batch_rows(num_rows, shard.rank, step)
        while len(buffer) < batch_rows:
            rows, block_files = next(blocks)
            files = _union(files, block_files) if len(buffer) else block_files
            buffer = np.concatenate([buffer, rows]) if len(buffer) else rows
        moved, buffer = _to_device(buffer[:batch_rows], device), buffer[batch_rows:]
        ids, x = to_model_inputs(moved[:, first_slot:], fields)
        yield Batch(
            ids=ids,
            x=x,
            labels=moved[:, 0].float(),
            num_rows_all_ranks=sum(shard.batch_rows(num_rows, rank, step) for rank in range(shard.size)),
            files=files,
            weights=moved[:, 1].contiguous().view(torch.float32) if is_weighted else None,
        )


def _to_device(rows: np.ndarray, device: torch.device) -> Tensor:
    """Copy int32 rows to a device before they become wider; asynchronously, from pinned memory, to a GPU."""
    tensor = torch.from_numpy(rows)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def describe_batch(batch: Batch, fields: FieldSet) -> str:
    """Describe the files that contain a batch's rows and the range of each field, for error messages."""
    ranges = []
    for field in fields:
        slots = fields.slot_ranges[field.name]
        inputs = batch.x if field.is_value and batch.x is not None else batch.ids
        values = inputs[:, slots]
        ranges.append(f"{field.name} {values.min().item():g} to {values.max().item():g}")
    return f"its rows are in {', '.join(batch.files)}, with {', '.join(ranges)}"
