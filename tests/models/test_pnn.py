"""PNN (Qu et al. 2016): a deep part over embeddings z and their products p, inner, outer or both."""

from itertools import combinations

import pytest
import torch

from deepfm.models.pnn import PNN, InnerProducts, OuterProducts, PooledOuterProduct


def scaled(one):
    """The embeddings x_i v_i, the factors of all products."""
    return [[one.v[i][k] * one.x[i] for k in one.dims] for i in one.fields]


def linear_signals(one):
    return [signal for v in scaled(one) for signal in v]


def inner_products(one):
    v, signals = scaled(one), []
    for i, j in combinations(one.fields, 2):
        product = 0.0
        for k in one.dims:
            product = product + v[i][k] * v[j][k]
        signals.append(product)
    return signals


def outer_products_of_pairs(kernels):
    def product_signals(one):
        v, signals = scaled(one), []
        for pair, (i, j) in enumerate(combinations(one.fields, 2)):
            product = 0.0
            for a in one.dims:
                for b in one.dims:
                    product = product + one[kernels][pair, a, b] * v[i][a] * v[j][b]
            signals.append(product)
        return signals

    return product_signals


def pooled_outer_product(one):
    """Entries of the sum of v_i v_j^T over all i and j."""
    v, signals = scaled(one), []
    for a in one.dims:
        for b in one.dims:
            entry = 0.0
            for i in one.fields:
                for j in one.fields:
                    entry = entry + v[i][a] * v[j][b]
            signals.append(entry)
    return signals


OPNN_KERNELS, PNN_KERNELS = "products.0.kernels", "products.1.kernels"


@pytest.mark.parametrize(
    ("inner", "outer", "products"),
    [
        (True, None, [inner_products]),
        (False, "pairs", [outer_products_of_pairs(OPNN_KERNELS)]),
        (False, "pooled", [pooled_outer_product]),
        (True, "pairs", [inner_products, outer_products_of_pairs(PNN_KERNELS)]),
        (True, "pooled", [inner_products, pooled_outer_product]),
    ],
    ids=["IPNN", "OPNN of pairs", "OPNN pooled", "PNN* of pairs", "PNN* pooled"],
)
def test_logit_and_gradients_equal_an_mlp_over_z_and_p(equals_definition, inner, outer, products):
    def pnn_by_definition(one):
        return one.deep(linear_signals(one) + [signal for p in products for signal in p(one)])

    equals_definition(
        lambda case: PNN(case.num_ids, case.k, inner=inner, outer=outer, **case.deep), pnn_by_definition
    )


V = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [0.0, 4.0]]])  # one impression, three fields, K = 2


def test_inner_products_of_three_fields_equal_those_computed_by_hand():
    # <v1,v2> = 3, <v1,v3> = 8, <v2,v3> = 0
    assert InnerProducts(3)(V).tolist() == [[3, 8, 0]]


def test_outer_products_use_the_matrix_of_their_pair():
    outer = OuterProducts(3, 2)
    # One entry per pair: v1[0] v2[1], v1[1] v3[1] and v2[0] v3[1].
    outer.kernels.data = torch.zeros(3, 2, 2)
    outer.kernels.data[0, 0, 1] = outer.kernels.data[1, 1, 1] = outer.kernels.data[2, 0, 1] = 1.0
    assert outer(V).tolist() == [[0, 8, 12]]


def test_outer_products_with_the_identity_matrix_are_inner_products():
    outer = OuterProducts(3, 2)
    outer.kernels.data = torch.eye(2).expand(3, 2, 2)
    assert outer(V).tolist() == InnerProducts(3)(V).tolist()


def test_the_pooled_outer_product_equals_the_one_computed_by_hand():
    # The sum of the embeddings is (4, 6).
    assert PooledOuterProduct(2)(V).tolist() == [[16, 24, 24, 36]]


def test_matrices_of_pairs_start_with_a_standard_deviation_of_one_over_k():
    torch.manual_seed(0)
    assert OuterProducts(30, 8).kernels.std().item() == pytest.approx(1 / 8, rel=0.02)


@pytest.mark.parametrize("outer", [None, "pairs"])
def test_one_field_has_no_pair_and_can_be_trained(outer):
    pnn = PNN([3], 2, inner=True, outer=outer, hidden_units=(2,))
    pnn(torch.tensor([[0], [2]])).sum().backward()
    assert all(weight.grad is not None for weight in pnn.parameters())
