"""Data of the GPU check: batches in device memory, and a dataset written without Spark."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepfm import storage
from deepfm.dataset.data_file import ROWS_PER_FILE, WrittenFile, write_data_file
from deepfm.dataset.manifest import DataFile, InputLog, Manifest, SplitPart, read_manifest, write_manifest
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import load_settings

NUM_FIELDS = 39
_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Batch:
    """Impressions with ids by Zipf's law, and clicks that depend on the ids."""

    ids: Tensor
    labels: Tensor
    num_rows_all_ranks: int
    x: Tensor | None = None


def draw_rows(rng: np.random.Generator, num_rows: int, field_ids: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw (n, 39) int32 ids with probability proportional to 1 / (1 + id), and (n,) int32 labels."""
    ids = (field_ids ** rng.random((num_rows, NUM_FIELDS), np.float32)).astype(np.int32) - 1
    # The weight of an id is a fixed function of it, so that there is something to learn.
    weights = np.sin(12.9898 * ids + np.arange(NUM_FIELDS)) * 0.3
    probabilities = 1 / (1 + np.exp(1.2 - weights.sum(axis=1)))
    return ids.clip(0, field_ids - 1), (rng.random(num_rows) < probabilities).astype(np.int32)


def draw_batches(
    num_batches: int, num_rows: int, num_ids: int, device: torch.device, seed: int = 1
) -> list[Batch]:
    """Draw batches in the memory of a device."""
    batches = []
    for index in range(num_batches):
        ids, labels = draw_rows(np.random.default_rng([seed, index]), num_rows, num_ids // NUM_FIELDS)
        moved = torch.from_numpy(ids).to(device).long()
        batches.append(Batch(moved, torch.from_numpy(labels).float().to(device), num_rows))
    return batches


def write_dataset(
    folder: Path, num_files: int, num_ids: int, num_processes: int, rows_per_file: int = ROWS_PER_FILE
) -> Manifest:
    """Write a dataset in Criteo's layout by the package's writer, with `num_files` files for training."""
    data = load_settings(_REPOSITORY / "conf/data/criteo.yaml", DataSettings)
    url, field_ids = f"file://{folder}", num_ids // NUM_FIELDS
    vocabulary = _vocabulary(data, field_ids)
    storage.make_folder(url)
    vocabulary.save(url)
    splits = {}
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
        for seed, (split, number) in enumerate({"train": num_files, "valid": 1, "test": 1}.items()):
            storage.make_folder(f"{url}/{split}")
            names = [f"part-{index:05d}.parquet" for index in range(number)]
            jobs = [(f"{url}/{split}/{name}", seed, index) for index, name in enumerate(names)]
            written = list(pool.map(partial(_write_file, data, field_ids, rows_per_file), jobs))
            splits[split] = to_part(names, written)
    manifest = Manifest(
        created_at="",
        data=data,
        num_ids=vocabulary.num_ids,
        vocabulary=vocabulary.fingerprint,
        splits=splits,
        input=InputLog(url=url, days={}, rows_read=0, bad_by_reason={}),
    )
    write_manifest(url, manifest)
    return read_manifest(url)


def _vocabulary(data: DataSettings, field_ids: int) -> Vocabulary:
    fields = data.field_set
    values = [pa.array(map(str, range(field_ids - field.first_known_id))) for field in fields]
    counts = [pa.array(np.ones(len(known), np.int64)) for known in values]
    return Vocabulary(fields, values, counts)


def _write_file(data: DataSettings, field_ids: int, num_rows: int, job: tuple[str, int, int]) -> WrittenFile:
    url, *seeds = job
    rng = np.random.default_rng(seeds)
    ids, labels = draw_rows(rng, num_rows, field_ids)
    hashes = rng.integers(-(2**63), 2**63 - 1, num_rows).view(np.int32).reshape(-1, 2)
    return write_data_file(url, data.label, data.field_set, np.column_stack([labels, hashes, ids]))


def to_part(names: list[str], written: list[WrittenFile]) -> SplitPart:
    """Describe the written files of a split for the manifest."""
    files = [
        DataFile(name=name, num_bytes=file.num_bytes, row_groups=(file.num_rows,))
        for name, file in zip(names, written, strict=True)
    ]
    num_rows, num_clicks = (sum(getattr(file, key) for file in written) for key in ("num_rows", "num_clicks"))
    digest = f"{sum(file.digest for file in written) % 2**64:016x}"
    return SplitPart(
        num_rows=num_rows, num_clicks=num_clicks, days={"": num_rows}, files=tuple(files), digest=digest
    )


def repeated(batches: list[Batch], num_steps: int) -> Iterator[Batch]:
    """Yield `num_steps` batches, from the first again after the last."""
    for step in range(num_steps):
        yield batches[step % len(batches)]
