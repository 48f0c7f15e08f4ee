"""Raw rows of a log, distributed over Spark tasks."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import count_rows, raw_rows
from deepfm.click_log.split import HashSplit
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

FIELDS = [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}]
SETTINGS = parse_settings(
    {"format": "delimited", "columns": ["label", "I", "C"], "fields": FIELDS}, DataSettings, "test"
)
WITH_HEADER = parse_settings(
    {"format": "delimited", "delimiter": ",", "header": True, "fields": FIELDS}, DataSettings, "test"
)


def find_log(spark, folder, settings=SETTINGS):
    return find_click_log(f"file://{folder}", settings)


def test_bytes_reach_the_parser_unchanged(tmp_path, spark):
    lines = [b"\xff\xfe", b"a\x00b", b"", b"\r", b"caf\xc3\xa9 ", b"last"]
    (tmp_path / "log.tsv").write_bytes(b"\n".join(lines))
    rows = raw_rows(spark, find_log(spark, tmp_path)).frame().collect()
    assert [bytes(row.line) for row in rows] == [line + b"\n" for line in lines]
    assert rows[0].source_file.endswith("/log.tsv")


@pytest.mark.parametrize("partition_bytes", ["700", "1m"])
def test_every_line_is_read_once_whatever_the_partition_size(tmp_path, spark, partition_bytes):
    expected = []
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"ds={day}").mkdir()
        for name in "ab":
            lines = [f"1\t{n}\t{name * (n % 30)}" for n in range(50)]
            (tmp_path / f"ds={day}" / f"{name}.tsv").write_text("\n".join(lines))
            expected += [(day, line) for line in lines]
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", partition_bytes)
    try:
        rows = raw_rows(spark, find_log(spark, tmp_path)).frame().collect()
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)
    assert [(row.ds, row.line.decode().removesuffix("\n")) for row in rows] == expected


@pytest.mark.parametrize("num_rows", [0, 3, 5, 9])
def test_head_returns_the_rows_that_tasks_read_first(tmp_path, spark, num_rows):
    for name in "ab":
        (tmp_path / f"{name}.tsv").write_text("".join(f"1\t{n}\t{name}\n" for n in range(3)))
    rows = raw_rows(spark, find_log(spark, tmp_path))
    expected = [row.asDict() for row in rows.frame().collect()[:num_rows]]
    assert rows.head(num_rows).to_pylist() == expected


def test_head_of_a_parquet_log_is_text(tmp_path, spark):
    columns = {"label": pa.array([1, 0]), "I": pa.array([7, None]), "C": pa.array(["a", None])}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    settings = parse_settings({"format": "parquet", "fields": FIELDS}, DataSettings, "test")
    head = raw_rows(spark, find_log(spark, tmp_path, settings)).head(9)
    assert head.select(["label", "I", "C"]).to_pylist() == [
        {"label": "1", "I": "7", "C": "a"},
        {"label": "0", "I": None, "C": None},
    ]


def test_lines_are_counted_without_headers(tmp_path, spark):
    for name in ("a b", "c:d%"):
        (tmp_path / f"{name}.csv").write_text("label,I,C\n1,7,a\n0,8,b\n")
    assert count_rows(spark, find_log(spark, tmp_path, WITH_HEADER)) == 4


@pytest.fixture(scope="module")
def hashes(spark, tmp_path_factory):
    """Hashes of 5000 rows in one file, and of the same rows shuffled over seven files."""
    rows = [f"{n % 2}\t{n}\tv{n % 7}" for n in range(5000)]
    shuffled = np.random.default_rng(1).permutation(rows).tolist()
    hashes = []
    for name, files in (("one", [rows]), ("seven", [shuffled[start::7] for start in range(7)])):
        folder = tmp_path_factory.mktemp(name)
        for number, lines in enumerate(files):
            (folder / f"{number}.tsv").write_text("".join(f"{line}\n" for line in lines))
        frame = raw_rows(spark, find_log(spark, folder)).frame().toPandas()
        hashes.append(pd.Series(frame["row_hash"].to_numpy(), frame["line"].map(bytes)).to_dict())
    return hashes


def test_a_rows_hash_does_not_depend_on_file_or_order(hashes):
    one, seven = hashes
    assert len(set(one.values())) == len(one) == 5000
    assert one == seven


def test_a_log_without_days_is_split_into_the_requested_shares(hashes):
    row_hashes = np.array(list(hashes[0].values()), np.int64)
    shares = np.bincount(HashSplit(0.1, 0.2).codes(SimpleNamespace(row_hashes=row_hashes))) / 5000
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.02)
