"""Find the temperature of a checkpoint on its validation split, and store it: probabilities that can be believed.

Each image is predicted once, and some of its pixels are kept. The fit is in segkit/evaluation/temperature.py, what a
temperature does in segkit/inference/temperature.py. It is found on every other block of neighbouring images first, so
that the other half shows what it is worth; the one that is stored is found on all.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segkit.datasets.layouts import list_items
from segkit.errors import DataError
from segkit.eval_miou import build_scoring
from segkit.evaluation.evaluate import Labelled, out_of_memory_at, segmentations
from segkit.evaluation.judged import sampling_grid
from segkit.evaluation.overrides import evaluation_config, sets
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.evaluation.temperature import Fit, fit_of, fit_temperature
from segkit.evaluation.tuning import choosing_half
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch
from segkit.training.amend import amend, locked_run

MOST_SCORES = 2**25  # numbers that are kept: pixels times classes, 128 MiB


@dataclass(frozen=True)
class CalibrationResult:
    """The temperature, and what one that was found on half of the images does to the other half."""

    temperature: float
    before: Fit  # of the half that didn't choose
    after: Fit
    num_pixels: int
    protocol: EvaluationProtocol
    written: tuple[Path, ...]


def calibrate(path: Path, overrides: Sequence[str] = (), *, store: bool = True) -> CalibrationResult:
    """Fit a temperature on the validation split, and with `store` write it into the checkpoint, in both of its forms.

    `overrides` are those of `eval_miou`.

    Raises:
        CheckpointError, ConfigError, DataError, DeviceError: as `eval_miou`.
        DataError: fewer than two images with labels.
        RunFolderError: a training writes into the run's folder, or a file can't be written.
    """
    with locked_run(path) if store else contextlib.nullcontext():
        checkpoint = Checkpoint.load(path)
        config = evaluation_config(path, checkpoint, overrides)
        split = config.data.val
        items = list_items(config.data, split, seed=config.train.seed, held_out=checkpoint.held_out)
        scoring = build_scoring(
            [checkpoint.without_training_state()], items, config, precision_given=sets(overrides, "train.precision")
        )
        pixels = MOST_SCORES // (len(checkpoint.classes) * len(items))
        threads = count_threads() if scoring.model.device == torch.device("cpu") else 1
        with scoring.validation.batches(title=f"predicting {split}") as batches:
            labelled = segmentations(scoring.model, batches)
            ignore_index = checkpoint.classes.ignore_index
            kept = list(
                prefetch(
                    lambda each: _sampled(each, max(pixels, 1), ignore_index), labelled, threads=threads, ahead=threads
                )
            )
        kept = [(scores, truth) for scores, truth in kept if len(truth)]
        if len(kept) < 2:
            raise DataError(
                f"{config.data.root}: split {split} has {len(kept)} images with labels, expected at least 2: a "
                "temperature is found on one half and shown on the other; give another with data.val=SPLIT"
            )
        half = choosing_half(len(kept))
        found = fit_temperature(*_joined([pair for pair, chooses in zip(kept, half, strict=True) if chooses]))
        other = _joined([pair for pair, chooses in zip(kept, half, strict=True) if not chooses])
        scores, truth = _joined(kept)
        temperature = fit_temperature(scores, truth)
        written = amend(path, checkpoint, temperature=temperature) if store else ()
    protocol = EvaluationProtocol(split, len(items), config.data.canvas, scoring.precision, config.eval.tta)
    before, after = fit_of(*other), fit_of(*other, temperature=found)
    return CalibrationResult(temperature, before, after, len(truth), protocol, written)


def _joined(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([scores for scores, _ in pairs]), np.concatenate([truth for _, truth in pairs])


def _sampled(labelled: Labelled, pixels: int, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores float32 [N, C] and true ids [N] of labelled pixels of a grid of about `pixels` at most."""
    rows, columns = sampling_grid(labelled.truth.shape, most=pixels)
    with out_of_memory_at(labelled):
        scores = labelled.segmentation.scores_at(rows, columns)
    truth = labelled.truth[rows[:, None], columns]
    known = truth != ignore_index
    return scores[:, known].T, truth[known]
