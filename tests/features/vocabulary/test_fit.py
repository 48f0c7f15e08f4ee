"""Counts to a vocabulary, in the driver or by Spark: the same ids, the same bytes, night after night."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from deepfm.errors import UserError
from deepfm.features.counting import COUNTS
from deepfm.features.encode import Encoder
from deepfm.features.kinds.scaling import Moments
from deepfm.features.statistics import LogStatistics, RowCounts
from deepfm.features.vocabulary import chunked as large_vocabulary
from deepfm.features.vocabulary import fit as learn_module
from deepfm.features.vocabulary import fit_spark as fit_vocabulary_on_spark
from deepfm.features.vocabulary import stored as vocabulary_file
from deepfm.features.vocabulary import vocabulary
from deepfm.features.vocabulary.chunked import ChunkedVocabulary
from deepfm.features.vocabulary.fit import fit_vocabulary
from deepfm.features.vocabulary.rare_values import rare_tables, write_rare
from deepfm.features.vocabulary.stored import open_stored_vocabulary
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
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
NIGHTS = 3


def counts_of(night):
    """(field, value, num), some values in several of three tables; every night has some of its own."""
    random = np.random.default_rng(night)
    tables = []
    for _ in range(3):
        rows = [
            (0, str(bucket), int(random.integers(1, 4))) for bucket in random.choice(30, 12, replace=False)
        ]
        for field, name in ((1, "c"), (2, "é"), (5, "t")):
            values = random.choice(40, 25, replace=False) + 10 * night
            rows += [(field, f"{name}{value}", int(random.integers(1, 4))) for value in values]
        rows += [(3, f"{number}.000e+00", 1) for number in random.choice(9, 5, replace=False) + 1]
        tables.append(
            pa.Table.from_pylist([dict(zip(COUNTS.names, row, strict=True)) for row in rows], COUNTS)
        )
    return tables


def learn_nights(spark, folder, most):
    """What so many counts at the most on the driver leave of each night, each grown from the one before."""
    old, nights = None, []
    for night in range(NIGHTS):
        url = f"file://{folder}/{most}-{night}"
        (folder / f"{most}-{night}").mkdir()
        counted = {write_table(url, table): table.num_rows for table in counts_of(night)}
        moments = {4: Moments(4, 2.0 + night, 16.0)}
        found = LogStatistics(url, RowCounts({}, {}), moments, {}, (), counted, ())
        with pytest.MonkeyPatch.context() as patch:
            # Several pieces a field, and more values than are held.
            for module in (vocabulary_file, vocabulary, fit_vocabulary_on_spark):
                patch.setattr(module, "CHUNK_SIZE", 7)
            patch.setattr(large_vocabulary, "NUM_HELD", 4)
            patch.setattr(learn_module, "MAX_COUNTS_ON_DRIVER", most)
            learnt = fit_vocabulary(spark, found, FIELDS, old)
            learnt.vocabulary.save(url)
            write_rare(url, learnt.rare)
        old = open_stored_vocabulary(url)
        old.check()
        nights.append((url, learnt))
    return nights


@pytest.fixture(scope="module")
def both(spark, tmp_path_factory):
    """Of each night (by the driver, by Spark): (url, learnt)."""
    folder = tmp_path_factory.mktemp("learn")
    return list(zip(learn_nights(spark, folder, 10_000), learn_nights(spark, folder, 0), strict=True))


def files(url):
    names = ("vocabulary.parquet", "vocabulary.json", "rare_values.parquet")
    return {name: open(f"{url.removeprefix('file://')}/{name}", "rb").read() for name in names}


def test_spark_learns_what_the_driver_learns_byte_for_byte_and_night_after_night(both):
    for (url, by_driver), (spark_url, by_spark) in both:
        assert isinstance(by_driver.vocabulary, Vocabulary)
        assert isinstance(by_spark.vocabulary, ChunkedVocabulary)
        assert files(spark_url) == files(url)
        assert by_spark.num_values == by_driver.num_values
        assert by_spark.vocabulary.num_ids == by_driver.vocabulary.num_ids
        assert by_spark.vocabulary.fingerprint == by_driver.vocabulary.fingerprint
    # Each kind of value was there.
    assert sum(table.num_rows for table in rare_tables(both[-1][0][0])) > 0
    assert both[0][0][1].vocabulary.boundaries["Q"]
    for (url, _), (next_url, _) in pairwise(night for night, _ in both):
        before, after = Vocabulary.load(url), Vocabulary.load(next_url)
        assert len(after.values[1]) > len(before.values[1])


def test_a_large_vocabulary_holds_counts_and_the_first_values_of_a_field(both):
    for (_, by_driver), (_, by_spark) in both:
        counts, *others = zip(by_spark.vocabulary.values, by_driver.vocabulary.values, strict=True)
        assert counts[0].equals(counts[1])
        for held, known in others:
            assert held.to_pylist() == known.to_pylist()[:4]


def test_rows_get_the_same_ids_from_the_part_that_they_need(both):
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
        # Looked up for the rows of several tables together.
        part = by_spark.vocabulary.part(iter([raw.slice(0, 20), raw.slice(20)]))
        for column, column_expected in zip(Encoder(part).encode(raw), expected, strict=True):
            np.testing.assert_array_equal(column, column_expected)
        assert len(np.unique(expected[1])) > 5


def test_where_few_of_many_counts_are_known_the_vocabulary_is_held_whole(spark, tmp_path, monkeypatch):
    url = f"file://{tmp_path}"
    counted = {write_table(url, table): table.num_rows for table in counts_of(0)}
    found = LogStatistics(url, RowCounts({}, {}), {}, {}, (), counted, ())
    expected = fit_vocabulary(spark, found, FIELDS, None).vocabulary
    monkeypatch.setattr(learn_module, "MAX_COUNTS_ON_DRIVER", sum(counted.values()) - 1)
    found_by_spark = fit_vocabulary(spark, found, FIELDS, None).vocabulary
    assert isinstance(found_by_spark, Vocabulary)
    assert found_by_spark.fingerprint == expected.fingerprint
    assert [nums.to_pylist() for nums in found_by_spark.counts] == [
        nums.to_pylist() for nums in expected.counts
    ]


def test_more_text_than_a_field_can_hold_is_told(spark, tmp_path, monkeypatch):
    url = f"file://{tmp_path}"
    counted = {write_table(url, table): table.num_rows for table in counts_of(0)}
    monkeypatch.setattr(learn_module, "MAX_COUNTS_ON_DRIVER", 0)
    monkeypatch.setattr(fit_vocabulary_on_spark, "MAX_TEXT_BYTES", 100)
    with pytest.raises(
        UserError, match="field T: expected at most 100 bytes of known values, found 107; raise"
    ):
        fit_vocabulary(spark, LogStatistics(url, RowCounts({}, {}), {}, {}, (), counted, ()), FIELDS, None)


def test_a_log_that_counts_nothing_has_an_empty_vocabulary(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(learn_module, "MAX_COUNTS_ON_DRIVER", -1)
    found = LogStatistics(f"file://{tmp_path}", RowCounts({}, {}), {}, {}, (), {}, ())
    learnt = fit_vocabulary(spark, found, FIELDS, None)
    assert learnt.vocabulary.num_ids == Vocabulary.fit(FIELDS, COUNTS.empty_table()).num_ids
    assert (list(learnt.rare), learnt.num_values) == ([], {})
