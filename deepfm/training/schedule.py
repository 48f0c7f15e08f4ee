"""The learning rate over the steps of a training."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """By what the learning rate is multiplied in each step.

    It rises in a straight line over `warmup_steps`, then stays, or falls to zero along half a cosine until
    the last of `num_steps` (I. Loshchilov and F. Hutter, "SGDR", 2017, eq. 5, without restarts), unless there
    is but one. More workers make a larger global batch; whether its steps should be larger too is a choice
    (P. Goyal et al. 2017): with Adam it often costs AUC, so none by default. On a plateau it is reduced: by
    `reduction` as often as epochs brought no progress (see Training.num_reductions).
    """

    kind: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_steps: int = 0
    num_steps: int = 0  # of all epochs; for cosine
    scale: float = 1.0  # of all steps, see `scale_of`
    reduction: float = 0.1  # for plateau

    def factor(self, step: int, num_reductions: int = 0) -> float:
        """Of a step, from 1 over all epochs, after so many plateaus."""
        factor = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        # A single step would be the last: nothing would be learnt.
        if self.kind == "cosine" and step > self.warmup_steps and self.num_steps > 1:
            share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
            factor = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        if self.kind == "plateau":
            factor *= self.reduction**num_reductions
        return self.scale * factor


def scale_of(rule: Literal["none", "sqrt", "linear"], num_workers: int) -> float:
    """How much larger steps are for a batch that is `num_workers` times as large."""
    return {"none": 1.0, "sqrt": math.sqrt(num_workers), "linear": float(num_workers)}[rule]
