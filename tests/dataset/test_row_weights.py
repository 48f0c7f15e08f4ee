"""Datasets of weighted and of aggregated logs: files, manifest and batches."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.dataset.data_file import write_data_file
from deepfm.dataset.manifest import WeightSums, read_manifest
from deepfm.dataset.profiling.dataset_profile import read_dataset_profile
from deepfm.dataset.read import read_batches
from deepfm.dataset.shard import Shard
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

#: impressions, clicks, C. In training `a` has 9 impressions, `b` has 2, and `rare` 1.
LOG = {
    "2026-01-01": ["6\t2\ta", "3\t0\ta", "2\t2\tb", "1\t0\trare", "1\t2\tmore clicks than impressions"],
    "2026-01-02": ["10\t1\ta"],
    "2026-01-03": ["4\t1\tb", "5\t0\ta"],
}
SPLIT = day_split("2026-01-01", "2026-01-02", "2026-01-03")


def build(spark, folder, log, split=SPLIT, **changes):
    content = {
        "format": "delimited",
        "columns": ["n", "k", "C"],
        "fields": [{"kind": "category", "names": ["C"], "min_count": 2}],
        "max_bad_fraction": 0.2,
        "max_bad_labels": 0.2,
    }
    settings = parse_settings({**content, **changes}, DataSettings, "test")
    for day, lines in log.items():
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        (folder / "log" / f"ds={day}" / "log.tsv").write_text("".join(f"{line}\n" for line in lines))
    found = find_click_log(f"file://{folder}/log", settings)
    return build_dataset(spark, found, settings, split, f"file://{folder}/dataset")


def written(folder, split):
    """Sorted (label, weight, id) rows of a split."""
    tables = [pq.read_table(path) for path in sorted((folder / "dataset" / split).glob("*.parquet"))]
    return sorted(tuple(row.values()) for table in tables for row in table.to_pylist())


def test_an_aggregated_log_becomes_weighted_rows(spark, tmp_path):
    manifest = build(spark, tmp_path, LOG, impressions="n", clicks="k")
    assert written(tmp_path, "train") == [(0, 1, 1), (0, 3, 2), (0, 4, 2), (1, 2, 2), (1, 2, 3)]
    train, test = manifest.splits["train"], manifest.splits["test"]
    assert (train.num_rows, train.num_clicks) == (5, 2)
    assert train.weights == WeightSums(weight=12, click_weight=4)
    assert train.day_weights == {"2026-01-01": WeightSums(weight=12, click_weight=4)}
    assert test.ctr == pytest.approx(1 / 9)
    # Rows of the log, not of the dataset.
    assert manifest.input.rows_read == 8
    assert manifest.input.bad_by_reason == {"clicks_not_within_impressions": 1}
    # Counted by impressions, `b` reaches min_count and `rare` does not.
    assert Vocabulary.load(f"file://{tmp_path}/dataset").values[0].to_pylist() == ["a", "b"]
    url = f"file://{tmp_path}/dataset"
    assert read_manifest(url) == manifest
    batches = list(read_batches(url, manifest, "train", Shard(0, 1, 2), seed=1))
    rows = torch.cat([torch.stack([batch.labels, batch.weights, batch.ids[:, 0]], 1) for batch in batches])
    assert sorted(map(tuple, rows.tolist())) == written(tmp_path, "train")
    profile = read_dataset_profile(url)
    assert [(rows.split, rows.num_rows, rows.ctr) for rows in profile.splits] == [
        ("train", 5, pytest.approx(4 / 12)),
        ("valid", 2, pytest.approx(1 / 10)),
        ("test", 3, pytest.approx(1 / 9)),
    ]
    top = [(value.name, value.num_rows, value.ctr) for value in profile.fields[0].top]
    assert top == [("a", 9, pytest.approx(2 / 9)), ("b", 2, 1.0)]
    assert profile.fields[0].unknown == {"train": pytest.approx(1 / 12), "valid": 0, "test": 0}


def test_weights_of_zero_only_are_refused(spark, tmp_path):
    log = {"2026-01-01": ["1\t1\ta"], "2026-01-02": ["1\t1\ta"], "2026-01-03": ["0\t0\ta", "1\t0\ta"]}
    with pytest.raises(UserError, match="weights above 0 in the test split"):
        build(spark, tmp_path, log, label="n", weight="k")


FIELDS = FieldSet([Field(name="C", kind="category")])


def data_file(tmp_path, weights, labels=(1, 0), hashes=(5, 5)):
    """Write rows with ids 2, 3, …; returns the result and the table."""
    url = f"{tmp_path}/{len(list(tmp_path.iterdir()))}.parquet"
    columns = [np.array(labels, np.int32), np.array(hashes, np.int64).view(np.int32).reshape(-1, 2)]
    columns += [np.array(weights, np.float32).view(np.int32)] if weights else []
    rows = np.column_stack([*columns, np.full(len(labels), 2, np.int32)])
    result = write_data_file(f"file://{url}", "y", FIELDS, rows, "w" if weights else None)
    return result, pq.read_table(url)


def test_rows_of_one_hash_have_a_defined_order(tmp_path):
    (one, table), (other, swapped) = data_file(tmp_path, (2.5, 7)), data_file(tmp_path, (7, 2.5), (0, 1))
    assert table.to_pylist() == [{"y": 0, "w": 7, "C": 2}, {"y": 1, "w": 2.5, "C": 2}]
    assert (table, one) == (swapped, other)
    assert (one.weight, one.click_weight) == (9.5, 2.5)


def test_the_digest_depends_on_weights_that_are_written(tmp_path):
    digests = {data_file(tmp_path, weights)[0].digest for weights in ((1, 1), (1, 2), (2, 1), None)}
    assert len(digests) == 4


def test_an_unweighted_file_has_no_column_of_weights(tmp_path):
    result, table = data_file(tmp_path, None)
    assert table.column_names == ["y", "C"]
    assert (result.weight, result.click_weight) == (2, 1)
