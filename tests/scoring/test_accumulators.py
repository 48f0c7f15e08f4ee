"""What is added up while a night is scored: the same in whatever parts the rows come."""

import numpy as np
import torch

from deepfm.fields import Field, FieldSet
from deepfm.scoring.accumulators import PartitionAccumulator, total_of

FIELDS = FieldSet([Field(name="C", kind="category")])


def part(hashes, ids, logits):
    totals = PartitionAccumulator(FIELDS)
    totals.add_read(np.array(hashes, np.int64))
    totals.of_fields.update(torch.tensor(ids)[:, None])
    totals.add_scored(np.array(logits, np.float32))
    return totals.to_json()


def test_parts_add_up_in_any_order():
    hashes, ids, logits = [5, -7, 2**62, -(2**62)], [0, 1, 2, 3], [-1.0, 0.0, 0.5, 30.0]
    whole = total_of([part(hashes, ids, logits)], 1)
    parts = [part(hashes[3:], ids[3:], logits[3:]), part(hashes[:3], ids[:3], logits[:3])]
    again = total_of(parts, 1)
    assert again.digest == whole.digest == f"{2**64 - 2:016x}"
    assert (again.scores == whole.scores).all() and whole.scores.sum() == 4
    assert (again.fields == whole.fields).all() and whole.fields.sum() == 4


def test_another_row_makes_another_digest():
    assert total_of([part([5], [0], [0.0])], 1).digest != total_of([part([6], [0], [0.0])], 1).digest


def test_a_night_without_tasks_has_no_rows():
    assert total_of([], 1).scores.sum() == 0
