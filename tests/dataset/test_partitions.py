"""One log in 1, 7 and 64 partitions: the very vocabulary, byte for byte, and the digest of one dataset."""

import numpy as np
import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.features.vocabulary import chunked as large_vocabulary
from deepfm.features.vocabulary import fit as learn
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

SETTINGS = parse_settings(
    {
        "format": "delimited",
        "columns": ["label", "I", "Q", "V", "C", "day"],
        "fields": [
            {"kind": "count", "names": ["I"]},
            {"kind": "quantile", "names": ["Q"], "quantile_buckets": 10},
            {"kind": "value", "names": ["V"]},
            {"kind": "category", "names": ["C"], "min_count": 2},
        ],
        "day_column": "day",
    },
    DataSettings,
    "test",
)
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")
NUM_ROWS = 1600


@pytest.fixture(scope="module")
def lines():
    """Numbers of many sizes, so that a sum of floats would tell in which order it was made."""
    random = np.random.default_rng(1)
    numbers = np.exp(random.normal(0, 8, (NUM_ROWS, 2)))
    return [
        f"{row % 3 % 2}\t{row % 50}\t{q!r}\t{v!r}\tc{random.zipf(1.5) % 400}\t2026-01-0{row % 4 + 1}\n"
        for row, (q, v) in enumerate(numbers.tolist())
    ]


@pytest.fixture
def built(spark, lines, tmp_path, monkeypatch):
    """Build from so many files, each a partition of its own -> (vocabulary's bytes, digest)."""
    # What Spark counts for opening a file, beside its bytes, fills a partition.
    most = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.openCostInBytes", most)

    def build(num_files):
        folder = tmp_path / str(num_files)
        (folder / "log").mkdir(parents=True)
        shuffled = np.random.default_rng(num_files).permutation(lines)
        for number, part in enumerate(np.array_split(shuffled, num_files)):
            (folder / "log" / f"part-{number:05d}.tsv").write_text("".join(part))
        log = find_click_log(spark, f"file://{folder}/log", SETTINGS)
        assert spark.read.text(f"file://{folder}/log").rdd.getNumPartitions() == num_files
        manifest = build_dataset(spark, log, SETTINGS, SPLIT, f"file://{folder}/dataset")
        assert manifest.splits["train"].num_rows == NUM_ROWS / 2
        names = ("vocabulary.parquet", "vocabulary.json", "rare_values.parquet")
        return [(folder / "dataset" / name).read_bytes() for name in names], manifest.digest

    yield build
    spark.conf.unset("spark.sql.files.openCostInBytes")


def test_values_too_many_for_the_driver_make_no_other_dataset(built, monkeypatch):
    once = built(1)
    monkeypatch.setattr(learn, "MAX_COUNTS_ON_DRIVER", 0)
    monkeypatch.setattr(large_vocabulary, "NUM_CACHED_VALUES", 20)
    assert built(3) == once


@pytest.mark.slow
def test_vocabulary_and_digest_are_those_of_one_partition(built):
    once = built(1)
    assert built(7) == once
    assert built(64) == once
