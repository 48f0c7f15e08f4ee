"""Embeddings of a field and their nearest neighbours."""

import pytest
import torch

from deepfm.analysis.embeddings import embeddings_by_id, nearest
from deepfm.models.layers import FieldEmbedding


def test_embeddings_of_a_field_equal_the_lookups_of_its_ids():
    torch.manual_seed(0)
    num_ids = [3, 2, 4]
    embedding = FieldEmbedding(num_ids, 5, init_std=1.0)
    for field, num_field_ids in enumerate(num_ids):
        ids = torch.zeros(num_field_ids, 3, dtype=torch.long)
        ids[:, field] = torch.arange(num_field_ids)
        assert torch.equal(embeddings_by_id(embedding, num_ids, field), embedding(ids)[:, field].detach())


def test_a_list_of_several_columns_has_one_set_of_embeddings():
    embedding = FieldEmbedding([3, 2], 2, init_std=1.0)
    expected = embedding.table.weight.detach()[3:]
    embedding.set_slots([2, 1])
    assert torch.equal(embeddings_by_id(embedding, [3, 2], 1), expected)


def test_nearest_compares_directions_and_excludes_the_row_itself():
    v = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [100.0, 100.0], [0.1, 0.0]])
    rows, cosines = nearest(v, 0, 2)
    assert rows == [3, 2]
    assert cosines == pytest.approx([1.0, 0.5**0.5])


def test_there_are_no_more_neighbours_than_other_rows():
    assert sorted(nearest(torch.randn(3, 2), 1, 10)[0]) == [0, 2]
