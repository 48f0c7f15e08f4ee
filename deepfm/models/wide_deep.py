"""Wide & Deep: H.-T. Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016."""

from collections.abc import Sequence

from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding, LinearTerms


class WideDeep(nn.Module):
    """A wide part, linear over features and crossed features, and a deep part over embeddings (eq. 3).

    Without crossed fields it is the LR & DNN of the DeepFM paper. Crossed fields are the last columns of
    `ids` and have no embedding. Embeddings start normal with deviation `init_std`. Number of weights, with
    n ids, c ids of crossed fields, F fields and hidden units h_1 … h_L (no batch norm):
    n (K + 1) + c + 1 + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).

    Departs from the paper in its optimizers: both parts take the one that the settings name, where the paper
    trains the wide part with FTRL and the deep one with AdaGrad.
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
        """`num_crossed_ids`: of the crossed fields; `deep`: settings of layers.MLP."""
        super().__init__()
        self.linear = LinearTerms([*num_ids, *num_crossed_ids])
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(len(num_ids) * embedding_dim, **deep)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F and crossed fields) ids and x (see layers) -> (B,) logits."""
        return self.linear(ids, x) + self.deep(self.embedding(ids, x).flatten(1))
