"""FTRL-Proximal: each step recomputes the weights from the accumulated gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Ftrl(torch.optim.Optimizer):
    """FTRL-Proximal, per coordinate (H. B. McMahan et al., "Ad Click Prediction", 2013, algorithm 1).

    With g the gradient and sigma = (sqrt(n + g^2) - sqrt(n)) / lr:  z += g - sigma w,  n += g^2, then
    w = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n)) / lr + l2).

    Weights must start at zero, which is consistent with z = 0, or be made consistent by `fit_to_weights`. A
    row without a gradient keeps its weights and state. Gradients here are of a mean over a batch, in the
    paper of one impression, so n grows B^2 times slower for a feature that occurs once per batch: beta and l1
    are in the scale of such means.
    """

    def __init__(
        self, weights: Iterable[Tensor], lr: float, *, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0
    ):
        super().__init__(weights, {"lr": lr, "beta": beta, "l1": l1, "l2": l2})

    @torch.no_grad()
    def fit_to_weights(self) -> None:
        """Set z to a value that yields the current weights; unchanged, to the bit, if it already does.

        It does not for weights that were loaded without z and n, such as those of new ids, or with other
        settings. For a weight of 0, z is clamped to [-l1, l1], because it may be moving towards a non-zero
        weight.
        """
        for group in self.param_groups:
            for w in group["params"]:
                z, n = self._state_of(w)
                fitted = -(w * _strength(n, group) + w.sign() * group["l1"])
                fitted = torch.where(w == 0, z.clamp(-group["l1"], group["l1"]), fitted)
                z.copy_(torch.where(w == _weight(z, n, group), z, fitted))

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override] # no closures
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                tensors = (weight, *self._state_of(weight))
                if weight.grad.is_sparse:
                    gradient = weight.grad.coalesce()
                    rows = gradient.indices()[0]
                    w, z, n = (tensor[rows] for tensor in tensors)
                    updated = _ftrl_step(w, z, n, gradient.values(), group)
                    for old, new in zip(tensors, updated, strict=True):
                        old[rows] = new
                else:
                    updated = _ftrl_step(*tensors, weight.grad, group)
                    for old, new in zip(tensors, updated, strict=True):
                        old.copy_(new)

    def _state_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and n, created as zeros if missing."""
        state = self.state[weight]
        for name in ("z", "n"):
            if name not in state:
                state[name] = torch.zeros_like(weight)
        return state["z"], state["n"]


def _ftrl_step(w: Tensor, z: Tensor, n: Tensor, g: Tensor, group: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Return w, z and n after a step, see Ftrl."""
    next_n = n + g.square()
    z = z + g - (next_n.sqrt() - n.sqrt()) / group["lr"] * w
    return _weight(z, next_n, group), z, next_n


def _weight(z: Tensor, n: Tensor, group: dict) -> Tensor:
    # If beta and l2 are 0, an untouched coordinate has strength 0; its z is 0 as well.
    return torch.where(z.abs() <= group["l1"], 0.0, -(z - z.sign() * group["l1"]) / _strength(n, group))


def _strength(n: Tensor, group: dict) -> Tensor:
    return (group["beta"] + n.sqrt()) / group["lr"] + group["l2"]
