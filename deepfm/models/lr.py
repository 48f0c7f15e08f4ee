"""LR: logistic regression over one-hot features, H. B. McMahan et al., "Ad Click Prediction", 2013."""

from collections.abc import Sequence

from torch import Tensor, nn

from deepfm.models.layers import LinearTerms


class LogisticRegression(nn.Module):
    """w_0 + sum of w_i x_i: only first order, no interactions. All weights are initialized to zero.

    Number of weights, with n ids: n + 1.
    """

    def __init__(self, num_ids: Sequence[int]):
        super().__init__()
        self.linear = LinearTerms(num_ids)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        return self.linear(ids, x)
