"""Training logloss within epochs, one point every few steps."""

#: Enough points per epoch to see the loss fall, few enough to log them during training.
_POINTS_PER_EPOCH = 50


class StepMetrics:
    """Converts the running mean of an epoch into means over stretches of steps."""

    def __init__(self, num_steps: int, prefix: str = ""):
        self._num_steps, self._prefix = num_steps, prefix
        self._every_n_steps = max(1, num_steps // _POINTS_PER_EPOCH)
        self._epoch, self._step, self._mean = 0, 0, 0.0  # of the last point

    def point(self, epoch: int, step: int, mean: float) -> dict[str, float] | None:
        """Return {"step": global step, "train_logloss_by_step": mean} if a point is due, else None.

        `mean` is that of the epoch so far. Steps are weighted equally: their sizes differ by at most one row
        per rank.
        """
        if epoch != self._epoch:
            # A training resumed within an epoch has no point for the steps before.
            self._epoch, self._step, self._mean = epoch, step - 1, mean if step > 1 else 0.0
        if step % self._every_n_steps:
            return None
        logloss = (mean * step - self._mean * self._step) / (step - self._step)
        self._step, self._mean = step, mean
        global_step = (epoch - 1) * self._num_steps + step
        return {"step": global_step, f"{self._prefix}train_logloss_by_step": logloss}
