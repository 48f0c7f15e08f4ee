"""One log in 1, 7 and 64 partitions: the vocabulary files are identical, and so is the dataset digest."""

import numpy as np
import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.features.vocabulary import chunked, fit
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
    """Numbers of many magnitudes, so that a sum of floats depends on its order."""
    rng = np.random.default_rng(1)
    numbers = np.exp(rng.normal(0, 8, (NUM_ROWS, 2)))
    return [
        f"{row % 3 % 2}\t{row % 50}\t{q!r}\t{v!r}\tc{rng.zipf(1.5) % 400}\t2026-01-0{row % 4 + 1}\n"
        for row, (q, v) in enumerate(numbers.tolist())
    ]


@pytest.fixture
def built(spark, lines, tmp_path, monkeypatch):
    """Function: number of files, one partition each -> (bytes of the vocabulary files, digest)."""
    # Spark adds the cost of opening a file to its size: one file fills a partition.
    partition_bytes = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.openCostInBytes", partition_bytes)

    def build(num_files):
        folder = tmp_path / str(num_files)
        (folder / "log").mkdir(parents=True)
        shuffled = np.random.default_rng(num_files).permutation(lines)
        for number, part in enumerate(np.array_split(shuffled, num_files)):
            (folder / "log" / f"part-{number:05d}.tsv").write_text("".join(part))
        log = find_click_log(f"file://{folder}/log", SETTINGS)
        assert spark.read.text(f"file://{folder}/log").rdd.getNumPartitions() == num_files
        manifest = build_dataset(spark, log, SETTINGS, SPLIT, f"file://{folder}/dataset")
        assert manifest.splits["train"].num_rows == NUM_ROWS / 2
        names = ("vocabulary.parquet", "vocabulary.json", "rare_values.parquet")
        return [(folder / "dataset" / name).read_bytes() for name in names], manifest.digest

    yield build
    spark.conf.unset("spark.sql.files.openCostInBytes")


def test_fitting_on_spark_gives_the_same_dataset_as_on_the_driver(built, monkeypatch):
    expected = built(1)
    monkeypatch.setattr(fit, "MAX_COUNTS_ON_DRIVER", 0)
    monkeypatch.setattr(chunked, "NUM_CACHED_VALUES", 20)
    assert built(3) == expected


@pytest.mark.slow
def test_vocabulary_and_digest_do_not_depend_on_the_number_of_partitions(built):
    expected = built(1)
    assert built(7) == expected
    assert built(64) == expected
