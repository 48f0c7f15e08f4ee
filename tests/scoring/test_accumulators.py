"""Sums over a day's rows do not depend on how the rows are partitioned."""

import numpy as np
import torch

from deepfm.fields import Field, FieldSet
from deepfm.scoring.accumulators import PartitionAccumulator, sum_partitions

FIELDS = FieldSet([Field(name="C", kind="category")])


def part(hashes, ids, logits):
    totals = PartitionAccumulator(FIELDS)
    totals.add_read(np.array(hashes, np.int64))
    totals.field_counts.update(torch.tensor(ids)[:, None])
    totals.add_scored(np.array(logits, np.float32))
    return totals.to_json()


def test_partitions_add_up_in_any_order():
    hashes, ids, logits = [5, -7, 2**62, -(2**62)], [0, 1, 2, 3], [-1.0, 0.0, 0.5, 30.0]
    whole = sum_partitions([part(hashes, ids, logits)], 1)
    parts = [part(hashes[3:], ids[3:], logits[3:]), part(hashes[:3], ids[:3], logits[:3])]
    split = sum_partitions(parts, 1)
    assert split.digest == whole.digest == f"{2**64 - 2:016x}"
    assert (split.scores == whole.scores).all() and whole.scores.sum() == 4
    assert (split.fields == whole.fields).all() and whole.fields.sum() == 4


def test_a_different_row_changes_the_digest():
    assert (
        sum_partitions([part([5], [0], [0.0])], 1).digest != sum_partitions([part([6], [0], [0.0])], 1).digest
    )


def test_a_day_without_tasks_has_no_rows():
    assert sum_partitions([], 1).scores.sum() == 0
