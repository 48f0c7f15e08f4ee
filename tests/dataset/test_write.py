"""Build of a dataset on real Spark: written files, errors, and files that remain after an error."""

import json
import os
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from petastorm import make_batch_reader

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import HashSplit, day_split
from deepfm.dataset import build
from deepfm.dataset.build import build_dataset
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import read_batches
from deepfm.dataset.shard import Shard
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.ownership import is_owner_file
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

#: Train on two days, validate on the third, test on the fourth; the fifth is not read.
LOG = {
    "2026-01-01": ["1\t7\ta", "0\t7\tb", "0\t\ta", "no row"],
    "2026-01-02": ["1\t-5\ta", "0\t0\tb", "0\t8\tonce", "2\t8\ta"],
    "2026-01-03": ["1\t7\tunseen", "0\t8\ta"],
    "2026-01-04": ["1\t100000\ta", "0\t\t"],
    "2026-01-05": ["this is not read"],
}
#: (label, I, C). C: a (3 times) has id 2, b (twice) has 3, `once` is too rare. I: 7 (twice) has id 2; -5, 0
#: and 8 occur once each, and follow in the order of their buckets "-1", "0" and "6".
ENCODED = {
    "train": [(0, 0, 2), (0, 2, 3), (0, 4, 3), (0, 5, 1), (1, 2, 2), (1, 3, 2)],
    "valid": [(0, 5, 2), (1, 2, 1)],
    "test": [(0, 0, 0), (1, 1, 2)],
}
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")


def settings(**changes):
    content = {
        "format": "delimited",
        "columns": ["label", "I", "C"],
        "fields": [
            {"kind": "count", "names": ["I"]},
            {"kind": "category", "names": ["C"], "min_count": 2},
        ],
        "max_bad_fraction": 0.2,
        "max_bad_labels": 0.2,
    }
    return parse_settings({**content, **changes}, DataSettings, "test")


def write_log(folder, days, files_per_day=1):
    """Write {day: lines} as ds= folders, the lines distributed over the files of their day."""
    for day, lines in days.items():
        (folder / f"ds={day}").mkdir(parents=True)
        for index in range(files_per_day):
            text = "".join(f"{line}\n" for line in lines[index::files_per_day])
            (folder / f"ds={day}" / f"{index}.tsv").write_text(text)


def build_from(spark, log_folder, output, *, split=SPLIT, **changes):
    log = find_click_log(f"file://{log_folder}", settings(**changes))
    return build_dataset(spark, log, settings(**changes), split, f"file://{output}")


def encoded(dataset, split):
    """Rows in the files of a split, sorted."""
    tables = [pq.read_table(path) for path in sorted((dataset / split).glob("*.parquet"))]
    return sorted(tuple(row.values()) for table in tables for row in table.to_pylist())


@pytest.fixture(scope="module")
def dataset(spark, tmp_path_factory):
    """A dataset from one file per day, at a path with a space."""
    folder = tmp_path_factory.mktemp("one file")
    write_log(folder / "log", LOG)
    build_from(spark, folder / "log", folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def rebuilt(spark, tmp_path_factory):
    """The same rows in another order in seven files per day, built in the folder of an interrupted build.

    Returns (folder, its entries just before the manifest was written).
    """
    folder = tmp_path_factory.mktemp("seven_files")
    rng = np.random.default_rng(1)
    write_log(folder / "log", {day: rng.permutation(lines).tolist() for day, lines in LOG.items()}, 7)
    output = folder / "dataset"
    (output / "train").mkdir(parents=True)
    (output / "_building").touch()
    (output / "train" / "part-of-interrupted-build.parquet").write_bytes(b"half a file")
    before_manifest = []

    def write_manifest(url, manifest):
        before_manifest.extend(sorted(os.listdir(output)))
        build_write_manifest(url, manifest)

    build_write_manifest = build.write_manifest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "write_manifest", write_manifest)
        build_from(spark, folder / "log", output)
    return output, before_manifest


