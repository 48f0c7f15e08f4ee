"""The training's logloss within epochs, a point every few steps."""

#: So many points an epoch: enough to see it fall, few enough to be logged while it does.
_POINTS_PER_EPOCH = 50


class StepMetrics:
    """Points of an epoch's running mean made into means of their own stretch of steps."""

    def __init__(self, num_steps: int, prefix: str = ""):
        self._num_steps, self._prefix = num_steps, prefix
        self._every_n_steps = max(1, num_steps // _POINTS_PER_EPOCH)
        self._epoch, self._step, self._mean = 0, 0, 0.0  # up to where points have told

    def point(self, epoch: int, step: int, mean: float) -> dict[str, float] | None:
        """{"step": of all epochs, "train_logloss_by_step": …} where one is due; `mean`: of the epoch so far.

        As if steps had equally many rows: they differ by one a rank at the most.
        """
        if epoch != self._epoch:
            # A training that goes on in the middle of an epoch has no point for what was before.
            self._epoch, self._step, self._mean = epoch, step - 1, mean if step > 1 else 0.0
        if step % self._every_n_steps:
            return None
        logloss = (mean * step - self._mean * self._step) / (step - self._step)
        self._step, self._mean = step, mean
        of_all = (epoch - 1) * self._num_steps + step
        return {"step": of_all, f"{self._prefix}train_logloss_by_step": logloss}
