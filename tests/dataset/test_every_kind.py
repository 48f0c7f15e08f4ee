"""Fields of all kinds, from a click log to model inputs, on real Spark, with ids computed by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deepfm.artifact.pyfunc import raw_from_frame
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.profiling.dataset_profile import read_dataset_profile
from deepfm.dataset.read import read_batches
from deepfm.dataset.shard import Shard
from deepfm.errors import UserError
from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

SETTINGS = parse_settings(
    {
        "format": "delimited",
        "columns": ["label", "H", "U", "Q", "T", "ts"],
        "fields": [
            {"kind": "category", "names": ["H"], "hash_buckets": 10},
            {"kind": "category", "names": ["U"], "min_count": 2, "unknown_buckets": 3},
            {"kind": "quantile", "names": ["Q"], "quantile_buckets": 2},
            {"kind": "list", "names": ["T"], "max_values": 2, "separator": " "},
            {"kind": "time", "names": ["hour", "weekday", "day_part"]},
        ],
        "time_column": "ts",
        "time_format": "iso",
        "max_bad_fraction": 0.5,
        "max_bad_labels": 0.5,
    },
    DataSettings,
    "test",
)
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")
#: By `printf a | b2sum -l 64` etc., least significant byte first: H: a is in bucket 8 of 10, new in 7. U: a
#: occurs twice and is known; c, h and d are in buckets 0, 1 and 2 of the 3 for unknown values. Q: the
#: training values are 1, 1 and 5, and the boundary is 3. T: y counts twice and x once; z exceeds max_values.
#: Days follow from the times; the first is a Thursday.
LOG = {
    "2026-01-01": [
        "1\ta\ta\t1.0\tx y z\t2026-01-01 00:00:00",
        "0\tnew\tc\t5\t y\t2026-01-01T23:59:59",
        "1\ta\ta\t1\tx\tnoon",
    ],
    "2026-01-02": ["0\t\ta\t1\t\t2026-01-02 06:00:00"],
    "2026-01-03": ["1\ta\th\t3\tq\t2026-01-03 12:00:00"],
    "2026-01-04": ["0\tnew\td\t3.1\tz y x\t2026-01-04 18:30:00", "1\t\t\t\t  \t2026-01-04 05:59:59"],
}
#: (label, ids) of each row.
IDS = {
    "train": [
        (1, [10, 4, 2, 3, 2, 2, 5, 2]),
        (0, [9, 1, 3, 2, -1, 25, 5, 5]),
        (0, [0, 4, 2, 0, -1, 8, 6, 3]),
    ],
    "valid": [(1, [10, 2, 2, 1, -1, 14, 7, 4])],
    "test": [(0, [9, 3, 3, 1, 2, 20, 8, 5]), (1, [0, 0, 0, 0, -1, 7, 8, 2])],
}
NAMES = ("H", "U", "Q", "T", "hour", "weekday", "day_part")
NUM_IDS = (12, 5, 4, 4, 26, 9, 6)
#: Rows of the test day, as a client sends them.
RAW = {
    "H": ["new", None],
    "U": ["d", None],
    "Q": [3.1, None],
    "T": ["z y x", ""],
    "ts": ["2026-01-04 18:30:00", "2026-01-04 05:59:59"],
}


def build(spark, folder, log):
    (folder / "log").mkdir()
    for day, files in log.items():
        for index, lines in enumerate(files):
            (folder / "log" / f"{day}-{index}.tsv").write_text("".join(f"{line}\n" for line in lines))
    click_log = find_click_log(f"file://{folder}/log", SETTINGS)
    build_dataset(spark, click_log, SETTINGS, SPLIT, f"file://{folder}/dataset")
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
def test_each_row_is_read_as_its_ids(dataset, manifest, split):
    batches = list(read_batches(dataset, manifest, split, Shard(0, 1, 2)))
    labels = [label for batch in batches for label in batch.labels.tolist()]
    ids = [ids for batch in batches for ids in batch.ids.tolist()]
    assert sorted(zip(labels, ids, strict=True)) == sorted(IDS[split])
    # Lists are pooled by their mean; every other x is 1.
    x = torch.cat([batch.x for batch in batches])
    has_second = torch.cat([batch.ids for batch in batches])[:, 4] >= 0
    assert x[:, 3:5].tolist() == [[0.5, 0.5] if second else [1.0, 0.0] for second in has_second]
    assert (x[:, [0, 1, 2, 5, 6, 7]] == 1).all()


def test_the_manifest_contains_the_number_of_ids_of_each_field(manifest):
    assert (manifest.fields.names, manifest.num_ids) == (NAMES, NUM_IDS)


def test_ids_do_not_depend_on_partitions(spark, manifest, tmp_path):
    one_per_file = {day: [[line] for line in reversed(lines)] for day, lines in LOG.items()}
    other = read_manifest(build(spark, tmp_path, one_per_file))
    assert (other.vocabulary, other.digest) == (manifest.vocabulary, manifest.digest)


def test_raw_rows_are_encoded_for_serving_as_in_the_dataset(vocabulary):
    raw = raw_from_frame(pd.DataFrame(RAW), vocabulary.fields)
    columns = Encoder(vocabulary).encode(raw)
    assert [list(row) for row in zip(*columns, strict=True)] == [ids for _, ids in IDS["test"]]
    same = pa.table(RAW).drop(["T", "ts"])
    assert raw.select(same.column_names).to_pydict() == same.to_pydict()
    assert raw.column("T").to_pylist() == [["z", "y", "x"], None]


def test_a_row_with_an_invalid_time_is_rejected(manifest):
    assert manifest.input.bad_by_reason == {"time_not_a_time": 1}
    assert manifest.splits["train"].days == {"2026-01-01": 2, "2026-01-02": 1}


def test_truncated_lists_are_counted_and_cause_a_warning(dataset):
    profile = read_dataset_profile(dataset)
    (tags,) = [field for field in profile.fields if field.name == "T"]
    assert (tags.share_cut, tags.missing["train"]) == (pytest.approx(1 / 3), pytest.approx(1 / 4))
    assert [(value.name, value.num_rows) for value in tags.top] == [("y", 2), ("x", 1)]
    assert "cut" in [warning.name for warning in profile.warnings if warning.field == "T"]


def test_a_list_has_the_same_values_as_text_and_as_an_array(spark, manifest, tmp_path):
    columns, log = SETTINGS.columns, tmp_path / "log"
    log.mkdir()
    for day, lines in LOG.items():
        rows = dict(zip(columns, zip(*(line.split("\t") for line in lines), strict=True), strict=True))
        rows["T"] = pa.array([[None, *tags.split(), ""] for tags in rows["T"]], pa.list_(pa.string()))
        pq.write_table(pa.table(rows), log / f"{day}.parquet")
    groups = [group.model_dump(exclude_none=True) for group in SETTINGS.fields]
    content = SETTINGS.model_dump() | {"format": "parquet", "columns": (), "fields": groups}
    with pytest.raises(UserError, match="expected column T to be text, found list<.*string>; remove its"):
        find_click_log(f"file://{log}", parse_settings(content, DataSettings, "test"))
    for group in groups:
        group.pop("separator", None)
    settings = parse_settings(content, DataSettings, "test")
    click_log = find_click_log(f"file://{log}", settings)
    other = build_dataset(spark, click_log, settings, SPLIT, f"file://{tmp_path}/dataset")
    assert (other.num_ids, other.splits["train"].digest) == (
        manifest.num_ids,
        manifest.splits["train"].digest,
    )
    served = raw_from_frame(pd.DataFrame({**RAW, "T": [np.array(["z", "y", "x"]), None]}), other.fields)
    columns = Encoder(Vocabulary.load(f"file://{tmp_path}/dataset")).encode(served)
    assert [list(row) for row in zip(*columns, strict=True)] == [ids for _, ids in IDS["test"]]