@pytest.fixture(scope="module")
def manifest(dataset):
    return read_manifest(f"file://{dataset}")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_each_good_row_of_a_split_is_written_once_as_ids(dataset, split):
    assert encoded(dataset, split) == ENCODED[split]


def test_the_manifest_counts_read_and_written_rows(manifest):
    train = manifest.splits["train"]
    assert (train.num_rows, train.num_clicks) == (6, 2)
    assert train.days == {"2026-01-01": 3, "2026-01-02": 3}
    assert manifest.num_ids == (6, 4)
    assert manifest.input.rows_read == 12
    assert manifest.input.bad_by_reason == {"label_not_0_or_1": 1, "wrong_number_of_columns": 1}
    assert manifest.input.days["train"] == ("2026-01-01", "2026-01-02")


def test_the_vocabulary_is_in_the_dataset_and_has_training_values_only(dataset, manifest):
    vocabulary = Vocabulary.load(f"file://{dataset}")
    assert [values.to_pylist() for values in vocabulary.values] == [["5", "-1", "0", "6"], ["a", "b"]]
    assert vocabulary.fingerprint == manifest.vocabulary


def test_bad_rows_are_stored_with_file_text_and_reason(dataset):
    lines = [
        line for path in (dataset / "_rejected").glob("*.json") for line in path.read_text().splitlines()
    ]
    rejected = sorted((json.loads(line) for line in lines), key=lambda row: row["reason"])
    assert [(row["text"], row["reason"]) for row in rejected] == [
        ("2\t8\ta", "label_not_0_or_1"),
        ("no row", "wrong_number_of_columns"),
    ]
    assert rejected[0]["source_file"].endswith("/ds=2026-01-02/0.tsv")


def test_each_file_is_one_row_group(dataset, manifest):
    for file in manifest.splits["train"].files:
        metadata = pq.ParquetFile(dataset / "train" / file.name).metadata
        assert (metadata.num_rows,) == file.row_groups
    assert sum(file.num_rows for file in manifest.splits["train"].files) == 6


def test_ids_are_stored_as_integers(dataset):
    path = next((dataset / "train").glob("*.parquet"))
    assert [str(dtype) for dtype in pq.read_schema(path).types] == ["int8", "int32", "int32"]


def test_our_reader_can_read_the_dataset(dataset, manifest):
    batches = list(read_batches(f"file://{dataset}", manifest, "train", Shard(0, 1, 4), seed=1))
    rows = [
        (label, *ids)
        for b in batches
        for label, ids in zip(b.labels.int().tolist(), b.ids.tolist(), strict=True)
    ]
    assert sorted(rows) == ENCODED["train"]


def test_petastorms_own_reader_can_read_the_dataset(dataset):
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with make_batch_reader(f"file://{dataset}/train", reader_pool_type="dummy", num_epochs=1) as reader:
            assert list(reader.schema.fields) == ["label", "I", "C"]
            for group in reader:
                rows += list(zip(group.label.tolist(), group.I.tolist(), group.C.tolist(), strict=True))
    assert sorted(rows) == ENCODED["train"]


def test_ids_do_not_depend_on_row_order(dataset, rebuilt):
    for split in ENCODED:
        assert encoded(rebuilt[0], split) == encoded(dataset, split)


def test_vocabulary_and_digest_do_not_depend_on_row_order_and_files(manifest, rebuilt):
    other = read_manifest(f"file://{rebuilt[0]}")
    assert other.vocabulary == manifest.vocabulary
    assert other.digest == manifest.digest
    assert other.input.bad_by_reason == manifest.input.bad_by_reason


def test_an_interrupted_build_is_replaced_by_a_rerun(rebuilt):
    output, _ = rebuilt
    assert not (output / "train" / "part-of-interrupted-build.parquet").exists()
    assert not (output / "_building").exists()


