"""Impressions by field and kind of value, compared with counts by hand."""

import torch

from deepfm.fields import Field, FieldSet
from deepfm.metrics.field_counts import FIRST_SHOWN, MISSING, NUM_SHOWN, OTHER, UNKNOWN, FieldValueCounts

FIELDS = FieldSet(
    [
        Field(name="C", kind="category", unknown_buckets=2),
        Field(name="G", kind="list", max_values=2, separator=" "),
        Field(name="V", kind="value"),
        Field(name="X", kind="cross", parts=("C", "G"), buckets=9),
    ]
)


def counts_of(*rows):
    counts = FieldValueCounts(FIELDS)
    for row in rows:
        counts.update(torch.tensor([row]))
    return counts.counts


def test_missing_unknown_shown_and_other_values_are_counted_separately():
    counts = counts_of(*([id_, 2, -1, 1, 0] for id_ in (0, 1, 2, 3, 3, 4, 3 + NUM_SHOWN, 10**6)))
    expected = {MISSING: 1, UNKNOWN: 2, FIRST_SHOWN: 2, FIRST_SHOWN + 1: 1, OTHER: 2}
    assert {kind: num for kind, num in enumerate(counts[0].tolist()) if num} == expected


def test_each_value_of_a_list_counts_and_empty_slots_do_not():
    counts = counts_of([3, 2, 3, 1, 0], [3, 2, -1, 1, 0], [3, 0, -1, 1, 0])
    assert counts[1, [MISSING, FIRST_SHOWN, FIRST_SHOWN + 1]].tolist() == [1, 2, 1]
    assert counts[1].sum() == 4


def test_a_value_is_present_or_missing_and_a_cross_is_not_counted():
    counts = counts_of([3, 2, -1, 1, 5], [3, 2, -1, 0, 5])
    assert counts[2, [MISSING, FIRST_SHOWN]].tolist() == [1, 1]
    assert counts[3].sum() == 0


def test_batches_add_up():
    ids = torch.tensor([[0, 2, -1, 1, 0], [3, 2, 3, 0, 1]])
    together = FieldValueCounts(FIELDS)
    together.update(ids)
    assert torch.equal(together.counts, counts_of(*ids.tolist()))
