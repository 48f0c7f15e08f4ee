"""Batches of one rank: over all ranks each row once per epoch, in a new order, with equally many steps.

Petastorm's own sharding assigns the same row groups to a rank in every epoch, and unequal numbers of steps
if row groups are unequal. Here the files of the manifest are shuffled for each epoch, the sequence of their
rows is cut into one equal range per rank, and Petastorm reads the files of a range in that order. It gets
file URLs instead of the folder, so it never opens the file `_common_metadata`, which it would unpickle.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from petastorm import make_batch_reader
from torch import Tensor

from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import DataFile, Manifest, fields_with_num_ids
from deepfm.dataset.tensors import to_model_inputs
from deepfm.errors import UserError
from deepfm.fields import PADDING, FieldSet

#: Rows shuffled in memory at a time. The rows of a file are in random order already, so this mixes files.
SHUFFLE_ROWS = 4 * 65_536


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    ids: Tensor  # (B, S) int64
    x: Tensor | None  # (B, S) float32, the value of each feature; None if all are 1
    labels: Tensor  # (B,) float32
    num_rows_all_ranks: int
    files: tuple[str, ...] = ()  # files of the dataset that contain its rows

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device; the copy to a GPU is asynchronous, from pinned memory."""
        pinned = device.type == "cuda"
        tensors = {"ids": self.ids, "x": self.x, "labels": self.labels}
        moved: dict[str, Any] = {
            name: (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)
            for name, tensor in tensors.items()
            if tensor is not None
        }
        return replace(self, **moved)


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


@dataclass(frozen=True)
class RowRange:
    """Rows `start` to `stop` (exclusive) of one file."""

    file: DataFile
    start: int
    stop: int


def row_ranges(files: list[DataFile], first: int, last: int) -> list[RowRange]:
    """Return the ranges of rows first to last (exclusive) of the concatenated files."""
    ranges, file_start = [], 0
    for file in files:
        start, stop = max(first - file_start, 0), min(last - file_start, file.num_rows)
        if start < stop:
            ranges.append(RowRange(file, start, stop))
        file_start += file.num_rows
    return ranges


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


def read_batches(
    dataset_url: str, manifest: Manifest, split: str, shard: Shard, *, epoch: int = 0, seed: int | None = None
) -> Iterator[Batch]:
    """Yield this rank's batches of one epoch, shuffled by (seed, epoch); in file order if `seed` is None.

    Raise UserError if the split has fewer rows than there are ranks.
    """
    part = manifest.splits[split]
    _require_rows(dataset_url, manifest, split, shard.size)
    files = list(part.files)
    if seed is not None:
        files = [files[index] for index in np.random.default_rng([seed, epoch]).permutation(len(files))]
    ranges = row_ranges(files, *shard.row_bounds(part.num_rows, shard.rank))
    blocks = _read_blocks(f"{dataset_url}/{split}", manifest, ranges)
    if seed is not None:
        blocks = _shuffle(blocks, np.random.default_rng([seed, epoch, shard.rank]))
    yield from _to_batches(blocks, part.num_rows, shard, manifest.fields)


#: (n, 1 + S) int32 rows, label first, and the files that contain them.
Block = tuple[np.ndarray, tuple[str, ...]]


