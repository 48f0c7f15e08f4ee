"""PNN: Y. Qu et al., "Product-based Neural Networks for User Response Prediction", 2016."""

from collections.abc import Sequence
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from deepfm.models.layers import MLP, FieldEmbedding


class PNN(nn.Module):
    """MLP over the linear signals z and the products p of the embeddings (the product layer).

    z are the embeddings, in the paper their products with a constant signal 1; the product of the constant
    with itself is the bias of the first hidden layer. Depending on the arguments, p are the P inner products
    <v_i, v_j> (IPNN), the outer products (OPNN), or both (PNN*). Outer products have two forms: "pairs",
    v_i^T W_ij v_j with a trainable K x K matrix per pair, which gives P signals; and "pooled", the cheaper
    superposition of the paper, the K x K entries of (sum v_i)(sum v_i)^T.

    Differences from the paper: pairs are i < j, while its sums are over all i and j, which counts each pair
    twice and adds squares; and a pair has one matrix, as in articles that compare with PNN, while in the
    paper each unit of the first hidden layer has separate matrices.

    Embeddings are initialized from a normal distribution with standard deviation `init_std`, the matrices
    with 1/K, so that outer products are about as large as inner products. Number of weights, with n ids, F
    fields, Q signals p (P for inner, P or K^2 for outer) and hidden units h_1 … h_L (no batch norm):
    n K + (P K^2 for outer pairs) + (F K + Q + 1) h_1 + … + (h_{L-1} + 1) h_L + (h_L + 1).
    """

    def __init__(
        self,
        num_ids: Sequence[int],
        embedding_dim: int,
        *,
        inner: bool,
        outer: str | None,
        init_std=0.01,
        **deep,
    ):
        """`outer`: None, "pairs" or "pooled"; `deep`: arguments of layers.MLP."""
        super().__init__()
        self.embedding = FieldEmbedding(num_ids, embedding_dim, init_std=init_std)
        self.products = nn.ModuleList()
        if inner:
            self.products.append(InnerProducts(len(num_ids)))
        if outer == "pairs":
            self.products.append(OuterProducts(len(num_ids), embedding_dim))
        elif outer == "pooled":
            self.products.append(PooledOuterProduct(embedding_dim))
        num_signals = sum(cast(int, product.num_signals) for product in self.products)
        self.deep = MLP(len(num_ids) * embedding_dim + num_signals, **deep)

    def forward(self, ids: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, F) ids and x (see layers) -> (B,) logits."""
        v = self.embedding(ids, x)  # (B, F, K)
        return self.deep(torch.cat([v.flatten(1), *(product(v) for product in self.products)], dim=1))


class InnerProducts(nn.Module):
    """(B, F, K) -> (B, P): <v_i, v_j> of the pairs i < j, in the order (0, 1), (0, 2) and so on."""

    pair_indices: Tensor

    def __init__(self, num_fields: int):
        super().__init__()
        pairs = list(combinations(range(num_fields), 2))
        self.num_signals = len(pairs)
        indices = torch.tensor([i * num_fields + j for i, j in pairs], dtype=torch.long)
        self.register_buffer("pair_indices", indices, persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        gram = v @ v.transpose(1, 2)  # (B, F, F)
        return gram.flatten(1).index_select(1, self.pair_indices)


class OuterProducts(nn.Module):
    """(B, F, K) -> (B, P): v_i^T W_ij v_j of the pairs i < j."""

    def __init__(self, num_fields: int, embedding_dim: int):
        super().__init__()
        self.num_signals = num_fields * (num_fields - 1) // 2
        self.kernels = nn.Parameter(torch.empty(self.num_signals, embedding_dim, embedding_dim))
        nn.init.normal_(self.kernels, std=1 / embedding_dim)

    def forward(self, v: Tensor) -> Tensor:
        num_impressions, num_fields, dim = v.shape
        # Each field with all later fields, as views of v: gathering both fields of every pair would copy
        # P / F times as much, and add as much in the backward pass.
        field_kernels = self.kernels.split(list(range(num_fields - 1, 0, -1)))  # each (F - 1 - i, K, K)
        products = []
        for i, kernels in enumerate(field_kernels):
            transformed = v[:, i] @ kernels.transpose(0, 1).reshape(dim, -1)  # (B, (F - 1 - i) K)
            products.append((transformed.view(num_impressions, -1, dim) * v[:, i + 1 :]).sum(dim=2))
        if not products:
            # One field: no kernels. Keep the empty weight in the graph, because each weight needs a gradient.
            return self.kernels.sum() * v.new_ones(num_impressions, 0)
        return torch.cat(products, dim=1)


class PooledOuterProduct(nn.Module):
    """(B, F, K) -> (B, K^2): the entries of f f^T, where f is the sum of all embeddings."""

    def __init__(self, embedding_dim: int):
        super().__init__()
        self.num_signals = embedding_dim**2

    def forward(self, v: Tensor) -> Tensor:
        f = v.sum(dim=1)  # (B, K)
        return (f[:, :, None] * f[:, None, :]).flatten(1)
