"""Fields of many kinds, from a click log to what a network takes, on real Spark: ids worked out by hand."""

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
        "columns": ["label", "H", "U", "Q", "ts"],
        "fields": [
            {"kind": "category", "names": ["H"], "hash_buckets": 10},
            {"kind": "category", "names": ["U"], "min_count": 2, "unknown_buckets": 3},
            {"kind": "quantile", "names": ["Q"], "quantile_buckets": 2},
            {"kind": "time", "names": ["hour", "weekday", "day_part"]},
        ],
        "time_column": "ts",
        "time_format": "iso",
        "max_bad_fraction": 0.5,
    },
    DataSettings,
    "test",
)
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")
#: By `printf a | b2sum -l 64` and so on, least byte first: of H, a is in bucket 8 of 10 and new in 7. Of U, a
#: is known, being there twice, and c, h and d are in buckets 0, 1 and 2 of 3 for unknown values. Of Q
#: the training values are 1, 1 and 5: it is cut at 3. The days are in the times alone; the first is Thursday.
LOG = {
    "2026-01-01": [
        "1\ta\ta\t1.0\t2026-01-01 00:00:00",
        "0\tnew\tc\t5\t2026-01-01T23:59:59",
        "1\ta\ta\t1\tnoon",
    ],
    "2026-01-02": ["0\t\ta\t1\t2026-01-02 06:00:00"],
    "2026-01-03": ["1\ta\th\t3\t2026-01-03 12:00:00"],
    "2026-01-04": ["0\tnew\td\t3.1\t2026-01-04 18:30:00", "1\t\t\t\t2026-01-04 05:59:59"],
}
#: (label, ids) of every row.
IDS = {
    "train": [(1, [10, 4, 2, 2, 5, 2]), (0, [9, 1, 3, 25, 5, 5]), (0, [0, 4, 2, 8, 6, 3])],
    "valid": [(1, [10, 2, 2, 14, 7, 4])],
    "test": [(0, [9, 3, 3, 20, 8, 5]), (1, [0, 0, 0, 7, 8, 2])],
}
NAMES = ("H", "U", "Q", "hour", "weekday", "day_part")
NUM_IDS = (12, 5, 4, 26, 9, 6)
#: The rows of the test day, as a client has them.
RAW = {
    "H": ["new", None],
    "U": ["d", None],
    "Q": [3.1, None],
    "ts": ["2026-01-04 18:30:00", "2026-01-04 05:59:59"],
}


def build(spark, folder, log):
    (folder / "log").mkdir()
    for day, files in log.items():
        for at, lines in enumerate(files):
            (folder / "log" / f"{day}-{at}.tsv").write_text("".join(f"{line}\n" for line in lines))
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
    labels = [label for batch in batches for label in batch.labels.tolist()]
    ids = [ids for batch in batches for ids in batch.ids.tolist()]
    assert sorted(zip(labels, ids, strict=True)) == sorted(IDS[split])
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
    assert raw.drop(["hour", "weekday", "day_part"]).equals(pa.table(RAW).drop(["ts"]))


def test_a_row_whose_time_is_none_is_set_aside(manifest):
    assert manifest.input.bad_by_reason == {"time_not_a_time": 1}
    assert manifest.splits["train"].days == {"2026-01-01": 2, "2026-01-02": 1}
