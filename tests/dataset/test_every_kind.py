"""Hashed categories, from a click log to what a network takes, on real Spark, against ids worked out by hand."""

import pandas as pd
import pyarrow as pa
import pytest

from deepfm.config import DataSettings, parse_settings
from deepfm.dataset.build import build_dataset
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import Shard, read_batches
from deepfm.features.click_log import find_click_log
from deepfm.features.encode import Encoder
from deepfm.features.split import day_split
from deepfm.features.vocabulary import Vocabulary
from deepfm.registry.pyfunc import raw_from_frame

SETTINGS = parse_settings(
    {
        "format": "delimited",
        "columns": ["label", "H"],
        "fields": [{"kind": "category", "names": ["H"], "hash_buckets": 10}],
    },
    DataSettings,
    "test",
)
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")
#: By `printf a | b2sum -l 64` and so on, least byte first: modulo 10, a is in bucket 8 and new in 7.
LOG = {
    "2026-01-01": ["1\ta", "0\tnew"],
    "2026-01-02": ["0\t"],
    "2026-01-03": ["1\ta"],
    "2026-01-04": ["0\tnew", "1\t"],
}
#: (label, ids) of every row.
IDS = {
    "train": [(1, [10]), (0, [9]), (0, [0])],
    "valid": [(1, [10])],
    "test": [(0, [9]), (1, [0])],
}
NAMES = ("H",)
NUM_IDS = (12,)
#: The rows of the test day, as a client has them.
RAW = {"H": ["new", None]}


def build(spark, folder, log):
    for day, files in log.items():
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        for at, lines in enumerate(files):
            (folder / "log" / f"ds={day}" / f"{at}.tsv").write_text("".join(f"{line}\n" for line in lines))
    found = find_click_log(spark, f"file://{folder}/log", SETTINGS)
    build_dataset(spark, found, SETTINGS, SPLIT, f"file://{folder}/dataset")
    return f"file://{folder}/dataset"


@pytest.fixture(scope="module")
def dataset(spark, tmp_path_factory):
    return build(spark, tmp_path_factory.mktemp("whole"), {day: [lines] for day, lines in LOG.items()})


@pytest.fixture(scope="module")
def manifest(dataset):
    return read_manifest(dataset)


@pytest.fixture(scope="module")
def vocabulary(dataset):
    return Vocabulary.load(dataset)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_row_is_read_as_its_ids(dataset, manifest, split):
    batches = list(read_batches(dataset, manifest, split, Shard(0, 1, 2)))
    rows = [
        (label, ids) for batch in batches for label, ids in zip(batch.labels.tolist(), batch.ids.tolist())
    ]
    assert sorted(rows) == sorted(IDS[split])
    assert [batch.x for batch in batches] == [None] * len(batches)


def test_the_manifest_counts_the_ids_of_every_field(manifest):
    assert (manifest.fields.names, manifest.num_ids) == (NAMES, NUM_IDS)


def test_ids_do_not_depend_on_partitions(spark, manifest, tmp_path):
    one_a_file = {day: [[line] for line in reversed(lines)] for day, lines in LOG.items()}
    other = read_manifest(build(spark, tmp_path, one_a_file))
    assert (other.vocabulary, other.digest) == (manifest.vocabulary, manifest.digest)


def test_raw_rows_are_served_as_the_dataset_holds_them(vocabulary):
    raw = raw_from_frame(pd.DataFrame(RAW), vocabulary.fields)
    columns = Encoder(vocabulary).encode(raw)
    assert [list(row) for row in zip(*columns, strict=True)] == [ids for _, ids in IDS["test"]]
    assert raw.equals(pa.table(RAW))
