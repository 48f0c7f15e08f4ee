"""Embeddings of a field and their nearest neighbours."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import normalize

from deepfm.models.layers import FieldEmbedding


def embeddings_by_id(embedding: FieldEmbedding, num_ids: Sequence[int], field: int) -> Tensor:
    """Return the (num_ids[field], K) embeddings of one field by id; `num_ids`: those of the model."""
    start = sum(num_ids[:field])
    return embedding.table.weight.detach()[start : start + num_ids[field]]


def nearest(v: Tensor, row: int, num_neighbours: int) -> tuple[list[int], list[float]]:
    """(n, K) embeddings -> the other `num_neighbours` rows nearest to `row` by cosine, and the cosines.

    The length of an embedding is ignored: it depends on how often an id was trained, not on its meaning.
    """
    directions = normalize(v, dim=1)
    cosines = directions @ directions[row]
    cosines[row] = -2.0  # below any other
    neighbours = cosines.topk(min(num_neighbours, len(v) - 1))
    return neighbours.indices.tolist(), neighbours.values.tolist()