def _read_blocks(folder: str, manifest: Manifest, ranges: list[RowRange]) -> Iterator[Block]:
    """Yield the rows of each row group that are in the ranges, in their order."""
    id_bounds = _id_bounds(manifest)
    columns = [manifest.data.label, *manifest.fields.slots]
    with warnings.catch_warnings():
        # Petastorm calls deprecated functions of pyarrow for each file.
        warnings.simplefilter("ignore", FutureWarning)
        reader = make_batch_reader(
            [f"{folder}/{row_range.file.name}" for row_range in ranges],
            schema_fields=columns,
            reader_pool_type="thread",
            workers_count=1,  # several would return row groups in any order
            shuffle_row_groups=False,
            # Endless, stopped after the rows of one epoch: at the end of its last epoch, Petastorm's pool may
            # stop before the last row groups are returned, and drop them.
            num_epochs=None,
            convert_early_to_numpy=True,
        )
        # Not `with reader`: on exit Petastorm would print to stdout, which contains the job's summary.
        try:
            for (row_range, group_start, num_rows), group in zip(_row_groups(ranges), reader, strict=False):
                file = row_range.file.name
                values = {name: getattr(group, name) for name in columns}
                actual_rows = len(values[columns[0]])
                if actual_rows != num_rows:
                    raise UserError(
                        f"{folder}/{file}: expected a row group of {num_rows} rows, found one of "
                        f"{actual_rows}; the dataset is damaged: build it again"
                    )
                _require_valid_ids(values, id_bounds, f"{folder}/{file}")
                rows = slice(max(row_range.start - group_start, 0), max(row_range.stop - group_start, 0))
                yield to_int32_matrix([column[rows] for column in values.values()]), (file,)
        finally:
            reader.stop()
            reader.join()
            # The reader is part of reference cycles, which Python may collect hours later: until then the
            # queues would hold row groups that were not taken, 30 MB per epoch.
            for results in reader._workers_pool._results_queues:
                results.queue.clear()


#: A column of ids, its field, its lowest id, and the field's number of ids.
_IdBounds = list[tuple[str, str, int, int]]


def _id_bounds(manifest: Manifest) -> _IdBounds:
    return [
        (slot, field.name, PADDING if field.is_list else 0, num_ids)
        for field, num_ids in fields_with_num_ids(manifest)
        if not field.is_value
        for slot in field.slots
    ]


def _require_valid_ids(values: Mapping[str, np.ndarray], id_bounds: _IdBounds, file: str) -> None:
    """Raise UserError if an id is out of range: it would train an embedding of another field."""
    for slot, field, lowest, num_ids in id_bounds:
        ids = values[slot]
        # A column with nulls is not of integers.
        are_integers = ids.dtype.kind in "iu"
        if not are_integers or (len(ids) and not (lowest <= ids.min() and ids.max() < num_ids)):
            invalid = ids[(ids < lowest) | (ids >= num_ids)][0] if are_integers else "a null"
            raise UserError(
                f"{file}: expected ids of {field} from {lowest} to {num_ids - 1}, found {invalid}; the "
                "dataset is damaged: build it again"
            )


def _row_groups(ranges: list[RowRange]) -> list[tuple[RowRange, int, int]]:
    """Return (range, first row in its file, number of rows) of each row group of the files."""
    return [
        (row_range, sum(row_range.file.row_groups[:index]), num_rows)
        for row_range in ranges
        for index, num_rows in enumerate(row_range.file.row_groups)
    ]


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


def _to_batches(blocks: Iterator[Block], num_rows: int, shard: Shard, fields: FieldSet) -> Iterator[Batch]:
    buffer = np.empty((0, 1 + len(fields.slots)), np.int32)
    files: tuple[str, ...] = ()
    for step in range(shard.num_steps(num_rows)):
        batch_rows = shard.batch_rows(num_rows, shard.rank, step)
        while len(buffer) < batch_rows:
            rows, block_files = next(blocks)
            files = _union(files, block_files) if len(buffer) else block_files
            buffer = np.concatenate([buffer, rows]) if len(buffer) else rows
        rows, buffer = buffer[:batch_rows], buffer[batch_rows:]
        ids, x = to_model_inputs(rows[:, 1:], fields)
        yield Batch(
            ids=ids,
            x=x,
            labels=torch.from_numpy(rows[:, 0]).float(),
            num_rows_all_ranks=sum(shard.batch_rows(num_rows, rank, step) for rank in range(shard.size)),
            files=files,
        )


def describe_batch(batch: Batch, fields: FieldSet) -> str:
    """Describe the files that contain a batch's rows and the range of each field, for error messages."""
    ranges = []
    for field in fields:
        slots = fields.slot_ranges[field.name]
        inputs = batch.x if field.is_value and batch.x is not None else batch.ids
        values = inputs[:, slots]
        ranges.append(f"{field.name} {values.min().item():g} to {values.max().item():g}")
    return f"its rows are in {', '.join(batch.files)}, with {', '.join(ranges)}"
