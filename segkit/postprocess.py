"""Find the rules of post-processing that help a checkpoint on its validation split, and store them in it.

Each image is predicted once; which rules are kept, and why, is in segkit/evaluation/tuning.py, what a rule does in
segkit/inference/postprocess.py. Evaluation and prediction apply what is stored.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segkit.classes import Classes
from segkit.datasets.layouts import list_items
from segkit.errors import DataError
from segkit.eval_miou import build_scoring
from segkit.evaluation.evaluate import Labelled, out_of_memory_at, segmentations
from segkit.evaluation.overrides import evaluation_config, sets
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.evaluation.tuning import MaskStore, PredictedImage, Tuning, confidence_level, tune
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch
from segkit.training.amend import amend, locked_run


@dataclass(frozen=True)
class PostprocessResult:
    """What was tried and kept, how the masks were made, and the files that hold the rules now."""

    tuning: Tuning
    protocol: EvaluationProtocol
    classes: Classes
    written: tuple[Path, ...]


def tune_postprocessing(path: Path, overrides: Sequence[str] = (), *, store: bool = True) -> PostprocessResult:
    """Try rules on the validation split, and with `store` write those that help into the checkpoint.

    Rules that it held before are replaced, also by none. The other form of the same weights beside it (best.safetensors
    beside best.pt, or the other way round) gets them too. `overrides` are those of `eval_miou`.

    Raises:
        CheckpointError, ConfigError, DataError, DeviceError: as `eval_miou`.
        DataError: fewer than two images.
        RunFolderError: a training writes into the run's folder, or a file can't be written.
    """
    with locked_run(path) if store else contextlib.nullcontext():
        checkpoint = Checkpoint.load(path)
        config = evaluation_config(path, checkpoint, overrides)
        split, classes = config.data.val, checkpoint.classes
        items = list_items(config.data, split, seed=config.train.seed, held_out=checkpoint.held_out)
        if len(items) < 2:
            raise DataError(
                f"{config.data.root}: split {split} has {len(items)} image, expected at least 2, better 50: rules are "
                "chosen on one half and checked on the other; give another with data.val=SPLIT"
            )
        predictor = checkpoint.without_training_state()
        scoring = build_scoring([predictor], items, config, precision_given=sets(overrides, "train.precision"))
        threads = count_threads() if scoring.model.device == torch.device("cpu") else 1
        with MaskStore() as kept, scoring.validation.batches(title=f"predicting {split}") as batches:
            labelled = segmentations(scoring.model, batches)
            predicted = prefetch(_predicted, labelled, threads=threads, ahead=threads)
            images = [PredictedImage(*(kept.keep(array) for array in arrays)) for arrays in predicted]
        tuning = tune(images, classes, tuned_on=split)
        protocol = EvaluationProtocol(split, len(items), config.data.canvas, scoring.precision, config.eval.tta)
        rules = tuning.postprocess.to_dict() if tuning.postprocess.rules else None
        written = amend(path, checkpoint, postprocess=rules) if store else ()
    return PostprocessResult(tuning, protocol, classes, written)


def _predicted(labelled: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class ids, truth and the level of confidence, uint8 [h, w] each."""
    with out_of_memory_at(labelled):
        return labelled.segmentation.raw_mask, labelled.truth, confidence_level(labelled.segmentation.confidence)
