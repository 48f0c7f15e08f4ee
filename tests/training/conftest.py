"""Ranks that are threads, and a dataset of a hundred rows."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deepfm.data_settings import DataSettings
from deepfm.dataset.manifest import DataFile, InputLog, Manifest, SplitPart, write_manifest


class ThreadWorld:
    """A rank that meets the others of its process; a rank that fails sets them free."""

    gpu = 0

    def __init__(self, rank, size, meetings):
        self.rank, self.size, self._meetings = rank, size, meetings
        self._num_met = Counter()

    def _exchange(self, content, name):
        # By name, as threads of one rank meet those of the others in any order.
        place, barrier = self._meetings.of(name, self._num_met[name])
        self._num_met[name] += 1
        place[self.rank] = content
        barrier.wait(timeout=20)
        return list(place)

    def leave(self):
        self._meetings.close()

    def sum_(self, tensors, name):
        self.start_sum(tensors, name)()

    def start_sum(self, tensors, name):
        copies = [tensor.clone() for tensor in tensors]

        def wait():
            everyones = self._exchange(copies, name)
            for tensor, parts in zip(tensors, zip(*everyones, strict=True), strict=True):
                tensor.copy_(sum(parts[1:], start=parts[0]))

        return wait

    def start_gather(self, tensor, name):
        copy = tensor.clone()
        return lambda: torch.cat(self._exchange(copy, name))

    def broadcast_(self, tensors, name):
        for tensor, first in zip(tensors, self._exchange([t.clone() for t in tensors], name)[0], strict=True):
            tensor.copy_(first)


class Meetings:
    """Where ranks that are threads meet: a place for the content of each, and a barrier."""

    def __init__(self, size):
        self._size, self._open, self._lock, self._closed = size, {}, threading.Lock(), False

    def of(self, name, number):
        with self._lock:
            if self._closed:
                raise threading.BrokenBarrierError
            new = ([None] * self._size, threading.Barrier(self._size))
            return self._open.setdefault((name, number), new)

    def close(self):
        """Set those free who wait for a rank that has left."""
        with self._lock:
            self._closed = True
            for _, barrier in self._open.values():
                if barrier.n_waiting:
                    barrier.abort()


@pytest.fixture
def in_ranks():
    """in_ranks(2, work) -> [work(world) of rank 0, that of rank 1], run at once; errors are results."""

    def run(size, work):
        meetings = Meetings(size)

        def as_rank(rank):
            world = ThreadWorld(rank, size, meetings)
            try:
                return work(world)
            except Exception as error:
                world.leave()
                return error

        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(as_rank, range(size)))

    return run


SETTINGS = DataSettings(
    format="delimited", columns=("label", "A", "B"), fields=({"kind": "category", "names": ("A", "B")},)
)
NUM_IDS = (4, 5)


def _write_split(folder, num_rows, num_files, random):
    folder.mkdir(parents=True)
    files, num_clicks = [], 0
    for number, share in enumerate(np.array_split(np.arange(num_rows), num_files)):
        a, b = (random.integers(0, n, len(share)).astype(np.int32) for n in NUM_IDS)
        label = random.integers(0, 2, len(share)).astype(np.int8)
        path = folder / f"part-{number}.parquet"
        pq.write_table(pa.table({"label": label, "A": a, "B": b}), path)
        files.append(DataFile(name=path.name, num_bytes=path.stat().st_size, row_groups=(len(share),)))
        num_clicks += int(label.sum())
    return SplitPart(num_rows=num_rows, num_clicks=num_clicks, days={"": num_rows}, files=files, digest="0")


@pytest.fixture(scope="session")
def dataset_url(tmp_path_factory):
    """A dataset of two fields and clicks by chance: 61 rows for training, 21 for validation, 20 for test."""
    folder = tmp_path_factory.mktemp("dataset")
    random = np.random.default_rng(0)
    rows = {"train": (61, 4), "valid": (21, 2), "test": (20, 2)}
    manifest = Manifest(
        created_at="2026-01-01T00:00:00+00:00",
        data=SETTINGS,
        num_ids=NUM_IDS,
        vocabulary="0",
        splits={name: _write_split(folder / name, *sizes, random) for name, sizes in rows.items()},
        input=InputLog(url="file:///log", days={}, rows_read=102, bad_by_reason={}),
    )
    write_manifest(f"file://{folder}", manifest)
    return f"file://{folder}"
