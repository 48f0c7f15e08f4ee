"""Fitting of a vocabulary on the driver or by Spark: same ids, same bytes, also when it grows day by day."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from deepfm.errors import UserError
from deepfm.features.counting import COUNTS
from deepfm.features.encode import Encoder
from deepfm.features.statistics import LogStatistics, RowCounts
from deepfm.features.vocabulary import chunked, fit, fit_spark, stored, vocabulary
from deepfm.features.vocabulary.chunked import ChunkedVocabulary
from deepfm.features.vocabulary.fit import fit_vocabulary
from deepfm.features.vocabulary.rare_values import rare_tables, write_rare
from deepfm.features.vocabulary.stored import open_stored_vocabulary
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.scaling import Moments
from deepfm.spark.scratch import write_table

FIELDS = FieldSet(
    [
        Field(name="I", kind="count", min_count=2),
        Field(name="C", kind="category", min_count=3, unknown_buckets=2),
        Field(name="top", kind="category", max_size=20),
        Field(name="Q", kind="quantile", quantile_buckets=3),
        Field(name="V", kind="value"),
        Field(name="T", kind="list", separator=" ", max_values=2),
        Field(name="none", kind="category"),
    ]
)
NUM_DAYS = 3


def counts_of_day(day):
    """(field, value, num) in three tables that share some values; every day has some new values."""
    random = np.random.default_rng(day)
    tables = []
    for _ in range(3):
        rows = [
            (0, str(bucket), int(random.integers(1, 4))) for bucket in random.choice(30, 12, replace=False)
        ]
        for field, name in ((1, "c"), (2, "é"), (5, "t")):
            values = random.choice(40, 25, replace=False) + 10 * day
            rows += [(field, f"{name}{value}", int(random.integers(1, 4))) for value in values]
        rows += [(3, f"{number}.000e+00", 1) for number in random.choice(9, 5, replace=False) + 1]
        tables.append(
            pa.Table.from_pylist([dict(zip(COUNTS.names, row, strict=True)) for row in rows], COUNTS)
        )
    return tables


def fit_days(spark, folder, max_counts_on_driver):
    """Fit each day, growing from the day before: [(url, fitted)]."""
    old, days = None, []
    for day in range(NUM_DAYS):
        url = f"file://{folder}/{max_counts_on_driver}-{day}"
        (folder / f"{max_counts_on_driver}-{day}").mkdir()
        count_tables = {write_table(url, table): table.num_rows for table in counts_of_day(day)}
        moments = {4: Moments(4, 2.0 + day, 16.0)}
        stats = LogStatistics(url, RowCounts({}, {}), moments, {}, {}, (), count_tables, ())
        with pytest.MonkeyPatch.context() as patch:
            # Several chunks per field, and more values than are cached.
            for module in (stored, vocabulary, fit_spark):
                patch.setattr(module, "CHUNK_SIZE", 7)
            patch.setattr(chunked, "NUM_CACHED_VALUES", 4)
            patch.setattr(fit, "MAX_COUNTS_ON_DRIVER", max_counts_on_driver)
            fitted = fit_vocabulary(spark, stats, FIELDS, old)
            fitted.vocabulary.save(url)
            write_rare(url, fitted.rare)
        old = open_stored_vocabulary(url)
        old.check()
        days.append((url, fitted))
    return days


@pytest.fixture(scope="module")
def both(spark, tmp_path_factory):
    """For each day the results of driver and Spark: ((url, fitted), (url, fitted))."""
    folder = tmp_path_factory.mktemp("fit")
    return list(zip(fit_days(spark, folder, 10_000), fit_days(spark, folder, 0), strict=True))


def files(url):
    names = ("vocabulary.parquet", "vocabulary.json", "rare_values.parquet")
    return {name: open(f"{url.removeprefix('file://')}/{name}", "rb").read() for name in names}


def test_spark_and_driver_write_the_same_bytes_every_day(both):
    for (url, by_driver), (spark_url, by_spark) in both:
        assert isinstance(by_driver.vocabulary, Vocabulary)
        assert isinstance(by_spark.vocabulary, ChunkedVocabulary)
        assert files(spark_url) == files(url)
        assert by_spark.num_values == by_driver.num_values
        assert by_spark.vocabulary.num_ids == by_driver.vocabulary.num_ids
        assert by_spark.vocabulary.fingerprint == by_driver.vocabulary.fingerprint
    # The data covers rare values and boundaries.
    assert sum(table.num_rows for table in rare_tables(both[-1][0][0])) > 0
    assert both[0][0][1].vocabulary.boundaries["Q"]
    for (url, _), (next_url, _) in pairwise(driver for driver, _ in both):
        before, after = Vocabulary.load(url), Vocabulary.load(next_url)
        assert len(after.values[1]) > len(before.values[1])


def test_a_chunked_vocabulary_caches_counts_and_the_first_values_of_each_field(both):
    for (_, by_driver), (_, by_spark) in both:
        counts, *others = zip(by_spark.vocabulary.values, by_driver.vocabulary.values, strict=True)
        assert counts[0].equals(counts[1])
        for cached, known in others:
            assert cached.to_pylist() == known.to_pylist()[:4]


def test_rows_get_the_same_ids_from_a_subset_of_the_vocabulary(both):
    random = np.random.default_rng(1)
    texts = [[f"{name}{value}" for value in random.integers(0, 80, 50)] for name in ("c", "é", "t")]
    raw = pa.table(
        {
            "I": pa.array(random.integers(-2, 30, 50)),
            "C": pa.array([None, *texts[0][1:]]).dictionary_encode(),
            "top": pa.array(texts[1]),
            "Q": pa.array(random.normal(5, 3, 50)),
            "V": pa.array(random.normal(5, 3, 50)),
            "T": pa.array(
                [None, *([one, other] for one, other in zip(texts[2][1:], texts[2], strict=False))]
            ),
            "none": pa.array(["x"] * 50),
        }
    )
    for (_, by_driver), (_, by_spark) in both:
        expected = Encoder(by_driver.vocabulary).encode(raw)
        # One subset for the rows of several tables.
        subset = by_spark.vocabulary.subset(iter([raw.slice(0, 20), raw.slice(20)]))
        for column, column_expected in zip(Encoder(subset).encode(raw), expected, strict=True):
            np.testing.assert_array_equal(column, column_expected)
        assert len(np.unique(expected[1])) > 5


def test_a_vocabulary_with_few_known_values_is_loaded_into_memory(spark, tmp_path, monkeypatch):
    url = f"file://{tmp_path}"
    count_tables = {write_table(url, table): table.num_rows for table in counts_of_day(0)}
    stats = LogStatistics(url, RowCounts({}, {}), {}, {}, {}, (), count_tables, ())
    expected = fit_vocabulary(spark, stats, FIELDS, None).vocabulary
    monkeypatch.setattr(fit, "MAX_COUNTS_ON_DRIVER", sum(count_tables.values()) - 1)
    fitted_by_spark = fit_vocabulary(spark, stats, FIELDS, None).vocabulary
    assert isinstance(fitted_by_spark, Vocabulary)
    assert fitted_by_spark.fingerprint == expected.fingerprint
    assert [counts.to_pylist() for counts in fitted_by_spark.counts] == [
        counts.to_pylist() for counts in expected.counts
    ]


def test_more_text_than_an_arrow_array_can_hold_is_an_error(spark, tmp_path, monkeypatch):
    url = f"file://{tmp_path}"
    count_tables = {write_table(url, table): table.num_rows for table in counts_of_day(0)}
    monkeypatch.setattr(fit, "MAX_COUNTS_ON_DRIVER", 0)
    monkeypatch.setattr(fit_spark, "MAX_TEXT_BYTES", 100)
    stats = LogStatistics(url, RowCounts({}, {}), {}, {}, {}, (), count_tables, ())
    with pytest.raises(
        UserError, match="field T: expected at most 100 bytes of known values, found 107; raise"
    ):
        fit_vocabulary(spark, stats, FIELDS, None)


def test_a_log_without_counts_has_an_empty_vocabulary(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "MAX_COUNTS_ON_DRIVER", -1)
    stats = LogStatistics(f"file://{tmp_path}", RowCounts({}, {}), {}, {}, {}, (), {}, ())
    fitted = fit_vocabulary(spark, stats, FIELDS, None)
    assert fitted.vocabulary.num_ids == Vocabulary.fit(FIELDS, COUNTS.empty_table()).num_ids
    assert (list(fitted.rare), fitted.num_values) == ([], {})
