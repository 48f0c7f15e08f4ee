"""Learning rate schedules."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Factor of the learning rate in each step.

    It rises linearly over `warmup_steps`, then stays constant or falls to zero along half a cosine until step
    `num_steps` (I. Loshchilov and F. Hutter, "SGDR", 2017, eq. 5, without restarts). Kind "plateau"
    multiplies it by
    `reduction` for each plateau (see TrainingHistory.num_reductions). More workers make a larger global
    batch;
    `scale` is the factor chosen for it (P. Goyal et al. 2017). Scaling often costs AUC with Adam, so it is
    off by default.
    """

    kind: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_steps: int = 0
    num_steps: int = 0  # of all epochs, for cosine
    scale: float = 1.0  # see `scale_of`
    reduction: float = 0.1  # for plateau

    def factor(self, step: int, num_reductions: int = 0) -> float:
        """Factor of a step, counted from 1 over all epochs, after `num_reductions` plateaus."""
        factor = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        # The last step has factor 0: if it were the only one, nothing would be learned.
        if self.kind == "cosine" and step > self.warmup_steps and self.num_steps > 1:
            share = (step - self.warmup_steps) / max(self.num_steps - self.warmup_steps, 1)
            factor = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        if self.kind == "plateau":
            factor *= self.reduction**num_reductions
        return self.scale * factor


def scale_of(rule: Literal["none", "sqrt", "linear"], num_workers: int) -> float:
    """Factor of the learning rate for a global batch that is `num_workers` times as large."""
    return {"none": 1.0, "sqrt": math.sqrt(num_workers), "linear": float(num_workers)}[rule]
