"""A field's embeddings, and which of them lie close together."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import normalize

from deepfm.models.layers import FieldEmbedding


def field_embeddings(embedding: FieldEmbedding, num_ids: Sequence[int], field: int) -> Tensor:
    """(num_ids[field], K): the embeddings of one field by id; `num_ids` as the table was made with."""
    start = sum(num_ids[:field])
    return embedding.table.weight.detach()[start : start + num_ids[field]]


def nearest(v: Tensor, row: int, num: int) -> tuple[list[int], list[float]]:
    """(n, K) embeddings -> the `num` rows closest to one of them by cosine, and those cosines; not itself.

    Length is left out: it grows with how often an id was trained, and says little of what it means.
    """
    directions = normalize(v, dim=1)
    cosines = directions @ directions[row]
    cosines[row] = -2.0  # below any other
    found = cosines.topk(min(num, len(v) - 1))
    return found.indices.tolist(), found.values.tolist()
