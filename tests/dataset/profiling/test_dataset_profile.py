"""Profiles of tiny logs on real Spark, with all values computed by hand."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from deepfm import storage
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.profiling import id_counts as id_counts_module
from deepfm.dataset.profiling.dataset_profile import _rows_by_day, read_dataset_profile
from deepfm.dataset.profiling.field_profile import FieldProfile, ValueRows, field_warnings
from deepfm.dataset.profiling.id_counts import _COUNTS, _IdCounts, id_counts
from deepfm.features.statistics import RowCounts
from deepfm.fields import Field, FieldSet
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

SETTINGS = {
    "format": "delimited",
    "columns": ["label", "N", "C", "H", "Q", "V", "K", "T"],
    "fields": [
        {"kind": "count", "names": ["N"]},
        {"kind": "category", "names": ["C"], "min_count": 2},
        {"kind": "category", "names": ["H"], "hash_buckets": 1000},
        {"kind": "quantile", "names": ["Q"], "quantile_buckets": 2},
        {"kind": "value", "names": ["V"]},
        {"kind": "category", "names": ["K"]},
        {"kind": "time", "names": ["weekday"]},
    ],
    "time_column": "T",
    "time_format": "iso",
    "cross": [["C", "K"]],
    "cross_buckets": 100,
    "max_bad_fraction": 0.5,
    "max_bad_labels": 0.5,
}
#: label, N, C, H, Q, V, K and the time. 2026-01-01 is a Thursday. C: a and b are known, `once` is rare.
LOG = """\
1 7 a h1 1 2 same 2026-01-01T10:00:00
0 7 a h1 1 4 same 2026-01-01T10:00:00
0 7 b h1 5 2 same 2026-01-01T10:00:00
0 -3 b h2 5 4 same 2026-01-01T10:00:00
1 . once h2 5 . same 2026-01-02T10:00:00
0 0 . h2 . 2 same 2026-01-02T10:00:00
1 2 a h2 1 4 same 2026-01-02T10:00:00
0 2 b h1 5 2 same 2026-01-02T10:00:00
1 7 a h1 1 2 same 2026-01-03T10:00:00
0 7 b h1 5 2 same 2026-01-03T10:00:00
0 0 new h1 1 2 other 2026-01-03T10:00:00
0 9 new h3 1 . same 2026-01-03T10:00:00
1 0 new h1 1 2 same 2026-01-04T10:00:00
0 0 . h1 1 2 same 2026-01-04T10:00:00
1 0 a h1 1 2 same 2026-01-09T10:00:00
no.row
another.one
a.third.one
a.fourth.\u202eone
2 0 a h1 1 2 same 2026-01-01T10:00:00
"""
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")


def build(spark, folder, content=LOG, settings=SETTINGS, split=SPLIT):
    """Build from lines of values separated by blanks, a dot for a missing value -> URL of the dataset."""
    folder.mkdir()
    lines = [["" if value == "." else value for value in line.split(" ")] for line in content.splitlines()]
    (folder / "log.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    data = parse_settings(settings, DataSettings, "test")
    log = find_click_log(f"file://{folder}/log.tsv", data)
    build_dataset(spark, log, data, split, f"file://{folder}/dataset")
    return f"file://{folder}/dataset"


@pytest.fixture(scope="module")
def dataset_url(spark, tmp_path_factory):
    return build(spark, tmp_path_factory.mktemp("log") / "x")


@pytest.fixture(scope="module")
def profile(dataset_url):
    return read_dataset_profile(dataset_url)


@pytest.fixture(scope="module")
def fields(profile):
    return {field.name: field for field in profile.fields}


def named(values):
    """Return [(name, training rows, share, CTR)]."""
    return [(value.name, value.num_rows, value.share, value.ctr) for value in values]


def test_the_document_is_json_without_nan(dataset_url, profile):
    text = storage.read_bytes(f"{dataset_url}/profile.json").decode()
    assert json.loads(text, parse_constant=pytest.fail)["digest"] == profile.digest
    assert profile.digest == read_manifest(dataset_url).digest


def test_the_page_is_in_the_dataset(dataset_url, profile):
    assert profile.digest in storage.read_bytes(f"{dataset_url}/profile.html").decode()


def test_rows_and_ctr_are_given_by_split_and_day(profile):
    splits = {rows.split: (rows.num_rows, rows.ctr) for rows in profile.splits}
    assert splits == {"train": (8, 3 / 8), "valid": (4, 1 / 4), "test": (2, 1 / 2), "outside": (1, 1.0)}
    assert [(rows.day, rows.split, rows.num_rows, rows.ctr) for rows in profile.days] == [
        ("2026-01-01", "train", 4, 1 / 4),
        ("2026-01-02", "train", 4, 2 / 4),
        ("2026-01-03", "valid", 4, 1 / 4),
        ("2026-01-04", "test", 2, 1 / 2),
        ("2026-01-09", "outside", 1, 1.0),
    ]


def test_rejected_rows_are_counted_by_reason_with_three_printable_examples(profile):
    assert [(rejected.reason, rejected.num_rows, rejected.examples) for rejected in profile.set_aside] == [
        ("label_not_0_or_1", 1, ("2\\t0\\ta\\th1\\t1\\t2\\tsame\\t2026-01-01T10:00:00",)),
        ("wrong_number_of_columns", 4, ("a.fourth.\\u202eone", "a.third.one", "another.one")),
    ]


def test_missing_and_unknown_are_shares_of_all_rows_of_a_split(fields):
    assert fields["C"].missing == {"train": 1 / 8, "valid": 0.0, "test": 1 / 2}
    assert fields["C"].unknown == {"train": 1 / 8, "valid": 2 / 4, "test": 1 / 2}
    assert fields["V"].missing == {"train": 1 / 8, "valid": 1 / 4, "test": 0.0}
    # No training row is in the bucket of 9.
    assert fields["N"].unknown == {"train": 0.0, "valid": 1 / 4, "test": 0.0}


def test_distinct_values_and_known_ids_are_counted(fields):
    assert (fields["C"].num_values, fields["C"].num_known_ids) == (3, 2)
    # missing, rare, a, b
    assert fields["C"].num_ids_seen == 4
    assert (fields["N"].num_values, fields["N"].num_known_ids) == (4, 4)


def test_the_most_frequent_values_have_share_and_ctr(fields):
    assert named(fields["C"].top) == [("a", 3, 3 / 8, 2 / 3), ("b", 3, 3 / 8, 0.0)]


def test_counts_are_shown_by_bucket_in_ascending_order(fields):
    # 7 is in the bucket floor(log(7)^2) = 3, which starts at ceil(e^sqrt(3)) = 6.
    assert named(fields["N"].buckets) == [
        ("below 0", 1, 1 / 8, 0.0),
        ("0", 1, 1 / 8, 0.0),
        ("2", 2, 2 / 8, 1 / 2),
        ("from 6", 3, 3 / 8, 1 / 3),
    ]


def test_quantiles_are_shown_by_bucket(fields):
    # The boundary between 1, 1, 1 and 5, 5, 5, 5 is in the middle.
    assert named(fields["Q"].buckets) == [("up to 3", 3, 3 / 8, 2 / 3), ("above 3", 4, 4 / 8, 1 / 4)]


def test_times_are_shown_by_bucket_also_if_training_rows_have_none(fields):
    buckets = {value.name: (value.num_rows, value.ctr) for value in fields["weekday"].buckets}
    assert buckets == {
        "Thursday": (4, 1 / 4),
        "Friday": (4, 2 / 4),
        "Saturday": (0, None),
        "Sunday": (0, None),
    }


def test_values_have_mean_and_deviation(fields):
    # 2, 4, 2, 4, 2, 4, 2: mean 20 / 7, variance 4 (4 / 7) (3 / 7)
    assert fields["V"].mean == pytest.approx(20 / 7, abs=1e-5)
    assert fields["V"].std == pytest.approx((48 / 49) ** 0.5, abs=1e-5)
    assert fields["C"].mean is None


def test_hashed_values_have_no_names(fields):
    assert (fields["H"].num_values, fields["H"].top) == (None, ())
    assert (fields["H"].num_ids_seen, fields["H"].num_known_ids) == (2, 1000)
    assert set(fields["H"].unknown.values()) == {0.0}


def test_a_cross_shows_only_its_number_of_ids(fields):
    crossed = fields["C_x_K"]
    assert (crossed.num_ids_seen, crossed.num_known_ids) == (4, 100)
    assert (crossed.missing, crossed.unknown, crossed.valid_auc) == ({}, {}, None)


def test_auc_scores_validation_rows_by_their_training_ctr(fields):
    # C, validation: a (2/3) clicked; b (0), new and new (the one rare row was clicked: 1) not: 1 of 3 pairs.
    assert fields["C"].valid_auc == pytest.approx(1 / 3)
    # Q: 1 (2/3) clicked; 5 (1/4), 1 and 1 not: one pair right, two tied.
    assert fields["Q"].valid_auc == pytest.approx(2 / 3)
    # N, validation: 7 (1/3) clicked; 7, 0 (0) and 9 (absent: the overall CTR, 3/8) not.
    assert fields["N"].valid_auc == pytest.approx((0.5 + 1 + 0) / 3)
    # V: 2 (1/4) clicked; 2 twice and missing (1) not.
    assert fields["V"].valid_auc == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_a_constant_field_causes_a_warning(profile):
    constant = [warning for warning in profile.warnings if warning.name == "constant"]
    assert [warning.text for warning in constant] == [
        "K: the same value, same, in every training row; remove the field"
    ]


#: 24 rows per day; MANY has 12 values, each with one click in two rows; DAY is new every day.
LEAKY_LOG = "\n".join(
    f"{n % 2} {'ny'[n % 2]} {2 * (n % 2)} {n // 2 % 2} d{day} c{n // 2:02} 2026-01-0{day}"
    for day in (1, 2, 3)
    for n in range(24)
)
LEAKY = {
    "format": "delimited",
    "columns": ["label", "COPY", "DOUBLE", "COIN", "DAY", "MANY", "day"],
    "day_column": "day",
    "fields": [
        {"kind": "category", "names": ["COPY", "COIN", "DAY", "MANY"]},
        {"kind": "value", "names": ["DOUBLE"]},
    ],
    "cross": [["COPY", "COIN"]],
}


@pytest.fixture(scope="module")
def leaky(spark, tmp_path_factory):
    """Return (profile, logged messages)."""
    days = day_split("2026-01-01", "2026-01-02", "2026-01-03")
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            logging.getLogger("deepfm.dataset.profiling.dataset_profile"), "handle", lambda r: lines.append(r)
        )
        url = build(spark, tmp_path_factory.mktemp("leaky") / "x", LEAKY_LOG, LEAKY, days)
    return read_dataset_profile(url), [record.getMessage() for record in lines]


def test_a_field_that_contains_the_label_causes_a_warning_and_noise_does_not(leaky):
    profile, _ = leaky
    warnings = [(warning.name, warning.field) for warning in profile.warnings]
    assert warnings == [("leak", "COPY"), ("constant", "DAY"), ("mostly_unknown", "DAY"), ("leak", "DOUBLE")]
    auc = {field.name: field.valid_auc for field in profile.fields}
    noise = {"COIN": 0.5, "DAY": 0.5, "MANY": 0.5}
    assert auc == {"COPY": 1.0, "DOUBLE": 1.0, "COPY_x_COIN": None, **noise}


def test_each_warning_is_logged_as_one_line(leaky):
    profile, lines = leaky
    assert lines == [f"{warning.name}: {warning.text}" for warning in profile.warnings]
    assert not any("\n" in line for line in lines)


def test_ten_values_of_a_vocabulary_are_shown(leaky):
    (many,) = [field for field in leaky[0].fields if field.name == "MANY"]
    assert many.num_values == 12
    assert named(many.top) == [(f"c{n:02}", 2, 2 / 24, 0.5) for n in range(10)]
    assert many.buckets == ()


def field_with(**changes):
    zeros = dict.fromkeys(("train", "valid", "test"), 0.0)
    content = {
        "name": "C",
        "kind": "category",
        "num_values": 5,
        "num_known_ids": 5,
        "num_ids_seen": 5,
        "missing": zeros,
    }
    content |= {"unknown": zeros, "top": (), "buckets": (), "mean": None, "std": None, "valid_auc": 0.6}
    return FieldProfile(**{**content, **changes})


def test_values_at_the_limits_cause_no_warning():
    at_limits = field_with(unknown={"train": 0.0, "valid": 0.5, "test": 0.9}, valid_auc=0.95)
    assert field_warnings(at_limits) == []
    above = field_with(unknown={"train": 0.0, "valid": 0.51, "test": 0.0}, valid_auc=0.951)
    assert [warning.name for warning in field_warnings(above)] == ["mostly_unknown", "leak"]


def test_a_field_that_is_always_missing_is_constant():
    (warning,) = field_warnings(field_with(num_ids_seen=1, missing={"train": 1.0, "valid": 1.0, "test": 1.0}))
    assert (warning.name, warning.text) == ("constant", "C: missing in every training row; remove the field")


@pytest.mark.parametrize("token", ["\\N", "NULL", "null", "NaN", "NA", "None", "-"])
def test_a_frequent_value_that_elsewhere_means_missing_causes_a_warning(token):
    top = tuple(ValueRows(name=name, num_rows=5, share=0.1, ctr=0.2) for name in ("a", token))
    (warning,) = field_warnings(field_with(top=top))
    assert warning.name == "null_token"
    assert warning.text == f"C: has the value {token!r}; if it means missing, list it in null_values"
    assert field_warnings(field_with(top=top[:1])) == field_warnings(field_with(top=top, kind="count")) == []


def test_a_log_without_days_has_no_table_of_days():
    assert _rows_by_day(RowCounts({"train": {"": (5, 1)}, "valid": {"": (2, 1)}, "test": {}}, {})) == []


def test_spark_sums_counts_to_the_same_result_as_the_driver(spark, dataset_url, tmp_path, monkeypatch):
    url = dataset_url
    manifest, results = read_manifest(url), []
    for max_counts in (10**7, 0):
        monkeypatch.setattr(id_counts_module, "MAX_COUNTS_ON_DRIVER", max_counts)
        counts = id_counts(spark, url, manifest, f"file://{tmp_path}")
        results.append(counts.astype(np.int64).sort_values(list(counts.columns)).reset_index(drop=True))
    assert len(results[0]) > 10
    pd.testing.assert_frame_equal(*results, check_like=True)


@pytest.mark.parametrize("ids", [[3, 1, 3, 0], [2**30, 5, 2**30, 2**30 + 1]])
def test_small_and_large_ids_are_counted_over_files(ids):
    counts = _IdCounts(FieldSet([Field(name="C", kind="category")]))
    for _ in range(2):
        counts.add(1, np.array([1, 0, 0, 1], np.int8), [np.array(ids, np.int32)])
    (batch,) = counts.drain()
    assert batch.schema == _COUNTS
    assert set(batch.column("split").to_pylist()) == {1}
    counts_by_id = {id_: [0, 0] for id_ in ids}
    for row in batch.to_pylist():
        counts_by_id[row["id"]][0] += row["num"]
        counts_by_id[row["id"]][1] += row["num_clicks"]
    assert counts_by_id == {ids[0]: [4, 2], ids[1]: [2, 0], ids[3]: [2, 2]}
    assert list(counts.drain()) == []
