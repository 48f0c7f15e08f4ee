"""A rank's batches of a split: each row once an epoch over all ranks, in a new order each epoch, equal steps.

Petastorm's own sharding gives a rank the same row groups every epoch, and unequal steps where row groups are
unequal. Here the manifest's files get a new order each epoch, cut into equal runs of rows, one a rank;
Petastorm reads the files of a run in that order. It is given files, not the folder, so it never opens the
`_common_metadata` beside them, which it would unpickle.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from petastorm import make_batch_reader
from torch import Tensor

from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import DataFile, Manifest, fields_of
from deepfm.dataset.tensors import to_model_inputs
from deepfm.errors import UserError
from deepfm.fields import PADDING, FieldSet

#: Rows mixed in memory at a time: a file's rows are in random order already, so this mixes files.
SHUFFLE_ROWS = 4 * 65_536


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    ids: Tensor  # (B, S) int64
    x: Tensor | None  # (B, S) float32, the value of each feature; None where all are 1
    labels: Tensor  # (B,) float32
    num_rows_all_ranks: int
    files: tuple[str, ...] = ()  # of the dataset, that its rows are among

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; to a GPU it is on its way still, read by it from pinned memory."""
        pinned = device.type == "cuda"
        tensors = {"ids": self.ids, "x": self.x, "labels": self.labels}
        moved = {
            name: (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)
            for name, tensor in tensors.items()
            if tensor is not None
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Shard:
    """What one rank of many reads, `batch_size` rows a step at most."""

    rank: int
    size: int
    batch_size: int

    def share(self, num_rows: int, rank: int) -> tuple[int, int]:
        """First and last (excluded) row of a rank's run in an epoch's order; runs differ by a row at most."""
        return rank * num_rows // self.size, (rank + 1) * num_rows // self.size

    def num_steps(self, num_rows: int) -> int:
        """The same for every rank: one with a step more would wait for the others for ever."""
        longest = math.ceil(num_rows / self.size)
        return math.ceil(longest / self.batch_size)

    def batch_rows(self, num_rows: int, rank: int, step: int) -> int:
        """Rows of a rank's batch; its run is cut into `num_steps` almost equal pieces: none is left."""
        first, last = self.share(num_rows, rank)
        num_steps = self.num_steps(num_rows)
        return (step + 1) * (last - first) // num_steps - step * (last - first) // num_steps


@dataclass(frozen=True)
class RowRange:
    """Rows `start` to `stop` (excluded) of one file."""

    file: DataFile
    start: int
    stop: int


def row_ranges(files: list[DataFile], first: int, last: int) -> list[RowRange]:
    """The rows first to last (excluded) of the files laid end to end."""
    pieces, begin = [], 0
    for file in files:
        start, stop = max(first - begin, 0), min(last - begin, file.num_rows)
        if start < stop:
            pieces.append(RowRange(file, start, stop))
        begin += file.num_rows
    return pieces


def require_rows(dataset_url: str, manifest: Manifest, num_workers: int) -> None:
    """UserError where a split has fewer rows than there are workers."""
    for split in manifest.splits:
        _require_rows(dataset_url, manifest, split, num_workers)


def _require_rows(dataset_url: str, manifest: Manifest, split: str, num_workers: int) -> None:
    num_rows = manifest.splits[split].num_rows
    if num_rows < num_workers:
        raise UserError(
            f"{dataset_url}/{split}: expected at least a row for each of {num_workers} workers, found "
            f"{num_rows}; give fewer --num-workers or choose more days"
        )


def read_batches(
    dataset_url: str, manifest: Manifest, split: str, shard: Shard, *, epoch: int = 0, seed: int | None = None
) -> Iterator[Batch]:
    """This rank's batches of one epoch; with a seed in an order of (seed, epoch), else in that of the files.

    Raises UserError where a split has fewer rows than there are ranks.
    """
    part = manifest.splits[split]
    _require_rows(dataset_url, manifest, split, shard.size)
    files = list(part.files)
    if seed is not None:
        files = [files[place] for place in np.random.default_rng([seed, epoch]).permutation(len(files))]
    pieces = row_ranges(files, *shard.share(part.num_rows, shard.rank))
    rows = _rows(f"{dataset_url}/{split}", manifest, pieces)
    if seed is not None:
        rows = _mixed(rows, np.random.default_rng([seed, epoch, shard.rank]))
    yield from _batches(rows, part.num_rows, shard, manifest.fields)


#: (n, 1 + S) int32 rows, label first, and the files they are from.
Block = tuple[np.ndarray, tuple[str, ...]]


def _rows(folder: str, manifest: Manifest, pieces: list[RowRange]) -> Iterator[Block]:
    """Blocks, label first, row group by row group in the order of the pieces."""
    known = _known_ids(manifest)
    columns = [manifest.data.label, *manifest.fields.slots]
    urls = [f"{folder}/{piece.file.name}" for piece in pieces]
    with warnings.catch_warnings():
        # Petastorm uses what pyarrow calls deprecated, once a file.
        warnings.simplefilter("ignore", FutureWarning)
        reader = make_batch_reader(
            urls,
            schema_fields=columns,
            reader_pool_type="thread",
            workers_count=1,  # several hand over row groups in any order, where one falls behind
            shuffle_row_groups=False,
            # Endless, and left after the rows wanted here: at the end of an epoch Petastorm's pool takes
            # itself for done when the last row groups are still to be handed out, and drops them.
            num_epochs=None,
            convert_early_to_numpy=True,
        )
        # Not `with reader`: on leaving, Petastorm would print to stdout, which belongs to the job's summary.
        try:
            for (piece, begin, num_rows), group in zip(_row_groups(pieces), reader, strict=False):
                values = {name: getattr(group, name) for name in columns}
                found = len(values[columns[0]])
                if found != num_rows:
                    raise UserError(
                        f"{folder}/{piece.file.name}: expected a row group of {num_rows} rows, found one of "
                        f"{found}; the dataset is damaged: build it again"
                    )
                _require_known_ids(values, known, f"{folder}/{piece.file.name}")
                chosen = slice(max(piece.start - begin, 0), max(piece.stop - begin, 0))
                yield to_int32_matrix([column[chosen] for column in values.values()]), (piece.file.name,)
        finally:
            reader.stop()
            reader.join()
            # It is part of cycles, which Python may look for hours later: till then they would hold the row
            # groups that nobody took, 30 MB an epoch.
            for results in reader._workers_pool._results_queues:
                results.queue.clear()


#: A column of ids, its field, its lowest id and how many ids the field has.
_Known = list[tuple[str, str, int, int]]


def _known_ids(manifest: Manifest) -> _Known:
    return [
        (slot, field.name, PADDING if field.is_list else 0, num_ids)
        for field, num_ids in fields_of(manifest)
        if not field.is_value
        for slot in field.slots
    ]


def _require_known_ids(values: Mapping[str, np.ndarray], known: _Known, file: str) -> None:
    """UserError where an id is not its field's: in its place another field's row would be trained."""
    for slot, field, lowest, num_ids in known:
        ids = values[slot]
        # Not integers: a null among them.
        are_integers = ids.dtype.kind in "iu"
        if not are_integers or (len(ids) and not (lowest <= ids.min() and ids.max() < num_ids)):
            wrong = ids[(ids < lowest) | (ids >= num_ids)][0] if are_integers else "a null"
            raise UserError(
                f"{file}: expected ids of {field} from {lowest} to {num_ids - 1}, found {wrong}; the "
                "dataset is damaged: build it again"
            )


def _row_groups(pieces: list[RowRange]) -> list[tuple[RowRange, int, int]]:
    """(piece, first row in its file, rows) of every row group of the pieces' files."""
    return [
        (piece, sum(piece.file.row_groups[:at]), num_rows)
        for piece in pieces
        for at, num_rows in enumerate(piece.file.row_groups)
    ]


def _mixed(blocks: Iterator[Block], random: np.random.Generator) -> Iterator[Block]:
    """The same rows, put in random order within every SHUFFLE_ROWS or so."""
    held: list[np.ndarray] = []
    files: tuple[str, ...] = ()
    for block, of_block in blocks:
        held.append(block)
        files = _united(files, of_block)
        if sum(map(len, held)) >= SHUFFLE_ROWS:
            yield random.permutation(np.concatenate(held)), files
            held, files = [], ()
    if held:
        yield random.permutation(np.concatenate(held)), files


def _united(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(some + others))


def _batches(blocks: Iterator[Block], num_rows: int, shard: Shard, fields: FieldSet) -> Iterator[Batch]:
    held, files = np.empty((0, 1 + len(fields.slots)), np.int32), ()
    for step in range(shard.num_steps(num_rows)):
        wanted = shard.batch_rows(num_rows, shard.rank, step)
        while len(held) < wanted:
            block, of_block = next(blocks)
            files = _united(files, of_block) if len(held) else of_block
            held = np.concatenate([held, block]) if len(held) else block
        rows, held = held[:wanted], held[wanted:]
        ids, x = to_model_inputs(rows[:, 1:], fields)
        yield Batch(
            ids=ids,
            x=x,
            labels=torch.from_numpy(rows[:, 0]).float(),
            num_rows_all_ranks=sum(shard.batch_rows(num_rows, rank, step) for rank in range(shard.size)),
            files=files,
        )


def describe_batch(batch: Batch, fields: FieldSet) -> str:
    """Files that a batch's rows are among, and from where to where each field goes: to find what is wrong."""
    ranges = []
    for field in fields:
        slots = fields.slot_ranges[field.name]
        of_field = batch.x if field.is_value and batch.x is not None else batch.ids
        found = of_field[:, slots]
        ranges.append(f"{field.name} {found.min().item():g} to {found.max().item():g}")
    return f"its rows are among those of {', '.join(batch.files)}, with {', '.join(ranges)}"
