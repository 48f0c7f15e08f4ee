"""Statistics of a log in one pass; their Spark part is tested in tests/dataset/test_write.py."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.split import DaySplit, HashSplit
from deepfm.features import statistics
from deepfm.features.parsed_blocks import HASH, LABEL, PART
from deepfm.features.statistics import RowCounts, collect_statistics, value_counts
from deepfm.fields import Field, FieldSet
from deepfm.kinds.scaling import Moments
from deepfm.spark.scratch import read_table

FIELDS = FieldSet([Field(name="I", kind="count"), Field(name="C", kind="category")])
FORMAT = RowFormat(columns=("label", "I", "C"), fields=FIELDS, delimiter="\t", label="label")
DAYS = DaySplit((("2026-01-01", "2026-01-02"), ("2026-01-03", "2026-01-03"), ("2026-01-04", "2026-01-04")))


class OnePartition:
    """Replacement for RawRows: applies a function to tables in this process."""

    def __init__(self, *tables):
        self._tables = tables

    def map(self, function, schema):
        table = pa.Table.from_batches(list(function(iter(self._tables))), statistics._ARROW_SCHEMA)
        return SimpleNamespace(collect=lambda: [SimpleNamespace(**row) for row in table.to_pylist()])


def batch(*rows):
    """(day, line) rows -> a table of raw rows."""
    return pa.Table.from_pydict(
        {
            "line": pa.array([line + b"\n" for _, line in rows], pa.binary()),
            "source_file": pa.array(["log.tsv"] * len(rows), pa.string()),
            "ds": pa.array([day for day, _ in rows], pa.string()),
            "row_hash": pa.array(np.arange(len(rows)), pa.int64()),
        }
    )


@pytest.fixture
def collect(tmp_path):
    """Collect the statistics of tables."""

    def collect(*batches, row_format=FORMAT, split=DAYS, **settings):
        return collect_statistics(OnePartition(*batches), row_format, split, f"file://{tmp_path}", **settings)

    return collect


def values(stats):
    return {(FIELDS[row["field"]].name, row["value"]): row["num"] for row in value_counts(stats).to_pylist()}


LOG = batch(
    ("2026-01-01", b"1\t7\ta"),
    ("2026-01-01", b"0\t7\tb"),
    ("2026-01-02", b"0\t\ta"),
    ("2026-01-02", b"bad"),
    ("2026-01-03", b"1\t0\tonly on the validation day"),
    ("2026-01-04", b"1\t0\tonly on the test day"),
    ("2026-01-05", b"1\t0\tonly on a day outside"),
)


def test_rows_and_clicks_are_counted_by_part_and_day(collect):
    assert collect(LOG).counts.by_day == {
        "train": {"2026-01-01": (2, 1), "2026-01-02": (1, 0)},
        "valid": {"2026-01-03": (1, 1)},
        "test": {"2026-01-04": (1, 1)},
        "outside": {"2026-01-05": (1, 1)},
    }


def test_statistics_do_not_depend_on_batches(collect):
    whole = collect(LOG)
    in_parts = collect(*(LOG.slice(row, 1) for row in range(LOG.num_rows)))
    assert in_parts.counts == whole.counts
    assert values(in_parts) == values(whole)


def test_vocabulary_never_sees_validation_days(collect):
    # 7 falls into bucket 5: floor(log(7)^2) + 2.
    assert values(collect(LOG)) == {("I", "5"): 2, ("C", "a"): 2, ("C", "b"): 1}


def test_parsed_rows_of_all_splits_are_kept(collect):
    stats = collect(LOG)
    (block,) = [read_table(stats.scratch_url, name) for name in stats.blocks]
    assert block.select(["I", "C", PART, LABEL, HASH]).to_pydict() == {
        "I": [7, 7, None, 0, 0],
        "C": ["a", "b", "a", "only on the validation day", "only on the test day"],
        PART: [0, 0, 0, 1, 2],
        LABEL: [1, 0, 0, 1, 1],
        HASH: [0, 1, 2, 4, 5],
    }


def test_sampled_out_rows_are_counted_but_their_values_are_not(collect):
    log = batch(*[("2026-01-01", f"{n % 2}\t7\tv{n}".encode()) for n in range(2000)])
    stats = collect(log, keep_negatives=0.25)
    num_kept = stats.counts.num_rows("train") - 1000
    left_out = {"2026-01-01": (1000 - num_kept, 0)}
    kept = {"2026-01-01": (1000 + num_kept, 1000)}
    assert stats.counts.by_day == {"train": kept, "valid": {}, "test": {}, "sampled_out": left_out}
    assert 200 < num_kept < 300
    assert stats.counts.num_read == 2000
    assert values(stats)[("I", "5")] == 1000 + num_kept


def test_truncated_lists_of_training_rows_are_counted(collect):
    fields = FieldSet([Field(name="T", kind="list", max_values=2, separator=" ")])
    row_format = RowFormat(columns=("label", "T"), fields=fields, delimiter="\t", label="label")
    rows = [("2026-01-01", b"1\ta b c"), ("2026-01-02", b"0\ta b"), ("2026-01-03", b"1\ta b c")]
    stats = collect(batch(*rows), row_format=row_format)
    assert stats.num_truncated == {0: 1}
    assert {row["value"]: row["num"] for row in value_counts(stats).to_pylist()} == {"a": 2, "b": 2}


def test_bad_rows_are_counted_by_reason_and_kept_with_file_and_text(collect):
    stats = collect(batch(("2026-01-01", b"bad"), ("2026-01-01", b"7\t7\ta"), ("2026-01-01", b"worse")))
    assert stats.counts.bad_by_reason == {"label_not_0_or_1": 1, "wrong_number_of_columns": 2}
    (bad,) = [read_table(stats.scratch_url, name).to_pylist() for name in stats.bad_tables]
    assert [tuple(row.values()) for row in bad] == [
        ("log.tsv", "bad", "wrong_number_of_columns"),
        ("log.tsv", "7\t7\ta", "label_not_0_or_1"),
        ("log.tsv", "worse", "wrong_number_of_columns"),
    ]


def test_a_log_without_days_is_counted_under_the_empty_day(collect):
    stats = collect(batch((None, b"1\t7\ta"), (None, b"0\t7\ta")), split=HashSplit(0.0, 0.0))
    assert stats.counts.by_day == {"train": {"": (2, 1)}, "valid": {}, "test": {}}


def test_a_partition_without_rows_gives_empty_statistics(collect, tmp_path):
    stats = collect()
    assert (stats.counts.num_read, stats.blocks, stats.count_tables, stats.bad_tables) == (0, (), {}, ())
    assert list(tmp_path.iterdir()) == []
    assert value_counts(stats).num_rows == 0


def test_counts_written_early_have_the_same_sum(collect, monkeypatch):
    batches = [batch(("2026-01-01", f"1\t{n % 3}\tvalue {n % 5}".encode())) for n in range(30)]
    whole = collect(*batches)
    monkeypatch.setattr(statistics, "MAX_BUFFERED_VALUES", 4)
    early = collect(*batches)
    assert len(early.count_tables) > len(whole.count_tables) == 1
    assert values(early) == values(whole)


VALUES = RowFormat(
    columns=("label", "V", "W"),
    fields=FieldSet([Field(name="V", kind="value"), Field(name="W", kind="value")]),
    delimiter="\t",
    label="label",
)


def test_value_statistics_come_from_training_days_only(collect):
    rows = batch(
        ("2026-01-01", b"1\t2\t"),
        ("2026-01-02", b"0\t\t"),
        ("2026-01-02", b"0\t5e0\t"),
        ("2026-01-02", b"0\tfive\t"),
        ("2026-01-03", b"1\t1000\t1"),
        ("2026-01-04", b"1\t1000\t1"),
        ("2026-01-05", b"1\t1000\t1"),
    )
    # 2 and 5: mean 3.5, squared deviations 2 x 1.5^2. W has no training value, and no moments.
    assert collect(rows, row_format=VALUES).moments == {0: Moments(2, 3.5, 4.5)}


def test_moments_of_partitions_are_merged_in_any_order():
    parts = [(0, 2, 3.5, 4.5), (1, 1, 7.0, 0.0), (0, 1, 8.0, 0.0)]
    for order in (parts, parts[::-1]):
        rows = [SimpleNamespace(field=f, num=num, mean=mean, m2=m2) for f, num, mean, m2 in order]
        # 2, 5 and 8: mean 5, squared deviations 9 + 0 + 9.
        assert statistics._moments(rows) == {0: Moments(3, 5.0, 18.0), 1: Moments(1, 7.0, 0.0)}


def test_row_counts_sum_to_the_rows_read():
    counts = RowCounts(
        {
            "train": {"2026-01-01": (5, 1), "2026-01-02": (4, 0)},
            "valid": {},
            "outside": {"2026-01-09": (3, 3)},
        },
        {"not_utf8": 2, "label_not_0_or_1": 1},
    )
    assert counts.num_rows("train") == 9
    assert counts.num_rows("valid") == counts.num_rows("test") == 0
    assert counts.num_bad == 3
    assert counts.num_read == 15


AGGREGATED = RowFormat(
    columns=("n", "k", "I", "C"), fields=FIELDS, delimiter="\t", impressions="n", clicks="k"
)


def test_a_row_of_an_aggregated_log_is_read_once_and_counts_by_its_impressions(collect):
    log = batch(("2026-01-01", b"5\t2\t7\ta"), ("2026-01-01", b"1\t0\t7\tb"), ("2026-01-03", b"0\t0\t7\tb"))
    stats = collect(log, row_format=AGGREGATED)
    assert stats.counts.by_day["train"] == {"2026-01-01": (3, 1)}
    assert stats.counts.weights == {"train": {"2026-01-01": (6.0, 2.0)}}
    assert stats.counts.num_read == 3
    assert values(stats) == {("I", "5"): 6, ("C", "a"): 5, ("C", "b"): 1}


def test_rows_of_a_weighted_log_count_once(collect):
    row_format = RowFormat(
        columns=("label", "w", "I", "C"), fields=FIELDS, delimiter="\t", label="label", weight="w"
    )
    stats = collect(
        batch(("2026-01-01", b"1\t0.5\t7\ta"), ("2026-01-01", b"0\t4\t7\tb")), row_format=row_format
    )
    assert values(stats) == {("I", "5"): 2, ("C", "a"): 1, ("C", "b"): 1}
    assert stats.counts.weights == {"train": {"2026-01-01": (4.5, 0.5)}}


def test_kept_rows_of_a_sampled_aggregated_log_keep_their_weight(collect):
    log = batch(*[("2026-01-01", b"5\t2\t7\ta")] * 2000)
    counts = collect(log, row_format=AGGREGATED, keep_negatives=0.25).counts
    num_kept = counts.num_rows("train") - 2000
    assert 400 < num_kept < 600
    assert counts.weights["train"] == {"2026-01-01": (4000 + 3 * num_kept, 4000)}
    assert counts.num_read == 2000


def test_a_split_by_hash_keeps_the_rows_of_an_aggregated_row_together(collect):
    stats = collect(batch(*[(None, b"5\t2\t7\ta")] * 90), row_format=AGGREGATED, split=HashSplit(0.3, 0.3))
    blocks = [read_table(stats.scratch_url, name).to_pandas() for name in stats.blocks]
    # The hashes of these rows are their numbers, so all are in one split.
    assert [block.groupby(HASH)[PART].nunique().max() for block in blocks] == [1]
    assert blocks[0].groupby(HASH)[LABEL].apply(list).tolist() == [[1, 0]] * 90
