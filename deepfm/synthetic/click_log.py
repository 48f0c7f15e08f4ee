"""Generator of a synthetic click log by day, in Criteo's layout, with known click probabilities.

    python -m deepfm.synthetic --days 8 --rows-per-day 250000 --seed 1 --output click_log

The best possible result on a real log is unknown; here it is known. Labels are drawn from known probabilities
(deepfm/synthetic/truth.py), whose AUC and logloss (the Bayes AUC and logloss) are printed: no model can be
better.
"""

import datetime
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from deepfm.errors import UserError
from deepfm.metrics.formulas import auc_from_counts, entropy, logloss, sigmoid
from deepfm.synthetic.codes import CATEGORIES, COUNTS, MISSING, Codes, draw_codes, mix
from deepfm.synthetic.truth import Truth

ROWS_PER_CHUNK = 100_000  # rows in memory at once
CHUNKS_PER_PART = 10  # at most a million impressions per file
_LOG_INTERVAL_S = 60.0
RAW_SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ["label", *COUNTS]] + [(name, pa.string()) for name in CATEGORIES]
)
TAB_SEPARATED = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")


def raw_table(truth: Truth, codes: Codes, labels: np.ndarray) -> pa.Table:
    """Codes and (B,) bool labels -> label, I1..I13 (int64), C1..C26 (8 hex digits), null if missing."""
    columns = {"label": pa.array(labels.astype(np.int64))}
    for name, count in COUNTS.items():
        columns[name] = pa.array(codes[name] + count.minimum, mask=codes[name] == MISSING)
    for name in CATEGORIES:
        digits = _hex_digits(truth, name, codes[name])
        present = np.packbits(codes[name] != MISSING, bitorder="little")
        ends = np.arange(0, 8 * len(labels) + 1, 8, dtype=np.int32)
        columns[name] = pa.StringArray.from_buffers(
            len(labels), pa.py_buffer(ends), pa.py_buffer(digits), pa.py_buffer(present)
        )
    return pa.table(columns, schema=RAW_SCHEMA)


def _hex_digits(truth: Truth, name: str, codes: np.ndarray) -> bytes:
    """8 hex digits per code, salted and mixed by a bijection, so that two values of a field always differ."""
    return mix(codes, truth.salts[name][0]).astype(">u4").tobytes().hex().encode()


def category_values(truth: Truth, name: str) -> list[str]:
    """Values of a category as in the log, indexed by code."""
    digits = _hex_digits(truth, name, np.arange(truth.categories[name].cardinality)).decode()
    return [digits[start : start + 8] for start in range(0, len(digits), 8)]


