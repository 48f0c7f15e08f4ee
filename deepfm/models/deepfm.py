"""DeepFM: H. Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", 2017."""

from collections.abc import Sequence

from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding, LinearTerms, fm_and_flatten


class DeepFM(nn.Module):
    """FM part and deep part over the SAME embeddings, added as logits (eq. 1 to 4).

    Embeddings start normal with deviation `init_std`. Number of weights, with n ids, F fields and hidden
    units h_1 … h_L (no batch norm): n (K + 1) + 1 + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).

    Departs from the paper in one point: FM and deep part have a bias each, which together are its one bias.
    """

    def __init__(self, num_ids: Sequence[int], embedding_dim: int, *, init_std: float = 0.01, **deep):
        """`deep`: settings of layers.MLP."""
        super().__init__()
        self.linear = LinearTerms(num_ids)
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(len(num_ids) * embedding_dim, **deep)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        interaction, inputs = fm_and_flatten(self.embedding(ids, x))  # of (B, F, K)
        return self.linear(ids, x) + interaction + self.deep(inputs)
