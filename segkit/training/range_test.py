"""The learning-rate range test (Smith 2017, Cyclical learning rates, section 3.3): the loss while the rate rises.

The training itself is `segkit.train.train`, which takes the rate from here; `segkit.lr_find` starts it.
"""

import math

SMOOTHING = 0.9  # of the loss: an exponential moving average over about ten steps
HOPELESS = 4.0  # the test ends where the smoothed loss is so many times its lowest
FEWEST = 10  # steps before that may happen


class RangeTest:
    """Rates that rise exponentially from `lowest` to `highest` over `num_steps` steps, and the losses they lead to.

    `base_lr` is what the optimizer's rates are factors of (`segkit.training.schedule.scale_lr`).
    """

    def __init__(self, *, lowest: float, highest: float, num_steps: int, base_lr: float) -> None:
        self.lowest, self.highest, self.num_steps, self.base_lr = lowest, highest, num_steps, base_lr
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._sum = 0.0

    def factor(self, step: int) -> float:
        """Return what the base rates are multiplied by at a step (from 0)."""
        return self.lowest * (self.highest / self.lowest) ** (step / (self.num_steps - 1)) / self.base_lr

    def add(self, lr: float, loss: float) -> bool:
        """Note the loss of a step before its update; True where the test is over, since the loss exploded."""
        if not math.isfinite(loss):
            return True
        self.rates.append(lr)
        self.losses.append(loss)
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * loss
        self.smoothed.append(self._sum / (1 - SMOOTHING ** len(self.losses)))  # without the pull of the start at 0
        return len(self.losses) > FEWEST and self.smoothed[-1] > HOPELESS * min(self.smoothed)

    @property
    def lowest_at(self) -> int:
        """The step (from 0) after which the smoothed loss was lowest."""
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate at which the smoothed loss was lowest; None where no rate lowered it.

        Beyond that rate the loss rises, so that rate itself is too high; a tenth is the usual margin (Howard and
        Gugger 2020, Deep Learning for Coders, chapter 5).
        """
        return self.rates[self.lowest_at] / 10 if self.lowest_at > 0 else None

    @property
    def still_falling(self) -> bool:
        """True if the loss was lowest at the highest rate: then the test ended too early."""
        return self.lowest_at == self.num_steps - 1
