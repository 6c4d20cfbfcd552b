"""What may be asked of a run between two steps: to stop, to save, to give up. All ranks decide alike."""

import time
from typing import NamedTuple

import torch

from segkit.runtime.ranks import Ranks
from segkit.runtime.signals import StopRequest
from segkit.training.divergence import Divergence

SLOW_STEP = 0.5  # seconds; if steps are slower, poll after every step


class Asked(NamedTuple):
    """The answer of one poll, the same on every rank. `polled` is False if nobody was asked after this step."""

    stop: bool = False
    save: bool = False
    polled: bool = False


class Requests:
    """Polls every rank now and then: on a GPU, asking makes the host wait.

    A run stops on a signal and after `max_steps`; it saves every so many steps and minutes.
    """

    def __init__(
        self,
        stop: StopRequest,
        divergence: Divergence,
        ranks: Ranks,
        device: torch.device,
        *,
        first_step: int,
        max_steps: int | None,
        save_every_steps: int,
        save_every_minutes: float,
    ) -> None:
        self._stop, self._divergence, self._ranks, self._device = stop, divergence, ranks, device
        self._max_steps, self._every_steps, self._every_minutes = max_steps, save_every_steps, save_every_minutes
        self._interval = 1 if device.type == "cpu" else 10  # steps between two polls
        self._last, self._next = first_step - 1, first_step
        self._saved_at = self._polled_at = time.monotonic()

    def poll(self, step: int, *, at_end: bool) -> Asked:
        """Return what is asked after step `step` (from 0); at the end of an epoch all ranks are asked in any case.

        Raises:
            TrainingDiverged: a loss since the last poll was non-finite.
        """
        enough = step + 1 == self._max_steps
        save = self._every_steps > 0 and (step + 1) % self._every_steps == 0
        if not (step >= self._next or at_end or enough or save):
            return Asked()
        now = time.monotonic()
        is_time = self._ranks.is_first and 0 < self._every_minutes <= (now - self._saved_at) / 60
        slow = now - self._polled_at > SLOW_STEP * (step - self._last)
        flags = (self._stop.asked or enough, save or is_time, self._divergence.found(), slow)
        stop, save, diverged, slow = self._ranks.any(flags, self._device)
        self._polled_at, self._last, self._next = now, step, step + (1 if slow else self._interval)
        if diverged:
            raise self._divergence.explain()
        return Asked(stop, save, polled=True)

    def saved(self) -> None:
        """Count the minutes to the next save from here on."""
        self._saved_at = time.monotonic()
