"""DeepFM: H. Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", 2017."""

from collections.abc import Sequence

from torch import Tensor, nn

from deepfm.models.layers import DeepPart, FieldEmbedding, LinearTerms, pairwise_interaction


class DeepFM(nn.Module):
    """FM part and deep part over the SAME embeddings, added as logits (eq. 1 to 4 of the paper).

    Embeddings start normal with standard deviation 0.01. Number of weights, with n ids, F fields and hidden
    units h_1 … h_L (no batch norm): n (K + 1) + 1 + (F K + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).

    Departs from the paper in one point: FM and deep part have a bias each, which together are its one bias.
    """

    def __init__(
        self,
        num_ids: Sequence[int],
        embedding_dim: int,
        *,
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
    ):
        super().__init__()
        self.linear = LinearTerms(num_ids)
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=0.01)
        self.deep = DeepPart(
            len(num_ids) * embedding_dim,
            hidden_units,
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
        )

    def forward(self, ids: Tensor) -> Tensor:
        """(B, F) int64 ids -> (B,) logits."""
        v = self.embedding(ids)  # (B, F, K)
        return self.linear(ids) + pairwise_interaction(v) + self.deep(v.flatten(1))

    def penalty(self, ids: Tensor, w_reg: float, v_reg: float) -> Tensor:
        """L2 of the features an impression has, summed over the batch: (B, F) ids -> scalar.

        0.5 w_reg |w|^2 + 0.5 v_reg |v|^2 a looked-up row, so a feature is held back as often as it occurs,
        as in the stochastic updates of libFM (Rendle 2012, sec. 3.1), and rows not in the batch cost nothing.
        """
        w, v = self.linear.weights(ids), self.embedding(ids)
        return 0.5 * (w_reg * w.square().sum() + v_reg * v.square().sum())
