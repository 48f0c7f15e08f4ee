"""DNN: only the deep part of H. Guo et al. 2017 (DeepFM, sec. 2.1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding


class DNN(nn.Module):
    """MLP over the embeddings: only high-order interactions, no first or second order (eq. 3, 4).

    Embeddings are initialized from a normal distribution with standard deviation `init_std`. Number of
    weights, with n ids, F fields and hidden units h_1 … h_L (no batch norm):
    n K + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).
    """

    def __init__(self, num_ids: Sequence[int], embedding_dim: int, *, init_std: float = 0.01, **deep):
        """`deep`: arguments of layers.MLP."""
        super().__init__()
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(len(num_ids) * embedding_dim, **deep)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        return self.deep(self.embedding(ids, x).flatten(1))
