"""Weights of a model by the kind of their gradients: tables, with sparse ones, and dense weights."""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from deepfm.models.layers import FieldEmbedding


def field_embeddings(model: nn.Module) -> list[FieldEmbedding]:
    """All embeddings of the model, in its order."""
    return [module for module in model.modules() if isinstance(module, FieldEmbedding)]


def tables(model: nn.Module) -> list[nn.Parameter]:
    """All tables: the weights with sparse gradients."""
    return [cast(nn.Parameter, embedding.table.weight) for embedding in field_embeddings(model)]


def dense_weights(model: nn.Module) -> list[nn.Parameter]:
    """All other weights, in the order of the model."""
    sparse: Iterable[int] = {id(weight) for weight in tables(model)}
    return [weight for weight in model.parameters() if id(weight) not in sparse]


def gradient_of(weight: Tensor) -> Tensor:
    """Gradient of a weight that the last backward pass has reached."""
    assert weight.grad is not None
    return weight.grad


def sparse_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(U,) distinct rows and (U, K) values of a sparse gradient."""
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
