"""Fitting of a vocabulary to a log's counts, on the driver or, if it cannot hold the counts, by Spark.

    counts of tasks (+ known and rare values of the dataset it grows from)
        up to MAX_COUNTS_ON_DRIVER ──> summed and sorted on the driver ──> Vocabulary
        more ──> summed and sorted by Spark ──> chunks in the scratch folder ──> ChunkedVocabulary, or a
                 Vocabulary if no more than that are known

Both give the same ids and write the same bytes.
"""

from dataclasses import replace

from pyspark.sql import SparkSession

from deepfm.features.counting import sum_counts
from deepfm.features.statistics import LogStatistics, num_values_by_field, value_counts
from deepfm.features.vocabulary.chunked import ChunkedVocabulary
from deepfm.features.vocabulary.fit_spark import FittedVocabulary, fit_vocabulary_on_spark
from deepfm.features.vocabulary.rare_values import num_rare, rare_tables
from deepfm.features.vocabulary.stored import StoredVocabulary
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.spark.scratch import MAX_COUNTS_ON_DRIVER


def fit_vocabulary(
    spark: SparkSession, stats: LogStatistics, fields: FieldSet, old: StoredVocabulary | None
) -> FittedVocabulary:
    """Fit a vocabulary, or extend `old`, which has the same fields and rare values in its folder."""
    num_counts = sum(stats.count_tables.values()) + (old.num_known + num_rare(old.url) if old else 0)
    if num_counts > MAX_COUNTS_ON_DRIVER:
        fitted = fit_vocabulary_on_spark(spark, stats, fields, old)
        assert isinstance(fitted.vocabulary, ChunkedVocabulary)
        # Most counts may be of rare values, or of a few values that every task counted.
        fits = sum(fitted.vocabulary.header.num_known) <= MAX_COUNTS_ON_DRIVER
        return replace(fitted, vocabulary=fitted.vocabulary.to_vocabulary()) if fits else fitted
    counts = value_counts(stats)
    all_counts = sum_counts([counts, *rare_tables(old.url)]) if old else counts
    vocabulary = Vocabulary.fit(fields, all_counts, stats.moments, Vocabulary.load(old.url) if old else None)
    return FittedVocabulary(vocabulary, [vocabulary.rare(all_counts)], num_values_by_field(counts))
