"""FTRL-Proximal: weights are computed anew in each step, from what is remembered of them."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Ftrl(torch.optim.Optimizer):
    """FTRL-Proximal, per coordinate (H. B. McMahan et al., "Ad Click Prediction", 2013, algorithm 1).

    With g the gradient and sigma = (sqrt(n + g^2) - sqrt(n)) / lr:  z += g - sigma w,  n += g^2, then
    w = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n)) / lr + l2).

    Weights are expected to start at zero, from where z = 0 takes them, or to be taken up by
    `fit_to_weights`; a row without a gradient keeps its weights and its state. Our gradients are of the mean
    over a batch where the paper's are of one impression, so n grows B^2 times slower for lone features: beta
    and l1 are in the scale of such means.
    """

    def __init__(
        self, weights: Iterable[Tensor], lr: float, *, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0
    ):
        super().__init__(weights, {"lr": lr, "beta": beta, "l1": l1, "l2": l2})

    @torch.no_grad()
    def fit_to_weights(self) -> None:
        """Let z be what the weights follow from; it stays, to the bit, where they do already.

        They do not where they came without z and n, as new ids' do, or from a training by other settings. Of
        a weight of 0 it stays as near as l1 allows: it may be on its way there.
        """
        for group in self.param_groups:
            for w in group["params"]:
                z, n = self._state_of(w)
                fitted = -(w * _strength(n, group) + w.sign() * group["l1"])
                fitted = torch.where(w == 0, z.clamp(-group["l1"], group["l1"]), fitted)
                z.copy_(torch.where(w == _weight(z, n, group), z, fitted))

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                kept = (weight, *self._state_of(weight))
                if weight.grad.is_sparse:
                    gradient = weight.grad.coalesce()
                    rows = gradient.indices()[0]
                    moved = _ftrl_step(*(tensor[rows] for tensor in kept), gradient.values(), group)
                    for old, new in zip(kept, moved, strict=True):
                        old[rows] = new
                else:
                    moved = _ftrl_step(*kept, weight.grad, group)
                    for old, new in zip(kept, moved, strict=True):
                        old.copy_(new)

    def _state_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """z and n; zeros where there are none yet."""
        state = self.state[weight]
        for name in ("z", "n"):
            if name not in state:
                state[name] = torch.zeros_like(weight)
        return state["z"], state["n"]


def _ftrl_step(w: Tensor, z: Tensor, n: Tensor, g: Tensor, group: dict) -> tuple[Tensor, Tensor, Tensor]:
    """w, z and n after a step; see Ftrl."""
    next_n = n + g.square()
    z = z + g - (next_n.sqrt() - n.sqrt()) / group["lr"] * w
    return _weight(z, next_n, group), z, next_n


def _weight(z: Tensor, n: Tensor, group: dict) -> Tensor:
    # An untouched coordinate has no strength where beta and l2 are 0; its z is 0 as well.
    return torch.where(z.abs() <= group["l1"], 0.0, -(z - z.sign() * group["l1"]) / _strength(n, group))


def _strength(n: Tensor, group: dict) -> Tensor:
    return (group["beta"] + n.sqrt()) / group["lr"] + group["l2"]
