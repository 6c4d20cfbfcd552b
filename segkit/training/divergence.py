"""Non-finite losses: noticed at the step where they begin, with the images of its batch.

Reading a loss makes the host wait for the GPU, so the first bad step is kept on the device and looked at now and then.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from segkit.errors import TrainingDiverged
from segkit.runtime.ranks import Ranks
from segkit.runtime.sharding import local

SKIPPED_IN_A_ROW = 50  # so many, and the run is beyond help


class Divergence:
    """Watches the losses of a run, over all ranks."""

    def __init__(self, device: torch.device, ranks: Ranks, *, skipping: bool = False) -> None:
        self.ranks, self.skipping = ranks, skipping
        self._none = torch.tensor(-1, device=device)
        self._first = self._none  # the first bad step since the last look; -1: none
        self._steps: deque[tuple[int, float, list[str]]] = deque(maxlen=100)  # more than there are between two looks
        self._in_a_row = 0

    def record(self, step: int, loss: torch.Tensor, *, lr: float, names: Sequence[str]) -> None:
        """Remember a step (from 0) that was not skipped, this rank's loss of it, and the names of its images."""
        bad = torch.full_like(self._none, step).where(~torch.isfinite(loss), self._none)
        self._first = torch.where(self._first >= 0, self._first, bad)
        self._steps.append((step, lr, list(names)))
        self._in_a_row = 0

    def found(self) -> bool:
        """True if a loss of this rank since the last look was non-finite. Waits for the device."""
        return bool(self._first >= 0)

    def explain(self) -> TrainingDiverged:
        """Return the error to raise, the same on every rank. Every rank must call this."""
        first = int(self._first)
        mine = next((known for known in self._steps if known[0] == first), None)  # None: it wasn't this rank
        bad = [known for known in self.ranks.gather(mine) if known is not None]
        step, lr, _ = min(bad)
        names = [name for number, _, names in bad if number == step for name in names]
        return self._error(f"step {step + 1}: the loss is non-finite at lr {lr:.3g}", names)

    def skip(self, step: int, *, lr: float, names: Sequence[str]) -> str:
        """Count a step that is left out, and return a line that says so. Every rank must call this.

        Raises:
            TrainingDiverged: too many in a row.
        """
        self._in_a_row += 1
        every = [name for names in self.ranks.gather(list(names)) for name in names]
        what = f"step {step + 1}: the loss or its gradient is non-finite at lr {lr:.3g}"
        if self._in_a_row >= SKIPPED_IN_A_ROW:
            raise self._error(f"{what}, for the {self._in_a_row}th time in a row", every)
        return f"skipped {what}. Images of this batch: {_first_few(every)}"

    def check_weights(self, model: nn.Module, step: int) -> None:
        """Raise TrainingDiverged if a weight is non-finite, so that such a model is never saved.

        Every rank must call this.
        """
        if self.ranks.any([not all_finite(model.parameters())], self._none.device)[0]:
            raise self._error(f"step {step}: the gradient made weights non-finite", [])

    def _error(self, what: str, names: Sequence[str]) -> TrainingDiverged:
        batch = f". Images of this batch: {_first_few(names)}" if names else ""
        error = TrainingDiverged(
            f"{what}, expected finite; continue from the last checkpoint, if one exists, with --resume and "
            f"train.clip_norm=1{'' if self.skipping else ' or train.on_nonfinite=skip'}, or start anew with a lower "
            "optim.lr or train.precision=fp32 (from the same weights: "
            f"model.pretrained=RUN/checkpoints/last.pt){batch}"
        )
        error.shared = True
        return error


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """True if every number of this rank's part of the tensors is finite. Waits for the device."""
    norms = torch._foreach_norm([tensor.detach() for tensor in local(tensors)])
    return math.isfinite(float(torch.stack(norms).sum()))


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
