"""FM: S. Rendle, "Factorization Machines", 2010."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deepfm.models.layers import FieldEmbedding, LinearTerms, pairwise_interaction, start_from_part


class FM(nn.Module):
    """w_0 + sum of w_i x_i + sum over pairs i < j of <v_i, v_j> x_i x_j (eq. 1).

    First-order weights are initialized to zero, embeddings from a normal distribution with standard deviation
    `init_std` (the paper does not give its value). Number of weights, with n ids: n (K + 1) + 1.
    """

    def __init__(self, num_ids: Sequence[int], embedding_dim: int, *, init_std: float = 0.01):
        super().__init__()
        self.linear = LinearTerms(num_ids)
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of a trained LR; the embeddings stay as they are, close to zero."""
        start_from_part(self, weights)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        return self.linear(ids, x) + pairwise_interaction(self.embedding(ids, x))
