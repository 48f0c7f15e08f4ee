"""Datasets of synthetic logs, written by the package's encoder and writer without Spark."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from gpu_data import to_part

from deepfm import storage
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.data_file import ROWS_PER_FILE, write_data_file
from deepfm.dataset.manifest import InputLog, Manifest, SplitPart, write_manifest
from deepfm.features.counting import ValueCounts, sum_counts
from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import load_settings
from deepfm.synthetic.click_log import BayesScore, generate_chunks
from deepfm.synthetic.truth import Truth

_DATA = Path(__file__).resolve().parent.parent / "conf/data/criteo.yaml"
NUM_TRAIN_DAYS = 5


def write_synthetic_dataset(folder: Path, truth: Truth, num_rows: int, num_test_rows: int) -> dict:
    """Write `num_rows` training rows of five days, a validation day and a test day of other rows.

    Returns the Bayes metrics of the test day, see BayesScore.compute.
    """
    shutil.rmtree(folder, ignore_errors=True)
    data, url = load_settings(_DATA, DataSettings), f"file://{folder}"
    storage.make_folder(url)
    per_day = num_rows // NUM_TRAIN_DAYS
    days = {"train": list(range(NUM_TRAIN_DAYS)), "valid": [NUM_TRAIN_DAYS], "test": [NUM_TRAIN_DAYS + 1]}
    rows = {"train": per_day, "valid": per_day, "test": num_test_rows}
    vocabulary = _fit(
        data, (table for day in days["train"] for table, _ in generate_chunks(truth, day, per_day))
    )
    vocabulary.save(url)
    encoder, bayes, splits = Encoder(vocabulary), BayesScore(), {}
    for split, day_numbers in days.items():
        chunks = (chunk for day in day_numbers for chunk in generate_chunks(truth, day, rows[split]))
        splits[split] = _write_split(
            f"{url}/{split}", data, encoder, chunks, bayes if split == "test" else None
        )
    manifest = Manifest(
        created_at="",
        data=data,
        num_ids=vocabulary.num_ids,
        vocabulary=vocabulary.fingerprint,
        splits=splits,
        input=InputLog(url=url, days={}, rows_read=0, bad_by_reason={}),
    )
    write_manifest(url, manifest)
    return bayes.compute()


def _fit(data: DataSettings, tables: Iterator[pa.Table]) -> Vocabulary:
    counts = ValueCounts(data.field_set)
    for table in tables:
        counts.update(table)
        counts.compact()
    tables_by_field = [
        table.append_column("field", pa.array(np.full(len(table), index, np.int32))).select(
            ["field", "value", "num"]
        )
        for index, table in counts.drain()
    ]
    return Vocabulary.fit(data.field_set, sum_counts(tables_by_field))


def _write_split(
    url: str,
    data: DataSettings,
    encoder: Encoder,
    chunks: Iterator[tuple[pa.Table, np.ndarray]],
    bayes: BayesScore | None,
) -> SplitPart:
    storage.make_folder(url)
    random, encoded = np.random.default_rng(1), []
    for table, logits in chunks:
        labels = table["label"].to_numpy().astype(np.int32)
        if bayes:
            bayes.update(logits, labels)
        hashes = random.integers(-(2**63), 2**63 - 1, len(labels)).view(np.int32).reshape(-1, 2)
        encoded.append(np.column_stack([labels, hashes, to_int32_matrix(encoder.encode(table))]))
    rows = np.concatenate(encoded)
    rows = rows[random.permutation(len(rows))]
    parts = np.array_split(rows, -(-len(rows) // ROWS_PER_FILE))
    names = [f"part-{index:05d}.parquet" for index in range(len(parts))]
    written = [
        write_data_file(f"{url}/{name}", data.label, data.field_set, part)
        for name, part in zip(names, parts, strict=True)
    ]
    return to_part(names, written)