def generate_chunks(truth: Truth, day_index: int, num_rows: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield (raw table, (B,) true logits) of one day in chunks; the result is independent of other days."""
    for start in range(0, num_rows, ROWS_PER_CHUNK):
        rng = np.random.default_rng([truth.seed, 2, day_index, start])
        codes = draw_codes(rng, min(ROWS_PER_CHUNK, num_rows - start), truth.categories)
        codes = truth.with_new_values(codes, day_index)
        logits = truth.logit(codes, day_index)
        labels = rng.random(len(logits)) < sigmoid(logits)
        yield raw_table(truth, codes, labels), logits


def generate_day(truth: Truth, day_index: int, num_rows: int) -> tuple[pa.Table, np.ndarray]:
    """Generate one day in memory: its raw table and the (num_rows,) true click probabilities."""
    tables, logits = zip(*generate_chunks(truth, day_index, num_rows), strict=True)
    return pa.concat_tables(tables), sigmoid(np.concatenate(logits))


NUM_BINS = 2**20  # logit bins of width 0.00003: AUC is exact to about six digits, in constant memory
MAX_LOGIT = 16.0


@dataclass
class BayesScore:
    """AUC and logloss of the true logits against the drawn labels, over any number of chunks."""

    bins: np.ndarray = field(default_factory=lambda: np.zeros((2, NUM_BINS), np.int64))  # non-clicks, clicks
    sum_logloss: float = 0.0

    def update(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Add (B,) logits and (B,) labels of 0 and 1."""
        bins = ((logits / MAX_LOGIT + 1.0) * (NUM_BINS / 2)).clip(0, NUM_BINS - 1).astype(np.int64)
        self.bins += np.bincount(bins + labels * NUM_BINS, minlength=2 * NUM_BINS).reshape(2, NUM_BINS)
        self.sum_logloss += float(logloss(logits, labels).sum())

    def merge(self, other: "BayesScore") -> None:
        self.bins += other.bins
        self.sum_logloss += other.sum_logloss

    def compute(self) -> dict[str, float | int | None]:
        """Compute rows, ctr, bayes_auc (None if only one label occurs) and bayes_logloss (mean, in nats)."""
        others, clicks = self.bins
        num_others, num_clicks = int(others.sum()), int(clicks.sum())
        rows = num_others + num_clicks
        auc = auc_from_counts(others, clicks)
        return {
            "rows": rows,
            "ctr": num_clicks / rows,
            "bayes_auc": None if math.isnan(auc) else auc,
            "bayes_logloss": self.sum_logloss / rows,
        }


def write_log(
    truth: Truth,
    output: Path,
    num_days: int,
    rows_per_day: int,
    first_day: datetime.date = datetime.date(2026, 1, 1),
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """Write output/ds=YYYY-MM-DD/part-NNNNN.tsv and output/_truth.json; return the content of the latter.

    Days are renamed to their final names when all are complete; _truth.json comes last. Raise UserError if
    `output` is not a new or empty folder. A killed run leaves at most `_writing`, which Spark does not read.
    """
    started = time.monotonic()
    overall, by_day = BayesScore(), {}
    with _atomic_folder(output) as temporary_folder:
        for day_index in range(num_days):
            day = (first_day + datetime.timedelta(days=day_index)).isoformat()
            score = _write_day(truth, day_index, rows_per_day, temporary_folder / f"ds={day}", report)
            overall.merge(score)
            metrics = by_day[day] = score.compute()
            auc = float("nan") if metrics["bayes_auc"] is None else metrics["bayes_auc"]
            report(
                f"{day}: CTR {metrics['ctr']:.4f}, Bayes AUC {auc:.5f}, "
                f"logloss {metrics['bayes_logloss']:.5f}"
            )
        total = overall.compute()
        assert total["ctr"] is not None
        summary = total | {
            "days": num_days,
            "always_ctr_logloss": entropy(total["ctr"]),
            "output": str(output),
            "seconds": round(time.monotonic() - started, 2),
            "by_day": by_day,
        }
        (temporary_folder / "_truth.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def _atomic_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder; its entries move to `output` after the block, or are removed if it raises."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        existing = next(output.iterdir(), None)
        # Inside `output`, so that both names are on one file system and renaming is atomic.
        temporary_folder = output / "_writing"
        if existing is None:
            temporary_folder.mkdir()
    except OSError as error:
        raise UserError(f"cannot write into {output}: {error}; choose another output folder") from error
    if existing is not None:
        raise UserError(
            f"{output}: expected a new or empty folder, found {existing.name}; "
            "delete the folder or choose another"
        )
    try:
        yield temporary_folder
        # Reversed: _truth.json, which marks the log as complete, comes last.
        for entry in sorted(temporary_folder.iterdir(), reverse=True):
            entry.rename(output / entry.name)
    finally:
        shutil.rmtree(temporary_folder)


def _write_day(
    truth: Truth, day_index: int, num_rows: int, folder: Path, report: Callable[[str], None]
) -> BayesScore:
    folder.mkdir()
    score, started = BayesScore(), time.monotonic()
    last_report = started
    chunks, num_parts, num_written = generate_chunks(truth, day_index, num_rows), 0, 0
    while num_written < num_rows:
        part = folder / f"part-{num_parts:05d}.tsv"
        num_parts += 1
        with csv.CSVWriter(part, RAW_SCHEMA, write_options=TAB_SEPARATED) as file:
            for table, logits in islice(chunks, CHUNKS_PER_PART):
                file.write_table(table)
                score.update(logits, table["label"].to_numpy())
                num_written += len(logits)
        now = time.monotonic()
        if now - last_report >= _LOG_INTERVAL_S:
            last_report, rows_per_s = now, num_written / (now - started)
            remaining_s = (num_rows - num_written) / rows_per_s
            report(
                f"{folder.name}: {num_written:,} rows, {rows_per_s:,.0f} rows/s, "
                f"{remaining_s:.0f} s remaining"
            )
    return score
