"""Rows of a split's files, by Petastorm: row groups in order, checked and as int32 matrices."""

import warnings
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from petastorm import make_batch_reader
from pyarrow.filesystem import DaskFileSystem

from deepfm import storage
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import DataFile, Manifest, fields_with_num_ids
from deepfm.errors import UserError
from deepfm.fields import PADDING
from deepfm.settings.data import DataSettings


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


#: (n, 1 + S) int32 rows, label first, and the files that contain them. In a dataset with weights, (n, 2 + S):
#: the bits of the float32 weight follow the label.
Block = tuple[np.ndarray, tuple[str, ...]]


def read_blocks(
    folder: str, manifest: Manifest, ranges: list[RowRange], num_readers: int = 1
) -> Iterator[Block]:
    """Yield the rows of each row group that are in the ranges, in their order.

    With several readers, each reads every n-th file, ahead, in threads: decoding needs no interpreter lock.
    """
    # Readers take turns after one row group, so files must have a single one, as those of dataset.write.
    if any(len(row_range.file.row_groups) > 1 for row_range in ranges):
        num_readers = 1
    num_readers = max(1, min(num_readers, len(ranges)))
    with storage.explain_errors(folder), warnings.catch_warnings():
        # Petastorm calls deprecated functions of pyarrow for each file.
        warnings.simplefilter("ignore", FutureWarning)
        if num_readers == 1:
            yield from _read_in_turn(folder, manifest, ranges)
        else:
            shares = [ranges[first::num_readers] for first in range(num_readers)]
            readers = [_read_in_turn(folder, manifest, share, _GROUPS_AHEAD) for share in shares]
            yield from _take_turns(readers, len(ranges))


def _take_turns(readers: list[Generator[Block, None, None]], num_blocks: int) -> Iterator[Block]:
    """Yield one block of each reader in turn, each taken ahead by a thread."""
    with ThreadPoolExecutor(len(readers)) as pool:
        started = deque(pool.submit(next, reader) for reader in readers)
        try:
            for index in range(num_blocks):
                yield started.popleft().result()
                if index + len(readers) < num_blocks:
                    started.append(pool.submit(next, readers[index % len(readers)]))
        finally:
            wait(started)
            for reader in readers:
                reader.close()


def dataset_columns(data: DataSettings) -> list[str]:
    """Columns of a dataset before the slots: the label, and the weight if there is one."""
    return [data.label_name] if data.weight_column is None else [data.label_name, data.weight_column]


def _read_in_turn(
    folder: str, manifest: Manifest, ranges: list[RowRange], max_ahead: int = 50
) -> Generator[Block, None, None]:
    """Read with one reader, which decodes up to `max_ahead` row groups ahead."""
    id_bounds = _id_bounds(manifest)
    columns = [*dataset_columns(manifest.data), *manifest.fields.slots]
    reader = make_batch_reader(
        [f"{folder}/{row_range.file.name}" for row_range in ranges],
        schema_fields=columns,
        reader_pool_type="thread",
        workers_count=1,  # several would return row groups in any order
        results_queue_size=max_ahead,
        shuffle_row_groups=False,
        # Endless, stopped after the rows of one epoch: at the end of its last epoch, Petastorm's pool may
        # stop before the last row groups are returned, and drop them.
        num_epochs=None,
        convert_early_to_numpy=True,
        filesystem=_petastorm_filesystem(folder),
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
            rows = slice(*_rows_of_group(row_range, group_start))
            yield to_int32_matrix([column[rows] for column in values.values()]), (file,)
    finally:
        reader.stop()
        reader.join()
        # The reader is part of reference cycles, which Python may collect hours later: until then the
        # queues would hold row groups that were not taken, 30 MB per epoch.
        for results in reader._workers_pool._results_queues:
            results.queue.clear()


#: Row groups that each of several readers decodes ahead; their number times this is in memory.
_GROUPS_AHEAD = 2

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


def _rows_of_group(row_range: RowRange, group_start: int) -> tuple[int, int]:
    return max(row_range.start - group_start, 0), max(row_range.stop - group_start, 0)


def group_rows(ranges: list[RowRange]) -> list[int]:
    """Return the number of rows of each block of `read_blocks`."""
    bounds = [(_rows_of_group(one, start), num_rows) for one, start, num_rows in _row_groups(ranges)]
    return [max(min(stop, num_rows) - start, 0) for (start, stop), num_rows in bounds]


def _row_groups(ranges: list[RowRange]) -> list[tuple[RowRange, int, int]]:
    """Return (range, first row in its file, number of rows) of each row group of the files."""
    return [
        (row_range, sum(row_range.file.row_groups[:index]), num_rows)
        for row_range in ranges
        for index, num_rows in enumerate(row_range.file.row_groups)
    ]


class _FormerFileSystem(DaskFileSystem):
    """An fsspec filesystem with the interface that Petastorm expects, pyarrow's former one."""

    def isfile(self, path: str) -> bool:
        return self.fs.isfile(path)

    def isdir(self, path: str) -> bool:
        return self.fs.isdir(path)


def _petastorm_filesystem(url: str) -> DaskFileSystem | None:
    """Filesystem to pass to Petastorm for an object store; None: Petastorm finds its own.

    Petastorm would pass fsspec's to pyarrow with options that pyarrow 14 only takes with its former ones.
    """
    return _FormerFileSystem(storage.open_filesystem(url)[0]) if storage.is_object_store(url) else None
