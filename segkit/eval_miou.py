"""Evaluate a checkpoint on a split: the figure of training's validation, to the last digit, on any labelled data.

Several checkpoints are scored as the ensemble that they predict as.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.classes import Classes
from segkit.config.keys import EVALUABLE
from segkit.config.reading import override_config
from segkit.config.schema import RunConfig
from segkit.datasets.layouts import Item, has_class_file, list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.errors import CheckpointError, ConfigError
from segkit.evaluation.confusion import Scores
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.evaluation.validation import Validation
from segkit.inference.backend import Backend
from segkit.inference.ensemble import together
from segkit.inference.postprocess import Postprocess
from segkit.inference.ready import load_together, ready, stored_rules
from segkit.inference.tta import with_tta
from segkit.loading.evaluation_set import EvaluationSet
from segkit.models.checkpoint import Checkpoint
from segkit.report.tables import confusion_csv
from segkit.runtime.device import common_precision, precision_name, select_device
from segkit.runtime.files import writing
from segkit.runtime.machine import keep_freed_memory
from segkit.runtime.ranks import Ranks
from segkit.training.run_folder import write_metrics


@dataclass(frozen=True)
class EvalResult:
    """The scores of a checkpoint, or several, on a split, how they were made, and the folder with metrics.json and
    confusion.csv.
    """

    split: str
    scores: Scores
    classes: Classes
    output: Path
    protocol: EvaluationProtocol


@dataclass(frozen=True)
class Scoring:
    """Checkpoints as one model, and the images that it is scored on."""

    model: Backend
    validation: Validation
    precision: str


def eval_miou(
    path: Path | Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: Path | None = None,
    postprocess: bool = True,
) -> EvalResult:
    """Score a checkpoint, or the ensemble of several, on `split` (the config's validation split by default).

    Classes, canvas and normalisation come from the checkpoint; `overrides` (`data.root=...`) say where the data is.
    Results go to `output`; by default to eval_<split> in the checkpoint's run folder. Of several checkpoints, the first
    one's config says where the data is, and how images are augmented for the test. With `postprocess`, masks are scored
    after the rules that the checkpoint holds, or after those that several have in common.

    Raises:
        CheckpointError: a file can't be read, checkpoints don't go together, or the data set's classes are not theirs.
        ConfigError: an override that is wrong, or can't have an effect here; of several checkpoints no `output`, or a
            split that some of them were trained on.
        DataError: as `list_items`, or an image or mask that can't be read.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    path = paths[0]
    checkpoints = load_together(paths)
    checkpoint = checkpoints[0]
    if len(paths) > 1 and output is None:
        raise ConfigError(
            f"--output: not given, expected a folder for the scores of {len(paths)} checkpoints, which belong to no "
            "run; add --output FOLDER"
        )
    config = evaluation_config(path, checkpoint, overrides)
    classes = checkpoint.classes
    rules = stored_rules(checkpoints) if postprocess else None
    split = split or config.data.val
    _check_split(paths, checkpoints, split)
    items = list_items(config.data, split, seed=config.train.seed, held_out=checkpoint.held_out)
    scoring = build_scoring(
        checkpoints, items, config, precision_given=sets(overrides, "train.precision"), postprocess=rules
    )
    scores = scoring.validation.score(scoring.model, title=f"evaluating {split}").scores
    protocol = EvaluationProtocol(
        split, scores.num_images, config.data.canvas, scoring.precision, config.eval.tta, rules
    )
    output = output or _default_output(path, split)
    with writing(output, remedy="choose another folder with --output"):
        output.mkdir(parents=True, exist_ok=True)
        write_metrics(output, scores, classes, protocol)
        (output / "confusion.csv").write_text(confusion_csv(scores, classes), encoding="utf-8")
    return EvalResult(split, scores, classes, output, protocol)


def evaluation_config(path: Path, checkpoint: Checkpoint, overrides: Sequence[str]) -> RunConfig:
    """Return the config of a checkpoint, read from `path`, with overrides that may have an effect on a trained model.

    Raises:
        CheckpointError, ConfigError: as `eval_miou`.
    """
    keys = [override.partition("=")[0].strip() for override in overrides]
    if idle := [key for key in keys if key not in EVALUABLE]:
        raise ConfigError(
            f"{', '.join(idle)}: without effect on a trained checkpoint; evaluation takes {', '.join(EVALUABLE)}"
        )
    config = override_config(checkpoint.config, overrides, where="the overrides")
    if config.data.root.startswith("pipe:") and "data.root" not in keys:  # a checkpoint may come from anywhere
        raise ConfigError(
            f"{path}: its data.root is a shell command, {config.data.root!r}, expected one that you gave; if "
            "you trust it, repeat it: data.root=..."
        )
    given = "data.classes" in keys
    moved = config.data.classes is None and {"data.root", "data.layout"} & set(keys) and has_class_file(config.data)
    if given or moved:
        _check_classes(path, checkpoint.classes, resolve_classes(config.data))
    return config


def sets(overrides: Sequence[str], key: str) -> bool:
    """True if an override `key=value` sets the key."""
    return any(override.partition("=")[0].strip() == key for override in overrides)


def build_scoring(
    checkpoints: Sequence[Checkpoint],
    items: Sequence[Item],
    config: RunConfig,
    *,
    precision_given: bool = True,
    ranks: Ranks | None = None,
    postprocess: Postprocess | None = None,
) -> Scoring:
    """Make checkpoints ready to be scored, together, on images, after `postprocess` where it is given.

    `config` says how masks are read, the canvas, the test-time augmentation, and what it runs on. Each of several ranks
    scores a share of the images. Unless `precision_given` in `config`, it is that of the checkpoints.

    Raises:
        DeviceError: no such device or precision here.
    """
    ranks = ranks or Ranks()
    reader = build_mask_reader(config.data, checkpoints[0].classes)
    device = select_device(config.train.device, local_rank=ranks.local_rank)
    keep_freed_memory()
    chosen = [config] if precision_given else [checkpoint.config for checkpoint in checkpoints]
    precision = common_precision([each.train.precision for each in chosen], device)
    models = [
        ready(
            checkpoint,
            device,
            precision=precision,
            canvas_hw=config.data.canvas,
            channels_last=config.train.channels_last,
        )
        for checkpoint in checkpoints
    ]
    dataset = EvaluationSet(items, reader, canvas_hw=config.data.canvas)
    validation = Validation(dataset, config.eval.batch_size, ranks, postprocess=postprocess)
    return Scoring(with_tta(together(models), config.eval.tta), validation, precision_name(precision))


def score(
    checkpoints: Sequence[Checkpoint],
    items: Sequence[Item],
    config: RunConfig,
    *,
    title: str,
    ranks: Ranks | None = None,
    images: dict[str, np.ndarray] | None = None,
) -> Scores:
    """Score checkpoints, together, on images, without post-processing; see `build_scoring`.

    Each of several ranks, which must all call this, gets the scores of all images. `images` is filled as by `evaluate`.

    Raises:
        DataError: an image or mask that can't be read.
        DeviceError: no such device or precision here, or an image that doesn't fit into its memory.
    """
    scoring = build_scoring(checkpoints, items, config, ranks=ranks)
    return scoring.validation.score(scoring.model, title=title, images=images).scores


def _check_split(paths: Sequence[Path], checkpoints: Sequence[Checkpoint], split: str) -> None:
    """Raises ConfigError if the split was held out of the training of some checkpoints, but not of others."""
    held_out = {(c.config.data.val, *(c.held_out or ())): path for path, c in zip(paths, checkpoints, strict=True)}
    if len(held_out) > 1 and split in {name for name, *_ in held_out}:
        first, other, *_ = held_out.values()
        raise ConfigError(
            f"--split: '{split}' was held out of the training of some of these checkpoints, but others were trained on "
            f"its images ({first} and {other} have held out different ones), so that the score would flatter them; "
            "give a split that none was trained on, as in --split test"
        )


def _check_classes(path: Path, trained: Classes, found: Classes) -> None:
    if trained.names == found.names:
        return
    words = [
        f"{len(names)} classes ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
        for names in (trained.names, found.names)
    ]
    raise CheckpointError(
        f"{path}: trained on {words[0]}, the data set has {words[1]}; expected the same names in the same order; "
        "evaluate with the data set that it was trained for"
    )


def _default_output(path: Path, split: str) -> Path:
    folder = path.resolve().parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return run / f"eval_{split}"
