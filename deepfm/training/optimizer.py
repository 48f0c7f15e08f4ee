"""Adam for the dense weights, SparseAdam for the tables: a step costs what the batch touches."""

from collections.abc import Iterable

import torch
from torch import nn


class Optimizer:
    """Two optimizers that step as one.

    SparseAdam is "lazy": the moments of a row that is not in the batch stay as they are, where dense Adam
    would decay them and keep moving the row (Kingma & Ba 2015 has neither case).
    """

    def __init__(self, model: nn.Module, learning_rate: float):
        self.sparse, self.dense = tables(model), dense_weights(model)
        self._optimizers = [torch.optim.SparseAdam(self.sparse, lr=learning_rate)] if self.sparse else []
        if self.dense:
            self._optimizers.append(torch.optim.Adam(self.dense, lr=learning_rate))

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move the weights against their gradients."""
        for optimizer in self._optimizers:
            optimizer.step()


def tables(model: nn.Module) -> list[nn.Parameter]:
    """The weights whose gradients are sparse."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding) and module.sparse]


def dense_weights(model: nn.Module) -> list[nn.Parameter]:
    """All other weights, in the model's order."""
    sparse: Iterable[int] = {id(weight) for weight in tables(model)}
    return [weight for weight in model.parameters() if id(weight) not in sparse]