def test_the_manifest_is_written_last(rebuilt):
    output, before_manifest = rebuilt
    expected = {"_building", "_rejected", "train", "valid", "test", "vocabulary.json", "vocabulary.parquet"}
    expected |= {"profile.json", "profile.html", "rare_values.parquet"}
    assert {name for name in before_manifest if not is_owner_file(name)} == expected
    assert set(os.listdir(output)) == expected - {"_building"} | {"manifest.json"}


def test_the_same_build_again_reuses_the_dataset_unchanged(spark, dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    again = build_from(spark, dataset.parent / "log", dataset)
    assert again == read_manifest(f"file://{dataset}")
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"max_bad_fraction": 0.9}, "the data YAML"),
        ({"split": day_split("2026-01-01", "2026-01-03", "2026-01-04")}, "days, files"),
    ],
)
def test_a_complete_dataset_is_never_replaced(spark, dataset, changes, differences):
    message = rf"is already a complete dataset .*\({differences}\); choose another --output"
    with pytest.raises(UserError, match=message):
        build_from(spark, dataset.parent / "log", dataset, **changes)
    assert encoded(dataset, "test") == ENCODED["test"]


def test_a_log_with_new_files_counts_as_another_log(spark, dataset):
    log = dataset.parent / "log"
    late = log / "ds=2026-01-01" / "late.tsv"
    late.write_text("1\t5\ta\n")
    try:
        with pytest.raises(UserError, match=r"is already a complete dataset .*\(files\)"):
            build_from(spark, log, dataset)
    finally:
        late.unlink()


@pytest.mark.parametrize("name", ["thesis.txt", ".hidden", "_SUCCESS"])
def test_a_foreign_folder_is_never_cleared(spark, dataset, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match="expected a new or empty folder, found other files"):
        build_from(spark, dataset.parent / "log", tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_file_with_the_name_of_the_output_is_kept(spark, dataset, tmp_path):
    (tmp_path / "thesis").write_text("precious")
    with pytest.raises(UserError, match="expected a new or empty folder"):
        build_from(spark, dataset.parent / "log", tmp_path / "thesis")
    assert (tmp_path / "thesis").read_text() == "precious"


def test_a_missing_day_is_an_error_and_leaves_no_files(spark, dataset, tmp_path):
    split = day_split("2026-01-01:2026-01-03", "2026-01-04", "2026-01-06")
    with pytest.raises(
        UserError, match="expected a folder for every requested day, found none for 2026-01-06"
    ):
        build_from(spark, dataset.parent / "log", tmp_path / "out", split=split)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lines", [[], ["bad", "worse"]])
def test_a_day_without_a_row_that_fits_is_an_error(spark, tmp_path, lines):
    write_log(tmp_path / "log", {**LOG, "2026-01-02": lines})
    with pytest.raises(UserError, match="expected impressions of 2026-01-02, found no row that fits"):
        build_from(spark, tmp_path / "log", tmp_path / "out", max_bad_fraction=1.0, max_bad_labels=1.0)
    # The rejected rows remain, for people to read; everything else is removed.
    assert sorted(os.listdir(tmp_path / "out")) == ["_building", "_rejected"]


def test_too_many_bad_rows_publish_nothing(spark, tmp_path):
    write_log(tmp_path / "log", {day: ["1\ta"] for day in LOG})
    with pytest.raises(
        UserError,
        match=r"4 of 4 rows do not fit \(4 wrong_number_of_columns; 1 of them in file:\S+ds=2026-01-01/",
    ) as caught:
        build_from(spark, tmp_path / "log", tmp_path / "out")
    assert f"see file://{tmp_path}/out/_rejected" in str(caught.value)
    with pytest.raises(UserError, match="the build did not finish"):
        read_manifest(f"file://{tmp_path}/out")


def test_a_split_without_rows_is_an_error_and_leaves_no_files(spark, tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.tsv").write_text("1\t7\ta\n")
    with pytest.raises(UserError, match=r"found no row that fits in the (train|valid|test) split"):
        build_from(spark, tmp_path / "log", tmp_path / "out", split=HashSplit(0.1, 0.1))
    assert not (tmp_path / "out").exists()
