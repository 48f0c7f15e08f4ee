"""A click log with a planted truth, by day, in Criteo's layout.

    python -m deepfm.cli.synthetic --days 8 --rows-per-day 250000 --seed 1 --output click_log

Real logs do not tell how good a model could have been; this one does. Its labels are drawn from known
probabilities (deepfm/synthetic/truth.py), whose own AUC and logloss are printed: the Bayes figures, which no
model can beat.
"""

import datetime
import json
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
from deepfm.synthetic.truth import CATEGORIES, COUNTS, MISSING, Codes, Truth, draw_codes, mix, sigmoid

ROWS_PER_CHUNK = 100_000  # what is held in memory at once
CHUNKS_PER_PART = 10  # so a file holds at most a million impressions
_LINE_EVERY_S = 60.0
RAW_SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ["label", *COUNTS]] + [(name, pa.string()) for name in CATEGORIES]
)
TAB_SEPARATED = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")


def raw_table(truth: Truth, codes: Codes, labels: np.ndarray) -> pa.Table:
    """Codes and (B,) bool labels -> label, I1..I13 (int64), C1..C26 (8 hex digits), null where missing."""
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
    """8 a code, salted and mixed by a bijection, so two values of a field never share theirs."""
    return mix(codes, truth.salts[name][0]).astype(">u4").tobytes().hex().encode()


def category_values(truth: Truth, name: str) -> list[str]:
    """A category's values as the log has them, by code: what was planted of a value is found by its place."""
    digits = _hex_digits(truth, name, np.arange(CATEGORIES[name].cardinality)).decode()
    return [digits[start : start + 8] for start in range(0, len(digits), 8)]


def generate_chunks(truth: Truth, day_index: int, num_rows: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield (raw table, (B,) true logits) of one day, ROWS_PER_CHUNK rows at a time; no other day matters."""
    for start in range(0, num_rows, ROWS_PER_CHUNK):
        rng = np.random.default_rng([truth.seed, 2, day_index, start])
        codes = draw_codes(rng, min(ROWS_PER_CHUNK, num_rows - start))
        codes = truth.newcomers(codes, day_index)
        logits = truth.logit(codes, day_index)
        labels = rng.random(len(logits)) < sigmoid(logits)
        yield raw_table(truth, codes, labels), logits


def generate_day(truth: Truth, day_index: int, num_rows: int) -> tuple[pa.Table, np.ndarray]:
    """One day in memory: its raw table and the (num_rows,) true click probabilities."""
    tables, logits = zip(*generate_chunks(truth, day_index, num_rows), strict=True)
    return pa.concat_tables(tables), sigmoid(np.concatenate(logits))


NUM_BINS = 2**20  # logits fall into bins 0.00003 wide: AUC is exact to about six digits, in flat memory
MAX_LOGIT = 16.0


@dataclass
class BayesScore:
    """AUC and logloss of true logits against drawn labels, over any number of chunks."""

    bins: np.ndarray = field(default_factory=lambda: np.zeros((2, NUM_BINS), np.int64))  # non-clicks, clicks
    sum_logloss: float = 0.0

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """(B,) logits and (B,) labels of 0 and 1."""
        of_logit = ((logits / MAX_LOGIT + 1.0) * (NUM_BINS / 2)).clip(0, NUM_BINS - 1).astype(np.int64)
        self.bins += np.bincount(of_logit + labels * NUM_BINS, minlength=2 * NUM_BINS).reshape(2, NUM_BINS)
        self.sum_logloss += float((np.logaddexp(0.0, logits) - labels * logits).sum())

    def merge(self, other: "BayesScore") -> None:
        self.bins += other.bins
        self.sum_logloss += other.sum_logloss

    def summary(self) -> dict[str, float | int | None]:
        """rows, ctr, bayes_auc (None where only one label occurs) and bayes_logloss (nats per impression)."""
        others, clicks = self.bins
        num_others, num_clicks = int(others.sum()), int(clicks.sum())
        rows = num_others + num_clicks
        # AUC: the share of (click, non-click) pairs in which the click has the higher logit; ties count half.
        won = clicks @ (np.cumsum(others) - others / 2.0)
        return {
            "rows": rows,
            "ctr": num_clicks / rows,
            "bayes_auc": float(won / num_clicks / num_others) if num_clicks and num_others else None,
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
    """Write output/ds=YYYY-MM-DD/part-NNNNN.tsv and output/_truth.json; return what the latter holds.

    Days take their final names only when all are complete, and _truth.json comes last. Raises UserError where
    `output` is not a new or empty folder. A killed run leaves at most `_writing`, which Spark does not read.
    """
    started = time.monotonic()
    overall, by_day = BayesScore(), {}
    with _published(output) as writing:
        for day_index in range(num_days):
            day = (first_day + datetime.timedelta(days=day_index)).isoformat()
            score = _write_day(truth, day_index, rows_per_day, writing / f"ds={day}", report)
            overall.merge(score)
            of_day = by_day[day] = score.summary()
            auc = float("nan") if of_day["bayes_auc"] is None else of_day["bayes_auc"]
            report(
                f"{day}: CTR {of_day['ctr']:.4f}, Bayes AUC {auc:.5f}, logloss {of_day['bayes_logloss']:.5f}"
            )
        total = overall.summary()
        summary = total | {
            "days": num_days,
            "always_ctr_logloss": _entropy(total["ctr"]),
            "output": str(output),
            "seconds": round(time.monotonic() - started, 2),
            "by_day": by_day,
        }
        (writing / "_truth.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def _published(output: Path) -> Iterator[Path]:
    """A folder to write into; its entries move to `output` if the block ends well, else vanish."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        found = next(output.iterdir(), None)
        # Inside `output`, so that both names are on one file system and a rename is all or nothing.
        writing = output / "_writing"
        if found is None:
            writing.mkdir()
    except OSError as error:
        raise UserError(f"cannot write into {output} ({error}); choose another output folder") from error
    if found is not None:
        raise UserError(
            f"{output} was expected to be new or empty but holds {found.name}; "
            "delete the folder or choose another"
        )
    try:
        yield writing
        for entry in sorted(
            writing.iterdir(), reverse=True
        ):  # _truth.json, which says "complete", sorts last
            entry.rename(output / entry.name)
    finally:
        shutil.rmtree(writing)


def _write_day(
    truth: Truth, day_index: int, num_rows: int, folder: Path, report: Callable[[str], None]
) -> BayesScore:
    folder.mkdir()
    score, started, told_at = BayesScore(), time.monotonic(), time.monotonic()
    chunks, num_parts, written = generate_chunks(truth, day_index, num_rows), 0, 0
    while written < num_rows:
        part = folder / f"part-{num_parts:05d}.tsv"
        num_parts += 1
        with csv.CSVWriter(part, RAW_SCHEMA, write_options=TAB_SEPARATED) as file:
            for table, logits in islice(chunks, CHUNKS_PER_PART):
                file.write_table(table)
                score.add(logits, table["label"].to_numpy())
                written += len(logits)
        now = time.monotonic()
        if now - told_at >= _LINE_EVERY_S:
            told_at, speed = now, written / (now - started)
            left_s = (num_rows - written) / speed
            report(f"{folder.name}: {written:,} rows, {speed:,.0f} rows/s, {left_s:.0f} s left today")
    return score


def _entropy(ctr: float) -> float:
    """Logloss of always answering with the mean click rate, in nats: what a model must at least beat."""
    return -sum(p * float(np.log(p)) for p in (ctr, 1.0 - ctr) if p)
