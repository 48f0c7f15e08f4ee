"""FM & DNN: variant of Wide & Deep with which H. Guo et al. 2017 (sec. 3) compare DeepFM."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding, LinearTerms, pairwise_interaction, start_from_part


class FMDNN(nn.Module):
    """Sum of the logits of an FM and a deep part with separate embeddings: DeepFM without sharing.

    Embeddings are initialized from a normal distribution with standard deviation `init_std`. Number of
    weights, with n ids, F fields and hidden units h_1 … h_L (no batch norm):
    n (2 K + 1) + 1 + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).
    """

    def __init__(self, num_ids: Sequence[int], embedding_dim: int, *, init_std: float = 0.01, **deep):
        """`deep`: arguments of layers.MLP."""
        super().__init__()
        self.linear = LinearTerms(num_ids)
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep_embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(len(num_ids) * embedding_dim, **deep)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of a trained FM; the deep part adds nothing until it is trained."""
        start_from_part(self, weights)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        fm = self.linear(ids, x) + pairwise_interaction(self.embedding(ids, x))
        return fm + self.deep(self.deep_embedding(ids, x).flatten(1))
