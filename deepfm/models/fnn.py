"""FNN: W. Zhang, T. Du, J. Wang, "Deep Learning over Multi-field Categorical Data", 2016."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding, LinearTerms


class FNN(nn.Module):
    """MLP over z = (w_0, w_1, v_1, w_2, v_2, …), initialized with the weights of a trained FM (sec. 3.1).

    Two stages: train an FM and load its weights with `start_from`, then train all weights. The tables have
    the same names as those of FM, so its state dict can be loaded; layers.MLP initializes the deep part.
    Number of weights, with n ids, F fields and hidden units h_1 … h_L (no batch norm):
    n (K + 1) + 1 + (F (K + 1) + 2) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).

    Difference from the paper: its fields are categorical, so x is 1; here the weight and the embedding of a
    numeric field are multiplied by its value, as in the FM.
    """

    def __init__(self, num_ids: Sequence[int], embedding_dim: int, *, init_std: float = 0.01, **deep):
        """`deep`: arguments of layers.MLP."""
        super().__init__()
        self.linear = LinearTerms(num_ids)
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.deep = MLP(1 + len(num_ids) * (embedding_dim + 1), **deep)

    def start_from(self, fm_weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of an FM with the same fields and embedding dimension.

        Raise RuntimeError if names or shapes differ.
        """
        deep_weights = {
            name: weight for name, weight in self.state_dict().items() if name.startswith("deep.")
        }
        self.load_state_dict({**deep_weights, **fm_weights})

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        w, v = self.linear.weights(ids, x), self.embedding(ids, x)  # (B, F, 1), (B, F, K)
        w_0 = self.linear.bias.expand(len(ids), 1)
        return self.deep(torch.cat([w_0, torch.cat([w, v], dim=2).flatten(1)], dim=1))
