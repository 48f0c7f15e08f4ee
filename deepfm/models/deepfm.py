"""DeepFM: H. Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", 2017."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding, LinearTerms, fm_and_flatten, start_from_part


class DeepFM(nn.Module):
    """Sum of the logits of an FM part and a deep part that share their embeddings (eq. 1 to 4).

    Embeddings are initialized from a normal distribution with standard deviation `init_std`. Number of
    weights, with n ids, F fields and hidden units h_1 … h_L (no batch norm):
    n (K + 1) + 1 + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).

    Difference from the paper: FM part and deep part have a bias each; their sum is the one bias of the paper.
    """

    def __init__(self, num_ids: Sequence[int], embedding_dim: int, *, init_std: float = 0.01, **deep):
        """`deep`: arguments of layers.MLP."""
        super().__init__()
        self.linear = LinearTerms(num_ids)
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(len(num_ids) * embedding_dim, **deep)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of a trained FM; the deep part adds nothing until it is trained."""
        start_from_part(self, weights)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        interaction, inputs = fm_and_flatten(self.embedding(ids, x))  # of (B, F, K)
        return self.linear(ids, x) + interaction + self.deep(inputs)
