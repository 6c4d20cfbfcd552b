"""Evaluate a checkpoint on a split: the figure of training's validation, to the last digit, on any labelled data.

Several checkpoints are scored as the ensemble that they predict as.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.datasets.layouts import Item, list_items
from segkit.datasets.masks import build_mask_reader
from segkit.errors import ConfigError
from segkit.evaluation.confusion import Scores
from segkit.evaluation.measurement import Measurement
from segkit.evaluation.overrides import evaluation_config, sets
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.evaluation.validation import Validation
from segkit.inference.backend import Backend
from segkit.inference.postprocess import Postprocess
from segkit.inference.trained import TrainedModel, make_ready, open_models, stored_rules
from segkit.inference.tta import with_tta
from segkit.loading.evaluation_set import EvaluationSet
from segkit.report.tables import confusion_csv
from segkit.runtime.files import writing
from segkit.runtime.machine import keep_freed_memory
from segkit.training.run_folder import write_metrics

if TYPE_CHECKING:
    from segkit.runtime.ranks import Ranks


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
    """Trained models as one, and the images that it is scored on; `precision` and `runtime` are as in Ready."""

    model: Backend
    validation: Validation
    precision: str
    runtime: str


def eval_miou(
    path: Path | Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: Path | None = None,
    postprocess: bool = True,
) -> EvalResult:
    """Score a checkpoint, or the ensemble of several, or an exported model, on `split` (by default the config's
    validation split).

    Classes, canvas and normalisation come from the file; `overrides` (`data.root=...`) say where the data is.
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
    checkpoints = open_models(paths)
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
        split, scores.num_images, config.data.canvas, scoring.precision, config.eval.tta, rules, scoring.runtime
    )
    output = output or _default_output(path, split)
    with writing(output, remedy="choose another folder with --output"):
        output.mkdir(parents=True, exist_ok=True)
        write_metrics(output, scores, classes, protocol)
        (output / "confusion.csv").write_text(confusion_csv(scores, classes), encoding="utf-8")
    return EvalResult(split, scores, classes, output, protocol)


def build_scoring(
    checkpoints: Sequence[TrainedModel],
    items: Sequence[Item],
    config: RunConfig,
    *,
    precision_given: bool = True,
    ranks: "Ranks | None" = None,
    postprocess: Postprocess | None = None,
) -> Scoring:
    """Make checkpoints ready to be scored, together, on images, after `postprocess` where it is given.

    `config` says how masks are read, the canvas, the test-time augmentation, and what it runs on. Each of several ranks
    scores a share of the images. Unless `precision_given` in `config`, it is that of the checkpoints.

    Raises:
        DeviceError: no such device or precision here.
    """
    reader = build_mask_reader(config.data, checkpoints[0].classes)
    keep_freed_memory()
    ready = make_ready(
        checkpoints,
        device=config.train.device,
        precision=config.train.precision if precision_given else None,
        canvas_hw=config.data.canvas,
        channels_last=config.train.channels_last,
        local_rank=ranks.local_rank if ranks else 0,
    )
    dataset = EvaluationSet(items, reader, canvas_hw=config.data.canvas)
    validation = Validation(dataset, config.eval.batch_size, ranks, postprocess=postprocess)
    return Scoring(with_tta(ready.backend, config.eval.tta), validation, ready.precision, ready.runtime)


def score(
    checkpoints: Sequence[TrainedModel],
    items: Sequence[Item],
    config: RunConfig,
    *,
    title: str,
    ranks: "Ranks | None" = None,
    measurement: Measurement | None = None,
) -> Scores:
    """Score checkpoints, together, on images, without post-processing; see `build_scoring`.

    Each of several ranks, which must all call this, gets the scores of all images. `measurement` is as in `evaluate`.

    Raises:
        DataError: an image or mask that can't be read.
        DeviceError: no such device or precision here, or an image that doesn't fit into its memory.
    """
    scoring = build_scoring(checkpoints, items, config, ranks=ranks)
    return scoring.validation.score(scoring.model, title=title, measurement=measurement).scores


def _check_split(paths: Sequence[Path], checkpoints: Sequence[TrainedModel], split: str) -> None:
    """Raises ConfigError if the split was held out of the training of some checkpoints, but not of others."""
    held_out = {(c.config.data.val, *(c.held_out or ())): path for path, c in zip(paths, checkpoints, strict=True)}
    if len(held_out) > 1 and split in {name for name, *_ in held_out}:
        first, other, *_ = held_out.values()
        raise ConfigError(
            f"--split: '{split}' was held out of the training of some of these checkpoints, but others were trained on "
            f"its images ({first} and {other} have held out different ones), so that the score would flatter them; "
            "give a split that none was trained on, as in --split test"
        )


def _default_output(path: Path, split: str) -> Path:
    folder = path.resolve().parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return run / f"eval_{split}"
