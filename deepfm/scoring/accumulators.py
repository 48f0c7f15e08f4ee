"""Sums over the rows of a day, accumulated while the rows are scored."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from deepfm.fields import FieldSet
from deepfm.metrics.binary import SCORE_BINS, score_bins
from deepfm.metrics.field_counts import FieldValueCounts


@dataclass(frozen=True)
class ScoringDayTotals:
    """Sums over all rows of a day."""

    digest: str  # of the input's rows, independent of their order
    scores: np.ndarray  # (SCORE_BINS,) scored impressions, by logit
    fields: np.ndarray  # (F, NUM_KINDS), see metrics.field_counts


class PartitionAccumulator:
    """Sums over the rows of one Spark task."""

    def __init__(self, fields: FieldSet):
        self.field_counts = FieldValueCounts(fields)
        self._scores = np.zeros(SCORE_BINS, np.int64)
        self._hash_sum = 0

    def add_read(self, row_hashes: np.ndarray) -> None:
        """Add the (n,) int64 hashes of the rows that were read."""
        self._hash_sum += int(row_hashes.view(np.uint64).sum(dtype=np.uint64))

    def add_scored(self, logits: np.ndarray) -> None:
        """Add the (n,) logits of the rows that were scored; `field_counts` counts their fields."""
        self._scores += np.bincount(score_bins(torch.from_numpy(logits)).numpy(), minlength=SCORE_BINS)

    def to_json(self) -> str:
        """Serialize the sums for the driver."""
        totals = {"hashes": str(self._hash_sum), "scores": self._scores.tolist()}
        return json.dumps({**totals, "fields": self.field_counts.counts.tolist()})


def sum_partitions(parts: Iterable[str], num_fields: int) -> ScoringDayTotals:
    """Sum the serialized accumulators of all tasks."""
    documents = [json.loads(part) for part in parts]
    hash_sum = sum(int(document["hashes"]) for document in documents) % 2**64
    fields = FieldValueCounts.zeros(num_fields)
    scores = np.zeros(SCORE_BINS, np.int64)
    for document in documents:
        scores += np.asarray(document["scores"])
        fields += np.asarray(document["fields"]).reshape(fields.shape)
    return ScoringDayTotals(f"{hash_sum:016x}", scores, fields)
