"""Wide & Deep: H.-T. Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding, LinearTerms, start_from_part


class WideDeep(nn.Module):
    """Sum of a wide part, linear over features and crossed features, and an MLP over embeddings (eq. 3).

    Without crossed fields it is LR & DNN of the DeepFM paper. Crossed fields are the last columns of `ids`
    and have no embedding. Embeddings are initialized from a normal distribution with standard deviation
    `init_std`. Number of weights, with n ids, c ids of crossed fields, F fields and hidden units h_1 … h_L
    (no batch norm):
    n (K + 1) + c + 1 + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).

    Difference from the paper: both parts use the optimizer in the settings; the paper trains the wide part
    with FTRL and the deep part with AdaGrad.
    """

    def __init__(
        self,
        num_ids: Sequence[int],
        embedding_dim: int,
        *,
        num_crossed_ids: Sequence[int] = (),
        init_std: float = 0.01,
        **deep,
    ):
        """`num_crossed_ids`: number of ids of each crossed field; `deep`: arguments of layers.MLP."""
        super().__init__()
        self.linear = LinearTerms([*num_ids, *num_crossed_ids])
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(len(num_ids) * embedding_dim, **deep)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of a trained LR without crossed fields; the deep part adds nothing at first."""
        start_from_part(self, weights)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F + crossed fields) ids and x (see layers) -> (B,) logits."""
        return self.linear(ids, x) + self.deep(self.embedding(ids, x).flatten(1))
