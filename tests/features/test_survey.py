"""The one pass that counts rows and values; its Spark part is seen in tests/dataset/test_write.py."""

import numpy as np
import pyarrow as pa

from deepfm.features import survey as survey_module
from deepfm.features.parse import RowFormat
from deepfm.features.scaling import Moments
from deepfm.features.split import DaySplit, HashSplit
from deepfm.features.survey import RowCounts, survey
from deepfm.fields import Field, FieldSet

FIELDS = FieldSet([Field(name="I", kind="count"), Field(name="C", kind="category")])
FORMAT = RowFormat(columns=("label", "I", "C"), fields=FIELDS, delimiter="\t", label="label")
DAYS = DaySplit((("2026-01-01", "2026-01-02"), ("2026-01-03", "2026-01-03"), ("2026-01-04", "2026-01-04")))


class OnePartition:
    """What a survey needs of a DataFrame: batches through a function, here in this process."""

    def __init__(self, *batches):
        self._batches = batches

    def mapInArrow(self, function, schema):
        return pa.Table.from_batches(list(function(iter(self._batches))), survey_module._ARROW_SCHEMA)


def batch(*rows):
    """(day, line) rows as they come from Spark."""
    return pa.RecordBatch.from_pydict(
        {
            "line": pa.array([line for _, line in rows], pa.binary()),
            "source_file": pa.array(["log.tsv"] * len(rows), pa.string()),
            "ds": pa.array([day for day, _ in rows], pa.string()),
            "row_hash": pa.array(np.arange(len(rows)), pa.int64()),
        }
    )


def rows_of_kind(surveyed, kind):
    return [row for row in surveyed.to_pylist() if row["kind"] == kind]


def values(surveyed):
    totals = {}
    for row in rows_of_kind(surveyed, "value"):
        key = FIELDS[row["field"]].name, row["value"]
        totals[key] = totals.get(key, 0) + row["num"]
    return totals


LOG = batch(
    ("2026-01-01", b"1\t7\ta"),
    ("2026-01-01", b"0\t7\tb"),
    ("2026-01-02", b"0\t\ta"),
    ("2026-01-02", b"bad"),
    ("2026-01-03", b"1\t0\tonly on the validation day"),
    ("2026-01-04", b"1\t0\tonly on the test day"),
    ("2026-01-05", b"1\t0\tonly on a day outside"),
)


def test_rows_and_clicks_are_counted_by_part_and_day():
    counted = {
        (row["split"], row["day"]): (row["num"], row["num_clicks"])
        for row in rows_of_kind(survey(OnePartition(LOG), FORMAT, DAYS), "rows")
    }
    assert counted == {
        ("train", "2026-01-01"): (2, 1),
        ("train", "2026-01-02"): (1, 0),
        ("valid", "2026-01-03"): (1, 1),
        ("test", "2026-01-04"): (1, 1),
        ("outside", "2026-01-05"): (1, 1),
    }


def test_vocabulary_never_sees_validation_days():
    # 7 falls into bucket 5: floor(log(7)^2) + 2.
    assert values(survey(OnePartition(LOG), FORMAT, DAYS)) == {("I", "5"): 2, ("C", "a"): 2, ("C", "b"): 1}


def test_training_rows_that_are_left_out_are_counted_and_teach_no_value():
    log = batch(*[("2026-01-01", f"{n % 2}\t7\tv{n}".encode()) for n in range(2000)])
    surveyed = survey(OnePartition(log), FORMAT, DAYS, keep_negatives=0.25)
    counted = {row["split"]: (row["num"], row["num_clicks"]) for row in rows_of_kind(surveyed, "rows")}
    num_kept = counted["train"][0] - 1000
    assert counted == {"train": (1000 + num_kept, 1000), "sampled_out": (1000 - num_kept, 0)}
    assert 200 < num_kept < 300
    assert values(surveyed)[("I", "5")] == 1000 + num_kept


