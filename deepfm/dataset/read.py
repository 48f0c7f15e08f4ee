"""Batches of one rank: over all ranks each row once per epoch, in a new order, with equally many steps.

Petastorm's own sharding assigns the same row groups to a rank in every epoch, and unequal numbers of steps
if row groups are unequal. Here the files of the manifest are shuffled for each epoch, the sequence of their
rows is cut into one equal range per rank, and Petastorm reads the files of a range in that order. It gets
file URLs instead of the folder, so it never opens the file `_common_metadata`, which it would unpickle.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepfm.dataset.manifest import DataFile, Manifest
from deepfm.dataset.row_groups import Block, group_rows, read_blocks, row_ranges
from deepfm.dataset.shard import Piece, Segment, Shard, remaining_rows, starting_ranks
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
    segments: Sequence[Segment] = (),
    num_done: int = 0,
    device: torch.device = _CPU,
    num_readers: int = 1,
) -> Iterator[Batch]:
    """Yield this rank's batches of one epoch, shuffled by (seed, epoch); in file order if `seed` is None.

    `num_done`: steps of the epoch to skip; those of `segments` were taken by other numbers of ranks, and
    these ranks share the rows that are left. `device`: of the batches; `num_readers`: files that are read at
    once, which does not change the batches. Raise UserError if the split has fewer rows than there are ranks.
    """
    part = manifest.splits[split]
    _require_rows(dataset_url, manifest, split, shard.size)
    files = list(part.files)
    if seed is not None:
        files = [files[index] for index in np.random.default_rng([seed, epoch]).permutation(len(files))]
    rows = remaining_rows(part.num_rows, shard, segments)
    first_step = num_done - sum(segment.num_steps for segment in segments)
    first, last = shard.row_bounds(rows.num_rows, shard.rank)
    first += shard.rows_before(rows.num_rows, shard.rank, first_step)
    reader = _EpochReader(
        f"{dataset_url}/{split}",
        manifest,
        files,
        Shard(0, starting_ranks(shard.size, segments), shard.batch_size),
        None if seed is None else (seed, epoch),
        num_readers,
    )
    blocks = reader.read(rows.between(first, last).pieces)
    yield from _to_batches(blocks, rows.num_rows, shard, first_step, manifest, device)


@dataclass(frozen=True)
class _EpochReader:
    """Reads rows of one epoch, in the order in which the ranks that started it read them."""

    folder: str
    manifest: Manifest
    files: list[DataFile]  # in the order of the epoch
    starting_shard: Shard  # of any rank
    seed: tuple[int, int] | None  # None: rows are not shuffled
    num_readers: int

    def read(self, pieces: Sequence[Piece]) -> Iterator[Block]:
        """Yield the rows of the pieces, in their order."""
        num_rows = sum(file.num_rows for file in self.files)
        for rank, start, stop in pieces:
            first, last = self.starting_shard.row_bounds(num_rows, rank)
            if self.seed is None:
                yield from self._read_rows(first + start, first + stop)
            else:
                yield from self._read_shuffled(first, last, Piece(rank, start, stop), (*self.seed, rank))

    def _read_rows(self, first: int, last: int) -> Iterator[Block]:
        ranges = row_ranges(self.files, first, last)
        return read_blocks(self.folder, self.manifest, ranges, self.num_readers)

    def _read_shuffled(self, first: int, last: int, piece: Piece, seed: tuple[int, ...]) -> Iterator[Block]:
        """Read a piece of the shuffled rows first to last; row groups that it does not need are skipped."""
        rng, begin, end = np.random.default_rng(seed), 0, 0
        for chunk_rows in _chunks(group_rows(row_ranges(self.files, first, last))):
            if end + chunk_rows <= piece.start:
                rng.permutation(chunk_rows)  # leaves `rng` as if the chunk had been shuffled
                begin += chunk_rows
            if end < piece.stop:
                end += chunk_rows
        blocks = _shuffle(self._read_rows(first + begin, first + end), rng)
        return _cut(blocks, piece.start - begin, piece.stop - begin)


def _chunks(block_rows: Sequence[int]) -> Iterator[int]:
    """Yield the number of rows of each chunk that `_shuffle` shuffles, from those of its blocks."""
    num_rows = 0
    for rows in block_rows:
        num_rows += rows
        if num_rows >= SHUFFLE_ROWS:
            yield num_rows
            num_rows = 0
    if num_rows:
        yield num_rows


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


def _cut(blocks: Iterator[Block], start: int, stop: int) -> Iterator[Block]:
    """Yield rows start to stop (exclusive) of the blocks."""
    position = 0
    for rows, files in blocks:
        yield rows[max(start - position, 0) : max(stop - position, 0)], files
        position += len(rows)


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def _to_batches(
    blocks: Iterator[Block],
    num_rows: int,
    shard: Shard,
    first_step: int,
    manifest: Manifest,
    device: torch.device,
) -> Iterator[Batch]:
    is_weighted, fields = manifest.data.weight_column is not None, manifest.fields
    first_slot = 2 if is_weighted else 1
    buffer = np.empty((0, first_slot + len(fields.slots)), np.int32)
    files: tuple[str, ...] = ()
    for step in range(first_step, shard.num_steps(num_rows)):
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
