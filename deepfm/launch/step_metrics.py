"""Training logloss within epochs, one point every few steps."""

from deepfm.training.schedule import EpochSteps

#: Enough points per epoch to see the loss fall, few enough to log them during training.
_POINTS_PER_EPOCH = 50


class StepMetrics:
    """Converts the running mean of an epoch into means over stretches of steps."""

    def __init__(self, steps: EpochSteps, prefix: str = ""):
        self._steps, self._prefix = steps, prefix
        self._every_n_steps = max(1, steps.per_epoch // _POINTS_PER_EPOCH)
        self._epoch, self._equal_steps, self._mean = 0, 0.0, 0.0  # of the last point

    def point(self, epoch: int, step: int, mean: float) -> dict[str, float] | None:
        """Return {"step": global step, "train_logloss_by_step": mean} if a point is due, else None.

        `mean` is that of the epoch so far. Steps are weighted equally: their sizes differ by at most one row
        per rank.
        """
        equal_steps = self._steps.equal_steps(epoch, step)
        if epoch != self._epoch:
            # A training resumed within an epoch has no point for the steps before.
            self._epoch, self._equal_steps = epoch, equal_steps - 1
            self._mean = mean if step > 1 else 0.0
        if step % self._every_n_steps:
            return None
        logloss = (mean * equal_steps - self._mean * self._equal_steps) / (equal_steps - self._equal_steps)
        self._equal_steps, self._mean = equal_steps, mean
        global_step = self._steps.before(epoch) + step
        return {"step": global_step, f"{self._prefix}train_logloss_by_step": logloss}