def test_lists_that_were_cut_are_counted_of_the_training_rows():
    fields = FieldSet([Field(name="T", kind="list", max_values=2, separator=" ")])
    row_format = RowFormat(columns=("label", "T"), fields=fields, delimiter="\t", label="label")
    rows = [("2026-01-01", b"1\ta b c"), ("2026-01-02", b"0\ta b"), ("2026-01-03", b"1\ta b c")]
    surveyed = survey(OnePartition(batch(*rows)), row_format, DAYS)
    assert [(row["field"], row["num"]) for row in rows_of_kind(surveyed, "cut")] == [(0, 1)]
    found = {row["value"]: row["num"] for row in rows_of_kind(surveyed, "value")}
    assert found == {"a": 2, "b": 2}


def test_bad_rows_are_handed_on_with_file_text_and_reason():
    (bad,) = rows_of_kind(survey(OnePartition(LOG), FORMAT, DAYS), "bad")
    assert (bad["source_file"], bad["text"], bad["value"]) == ("log.tsv", "bad", "wrong_number_of_columns")


def test_a_log_without_days_is_counted_under_no_day():
    surveyed = survey(
        OnePartition(batch((None, b"1\t7\ta"), (None, b"0\t7\ta"))), FORMAT, HashSplit(0.0, 0.0)
    )
    (row,) = rows_of_kind(surveyed, "rows")
    assert (row["split"], row["day"], row["num"], row["num_clicks"]) == ("train", None, 2, 1)


def test_a_partition_without_rows_gives_none():
    assert survey(OnePartition(), FORMAT, DAYS).num_rows == 0


def test_counts_handed_over_early_add_up_to_the_same(monkeypatch):
    batches = [batch(("2026-01-01", f"1\t{n % 3}\tvalue {n % 5}".encode())) for n in range(30)]
    whole = values(survey(OnePartition(*batches), FORMAT, DAYS))
    monkeypatch.setattr(survey_module, "MAX_VALUES_HELD", 4)
    monkeypatch.setattr(
        survey_module, "rebatched", lambda batches: (pa.Table.from_batches([b]) for b in batches)
    )
    early = survey(OnePartition(*batches), FORMAT, DAYS)
    assert len(rows_of_kind(early, "value")) > len(whole)
    assert values(early) == whole


VALUES = RowFormat(
    columns=("label", "V", "W"),
    fields=FieldSet([Field(name="V", kind="value"), Field(name="W", kind="value")]),
    delimiter="\t",
    label="label",
)


def test_value_statistics_come_from_training_days_only():
    surveyed = survey(
        OnePartition(
            batch(
                ("2026-01-01", b"1\t2\t"),
                ("2026-01-02", b"0\t\t"),
                ("2026-01-02", b"0\t5e0\t"),
                ("2026-01-02", b"0\tfive\t"),
                ("2026-01-03", b"1\t1000\t1"),
                ("2026-01-04", b"1\t1000\t1"),
                ("2026-01-05", b"1\t1000\t1"),
            )
        ),
        VALUES,
        DAYS,
    )
    # 2 and 5: mean 3.5, squared deviations 2 x 1.5^2. W has no training value, and no row.
    (row,) = rows_of_kind(surveyed, "moments")
    assert (row["field"], row["num"], row["mean"], row["m2"]) == (0, 2, 3.5, 4.5)
    assert rows_of_kind(surveyed, "value") == []


def test_moments_of_partitions_are_merged_whatever_order_they_come_in(spark):
    parts = [(0, 2, 3.5, 4.5), (1, 1, 7.0, 0.0), (0, 1, 8.0, 0.0)]
    for order in (parts, parts[::-1]):
        rows = spark.createDataFrame(
            [("moments", *part) for part in order] + [("value", 0, 9, None, None)],
            "kind string, field int, num long, mean double, m2 double",
        )
        # 2, 5 and 8: mean 5, squared deviations 9 + 0 + 9.
        assert survey_module.value_moments(rows) == {0: Moments(3, 5.0, 18.0), 1: Moments(1, 7.0, 0.0)}


def test_row_counts_add_up_to_the_rows_that_were_read():
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
