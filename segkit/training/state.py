"""What changes while a run trains: the model and its average, the optimizer, how far it is, and the epoch's clock."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from segkit.evaluation.confusion import ConfusionMatrix, Scores
from segkit.evaluation.evaluate import Evaluation
from segkit.models.checkpoint import Progress
from segkit.models.segmenter import Segmenter
from segkit.runtime.ranks import Ranks
from segkit.training.divergence import Divergence, all_finite
from segkit.training.ema import MovingAverage
from segkit.training.run_folder import EpochRow


@dataclass
class TrainState:
    """One rank's share of it; `network`, which wraps the segmenter to train it, belongs to the loop."""

    segmenter: Segmenter
    average: MovingAverage[Segmenter] | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress
    epoch_loss: torch.Tensor  # sum over the epoch's steps, of this rank
    epoch_terms: torch.Tensor  # the same of each term of the loss, float [T]
    divergence: Divergence
    ranks: Ranks
    clock_started: float = 0.0

    def start_clock(self) -> None:
        """Count seconds of the epoch from here on."""
        self.clock_started = time.perf_counter()

    def epoch_seconds(self) -> float:
        """Return the seconds that the epoch has taken, also before it was resumed."""
        return self.progress.epoch_seconds + time.perf_counter() - self.clock_started

    def stop_clock(self) -> None:
        """Note the seconds so far in the progress, which a checkpoint keeps, and count on."""
        now = time.perf_counter()
        self.progress.epoch_seconds += now - self.clock_started
        self.clock_started = now

    def snapshot_buffers(self) -> list[torch.Tensor]:
        """Return copies of BatchNorm's statistics, for a step that may have to be undone."""
        return [buffer.clone() for buffer in self.segmenter.buffers()]

    def all_finite(self, loss: torch.Tensor) -> bool:
        """True if the step's loss and every gradient are finite on every rank. Waits for the device.

        In fp16 the gradients are left to the scaler: it leaves steps out by itself while it looks for its scale.
        """
        finite = bool(torch.isfinite(loss))
        if finite and not self.scaler.is_enabled():
            finite = all_finite(p.grad for p in self.segmenter.parameters() if p.grad is not None)
        return not self.ranks.any([not finite], loss.device)[0]

    def skip_step(self, buffers: Sequence[torch.Tensor]) -> None:
        """Undo what the forward pass changed; nothing is learned from this step."""
        for buffer, before in zip(self.segmenter.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self.scaler.update()
        self.progress.skipped += 1
        self.progress.epoch_skipped += 1

    def term_means(self, num_steps: int) -> list[float]:
        """Return the mean of each term of the loss over an epoch of `num_steps` steps, over all ranks."""
        totals = self.ranks.sum(self.epoch_terms) / max(1, num_steps - self.progress.epoch_skipped)
        means: list[float] = totals.tolist()
        return means

    def close_epoch(
        self, epoch: int, *, lr: float, num_steps: int, batch_size: int, seconds: float, validation: Evaluation | None
    ) -> EpochRow:
        """Return the row of an epoch (from 1) of `num_steps` steps, and begin the next one's sums."""
        progress = self.progress
        row = EpochRow(
            epoch=epoch,
            step=progress.step,
            lr=lr,
            train_loss=float(self.ranks.sum(self.epoch_loss)) / max(1, num_steps - progress.epoch_skipped),
            seconds=round(seconds, 3),
            images_per_second=round(num_steps * batch_size / seconds, 3),
            skipped=progress.epoch_skipped,
            val_loss=validation.loss if validation else None,
            miou=validation.scores.miou if validation else None,
            pixel_accuracy=validation.scores.pixel_accuracy if validation else None,
        )
        progress.epoch_seconds, progress.epoch_skipped = 0.0, 0
        self.epoch_loss.zero_()
        self.epoch_terms.zero_()
        return row

    def note_best(self, validation: Evaluation | None, epoch: int) -> Scores | None:
        """Return the scores if they are the best so far, and note them in the progress."""
        if validation is None:
            return None
        scores, progress = validation.scores, self.progress
        if progress.best_confusion is not None:
            best = ConfusionMatrix.from_counts(progress.best_confusion, num_images=0).scores()
            if scores.miou <= best.miou:
                return None
        progress.best_epoch, progress.best_confusion = epoch, scores.counts.tolist()
        return scores


def note_plateau(progress: Progress, miou: float, *, patience: int) -> None:
    """Count a validation for optim.schedule: plateau; the rate drops after more than `patience` in a row that are no
    better than the best by at least 0.01 points of mIoU (ReduceLROnPlateau of PyTorch, with an absolute threshold)."""
    if progress.plateau_miou is None or miou >= progress.plateau_miou + 1e-4:
        progress.plateau_miou, progress.plateau_waited = miou, 0
        return
    progress.plateau_waited += 1
    if progress.plateau_waited > patience:
        progress.plateau_waited = 0
        progress.plateau_drops += 1
