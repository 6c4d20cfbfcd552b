"""Evaluate a checkpoint on a split: the figure of training's validation, to the last digit, on any labelled data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from segkit.checkpoint import Checkpoint
from segkit.classes import Classes
from segkit.config import override_config
from segkit.data.dataset import EvaluationSet
from segkit.data.layouts import has_class_file, list_items, resolve_classes
from segkit.data.loader import evaluation_batches
from segkit.data.masks import MaskReader
from segkit.errors import CheckpointError, ConfigError
from segkit.evaluate import evaluate
from segkit.metrics import Scores
from segkit.models.inference import for_inference
from segkit.report.runlog import write_metrics, writing
from segkit.report.tables import confusion_csv
from segkit.runtime import count_threads, keep_freed_memory, select_device, select_precision

# Keys that evaluation listens to; the rest of a config made the weights and can't change them now.
EFFECTIVE = (
    "data.root", "data.layout", "data.val", "data.val_fraction", "data.classes", "data.mask_values",
    "data.ignore_values", "data.canvas", "data.cache_gib", "eval.batch_size", "train.device", "train.precision",
    "train.channels_last",
)  # fmt: skip


@dataclass(frozen=True)
class EvalResult:
    """The scores of a checkpoint on a split, and the folder that metrics.json and confusion.csv were written to."""

    split: str
    scores: Scores
    classes: Classes
    output: Path


def eval_miou(
    path: Path, overrides: Sequence[str] = (), *, split: str | None = None, output: Path | None = None
) -> EvalResult:
    """Score a checkpoint on `split` (its config's validation split by default).

    Classes, canvas and normalisation come from the checkpoint; `overrides` (`data.root=...`) say where the data is.
    Results go to `output`; by default to eval_<split> in the checkpoint's run folder.

    Raises:
        CheckpointError: the file can't be read, or the data set's classes are not those of the checkpoint.
        ConfigError: an override that is wrong, or can't have an effect here.
        DataError: as `list_items`, or a picture or label that can't be read.
    """
    checkpoint = Checkpoint.load(path)
    keys = [override.partition("=")[0].strip() for override in overrides]
    if idle := [key for key in keys if key not in EFFECTIVE]:
        raise ConfigError(
            f"{', '.join(idle)}: without effect on a trained checkpoint; evaluation takes {', '.join(EFFECTIVE)}"
        )
    config = override_config(checkpoint.config, overrides, where="the overrides")
    if config.data.root.startswith("pipe:") and "data.root" not in keys:  # a checkpoint may come from anywhere
        raise ConfigError(
            f"{path}: its data.root is a shell command, {config.data.root!r}, expected one that you gave; if "
            "you trust it, repeat it: data.root=..."
        )
    classes = checkpoint.classes
    given = "data.classes" in keys
    moved = config.data.classes is None and {"data.root", "data.layout"} & set(keys) and has_class_file(config.data)
    if given or moved:
        _check_classes(path, classes, resolve_classes(config.data))

    split = split or config.data.val
    items = list_items(config.data, split, seed=config.train.seed, held_out=checkpoint.held_out)
    reader = MaskReader.build(config.data, classes)
    device = select_device(config.train.device)
    keep_freed_memory()
    precision = select_precision(config.train.precision, device)
    segmenter = checkpoint.build().place(device, channels_last=config.train.channels_last)
    model = for_inference(segmenter, canvas_hw=config.data.canvas, precision=precision)
    batches = evaluation_batches(
        EvaluationSet(items, reader, canvas_hw=config.data.canvas),
        batch_size=config.eval.batch_size,
        workers=count_threads(),
    )
    total = -(-len(items) // config.eval.batch_size)
    with tqdm(batches, total=total, desc=f"evaluating {split}", unit="batch", dynamic_ncols=True, disable=None) as bar:
        scores = evaluate(model, bar, classes=classes, precision=precision).scores
    output = output or _default_output(path, split)
    with writing(output, remedy="choose another folder with --output"):
        output.mkdir(parents=True, exist_ok=True)
        write_metrics(output, scores, classes)
        (output / "confusion.csv").write_text(confusion_csv(scores, classes), encoding="utf-8")
    return EvalResult(split, scores, classes, output)


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
