"""What a survey's counts say: the vocabulary, made by the driver or, of more counts than it holds, by Spark.

    counts of tasks (+ known and rare values of the dataset it grows from)
        up to MAX_COUNTS_ON_DRIVER ──> summed and sorted in the driver ──> Vocabulary
        more ──> summed and sorted by Spark ──> pieces in the scratch folder ──> ChunkedVocabulary, or a
                 Vocabulary where no more than that are known

Both ways give the same ids and write the same bytes.
"""

from dataclasses import replace

from pyspark.sql import SparkSession

from deepfm.features.counting import summed
from deepfm.features.statistics import LogStatistics, num_values_by_field, value_counts
from deepfm.features.vocabulary.fit_spark import FittedVocabulary, fit_vocabulary_on_spark
from deepfm.features.vocabulary.rare_values import num_rare, rare_tables
from deepfm.features.vocabulary.stored import StoredVocabulary
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.spark.scratch import MAX_COUNTS_ON_DRIVER


def fit_vocabulary(
    spark: SparkSession, found: LogStatistics, fields: FieldSet, old: StoredVocabulary | None
) -> FittedVocabulary:
    """With `old`, of the same fields, whose rare values lie beside it, it grows: see Vocabulary.fit."""
    num_counts = sum(found.counted.values()) + (old.num_known + num_rare(old.url) if old else 0)
    if num_counts > MAX_COUNTS_ON_DRIVER:
        learnt = fit_vocabulary_on_spark(spark, found, fields, old)
        # Most counts may be of rare values, or of a few that every task has.
        fits = sum(learnt.vocabulary.header.num_known) <= MAX_COUNTS_ON_DRIVER
        return replace(learnt, vocabulary=learnt.vocabulary.whole()) if fits else learnt
    counts = value_counts(found)
    all_counts = summed([counts, *rare_tables(old.url)]) if old else counts
    vocabulary = Vocabulary.fit(fields, all_counts, found.moments, Vocabulary.load(old.url) if old else None)
    return FittedVocabulary(vocabulary, [vocabulary.rare(all_counts)], num_values_by_field(counts))
