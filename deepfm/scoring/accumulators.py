"""What is added up over a night's rows while they are scored."""

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
    """Of all rows."""

    digest: str  # of the input's rows, in whatever order they were read
    scores: np.ndarray  # (SCORE_BINS,) scored impressions, by logit
    fields: np.ndarray  # (F, NUM_KINDS), see training.field_tally


class PartitionAccumulator:
    """Of the rows of one task."""

    def __init__(self, fields: FieldSet):
        self.of_fields = FieldValueCounts(fields)
        self._scores = np.zeros(SCORE_BINS, np.int64)
        self._sum_hashes = 0

    def add_read(self, row_hashes: np.ndarray) -> None:
        """(n,) int64: of the rows as they were read."""
        self._sum_hashes += int(row_hashes.view(np.uint64).sum(dtype=np.uint64))

    def add_scored(self, logits: np.ndarray) -> None:
        """(n,) logits; their fields go to `of_fields`."""
        self._scores += np.bincount(score_bins(torch.from_numpy(logits)).numpy(), minlength=SCORE_BINS)

    def to_json(self) -> str:
        """For the way to the driver."""
        totals = {"hashes": str(self._sum_hashes), "scores": self._scores.tolist()}
        return json.dumps({**totals, "fields": self.of_fields.counts.tolist()})


def total_of(parts: Iterable[str], num_fields: int) -> ScoringDayTotals:
    """The sum of what tasks sent."""
    documents = [json.loads(part) for part in parts]
    sum_hashes = sum(int(document["hashes"]) for document in documents) % 2**64
    fields = FieldValueCounts.zeros(num_fields)
    scores = np.zeros(SCORE_BINS, np.int64)
    for document in documents:
        scores += np.asarray(document["scores"])
        fields += np.asarray(document["fields"]).reshape(fields.shape)
    return ScoringDayTotals(f"{sum_hashes:016x}", scores, fields)
