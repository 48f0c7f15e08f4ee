"""GAUC compared with scikit-learn group by group, on one rank and on several."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from deepfm.distributed.collectives import SingleProcess
from deepfm.metrics.gauc import Groups, GroupScores, gauc


def gauc_by_definition(groups, logits, labels):
    aucs, weights = [], []
    for group in groups.unique():
        in_group = groups == group
        if len(labels[in_group].unique()) == 2:
            aucs.append(roc_auc_score(labels[in_group], logits[in_group]))
            weights.append(int(in_group.sum()))
    return sum(a * w for a, w in zip(aucs, weights, strict=True)) / sum(weights) if weights else math.nan


@settings(max_examples=50)
@given(
    rows=st.lists(
        st.tuples(st.integers(2, 6), st.integers(-3, 3), st.integers(0, 1)), min_size=1, max_size=60
    )
)
def test_gauc_is_the_mean_auc_of_groups_weighted_by_impressions(rows):
    groups, logits, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    expected = gauc_by_definition(groups, logits, labels)
    assert gauc(groups, logits.float(), labels) == pytest.approx(expected, nan_ok=True)


def test_groups_of_one_label_are_left_out():
    groups, labels = torch.tensor([2, 2, 3, 3]), torch.tensor([0, 1, 1, 1])
    assert gauc(groups, torch.tensor([0.1, 0.2, 0.3, 0.4]), labels) == 1
    assert math.isnan(gauc(groups[2:], torch.tensor([0.3, 0.4]), labels[2:]))


def test_without_impressions_gauc_is_nan():
    assert math.isnan(GroupScores(Groups(0, 2)).gauc(SingleProcess()))


def rows(num_rows):
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 12, (num_rows, 3), generator=generator)
    return (
        ids,
        torch.randn(num_rows, generator=generator),
        torch.randint(0, 2, (num_rows,), generator=generator),
    )


def test_missing_and_unknown_values_are_in_no_group():
    ids, logits, labels = rows(500)
    scores = GroupScores(Groups(slot=1, first_known_id=4))
    scores.update(ids, logits, labels.float())
    known = ids[:, 1] >= 4
    expected = gauc_by_definition(ids[known, 1], logits[known], labels[known])
    assert scores.gauc(SingleProcess()) == pytest.approx(expected)


@pytest.mark.parametrize("size", [2, 3])
def test_several_ranks_get_the_gauc_of_all_rows(in_ranks, size):
    ids, logits, labels = rows(301)
    shares = torch.arange(301).tensor_split(size)

    def work(collectives):
        scores = GroupScores(Groups(slot=0, first_known_id=2))
        for part in shares[collectives.rank].split(50):
            scores.update(ids[part], logits[part], labels[part].float())
        return scores.gauc(collectives)

    known = ids[:, 0] >= 2
    expected = gauc_by_definition(ids[known, 0], logits[known], labels[known])
    assert in_ranks(size, work) == [pytest.approx(expected)] * size
