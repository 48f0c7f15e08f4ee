"""GAUC against scikit-learn group by group, and the same from one rank and from several."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from deepfm.distributed.collectives import SingleProcess
from deepfm.metrics.gauc import Groups, GroupScores, gauc


def by_definition(groups, logits, labels):
    aucs, weights = [], []
    for group in groups.unique():
        chosen = groups == group
        if len(labels[chosen].unique()) == 2:
            aucs.append(roc_auc_score(labels[chosen], logits[chosen]))
            weights.append(int(chosen.sum()))
    return sum(a * w for a, w in zip(aucs, weights, strict=True)) / sum(weights) if weights else math.nan


@settings(max_examples=50)
@given(
    rows=st.lists(
        st.tuples(st.integers(2, 6), st.integers(-3, 3), st.integers(0, 1)), min_size=1, max_size=60
    )
)
def test_it_is_the_mean_of_the_groups_aucs_weighted_by_their_impressions(rows):
    groups, logits, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    expected = by_definition(groups, logits, labels)
    assert gauc(groups, logits.float(), labels) == pytest.approx(expected, nan_ok=True)


def test_groups_of_one_label_are_left_out():
    groups, labels = torch.tensor([2, 2, 3, 3]), torch.tensor([0, 1, 1, 1])
    assert gauc(groups, torch.tensor([0.1, 0.2, 0.3, 0.4]), labels) == 1
    assert math.isnan(gauc(groups[2:], torch.tensor([0.3, 0.4]), labels[2:]))


def test_without_impressions_there_is_none():
    assert math.isnan(GroupScores(Groups(0, 2)).gauc(SingleProcess()))


def rows(num_rows):
    random = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 12, (num_rows, 3), generator=random)
    return ids, torch.randn(num_rows, generator=random), torch.randint(0, 2, (num_rows,), generator=random)


def test_impressions_of_missing_and_unknown_values_are_nobodys():
    ids, logits, labels = rows(500)
    scores = GroupScores(Groups(slot=1, first_known_id=4))
    scores.update(ids, logits, labels.float())
    known = ids[:, 1] >= 4
    expected = by_definition(ids[known, 1], logits[known], labels[known])
    assert scores.gauc(SingleProcess()) == pytest.approx(expected)


@pytest.mark.parametrize("size", [2, 3])
def test_several_ranks_have_the_gauc_of_all_their_rows(in_ranks, size):
    ids, logits, labels = rows(301)
    shares = torch.arange(301).tensor_split(size)

    def work(collectives):
        scores = GroupScores(Groups(slot=0, first_known_id=2))
        for part in shares[collectives.rank].split(50):
            scores.update(ids[part], logits[part], labels[part].float())
        return scores.gauc(collectives)

    known = ids[:, 0] >= 2
    expected = by_definition(ids[known, 0], logits[known], labels[known])
    assert in_ranks(size, work) == [pytest.approx(expected)] * size
