"""Evaluate a checkpoint on a split: the figure of training's validation, to the last digit, on any labelled data.

Several checkpoints are scored as the ensemble that they predict as.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.datasets.layouts import Item, list_items
from segkit.datasets.masks import build_mask_reader
from segkit.errors import ConfigError
from segkit.evaluation.confusion import Absent, Scores
from segkit.evaluation.families import build_families
from segkit.evaluation.measurement import Measured, Measurement
from segkit.evaluation.overrides import evaluation_config, sets
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.evaluation.validation import Validation
from segkit.inference.backend import Backend
from segkit.inference.postprocess import Postprocess
from segkit.inference.temperature import Calibrated, stored_temperature
from segkit.inference.trained import TrainedModel, make_ready, open_models, stored_rules
from segkit.inference.tta import with_tta
from segkit.loading.evaluation_set import EvaluationSet
from segkit.report.gallery import choose, show
from segkit.report.page import RunFacts, report_page
from segkit.report.plots import classes_png, confusion_png, curves_png
from segkit.report.tables import confusion_csv, images_csv
from segkit.runtime.files import write_bytes_durably, writing
from segkit.runtime.machine import keep_freed_memory
from segkit.training.run_folder import RunFolder, write_metrics

if TYPE_CHECKING:
    from segkit.runtime.ranks import Ranks


@dataclass(frozen=True)
class EvalResult:
    """The figures of a checkpoint, or several, on a split, how they were made, and the folder that they are in."""

    split: str
    measured: Measured
    output: Path
    protocol: EvaluationProtocol

    @property
    def scores(self) -> Scores:
        """The scores of the confusion matrix."""
        return self.measured.scores

    @property
    def classes(self) -> Classes:
        """The classes of the checkpoint."""
        return self.measured.classes


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
    calibrated: bool = False,
    figures: Sequence[str] | None = None,
    also: Sequence[str] = (),
    absent: Absent = "ignore",
    report: Path | bool = False,
) -> EvalResult:
    """Score a checkpoint, or the ensemble of several, or an exported model, on `split` (by default the config's
    validation split).

    Classes, canvas and normalisation come from the file; `overrides` (`data.root=...`) say where the data is.
    Results go to `output`; by default to eval_<split> in the checkpoint's run folder. Of several checkpoints, the first
    one's config says where the data is, and how images are augmented for the test. With `postprocess`, masks are scored
    after the rules that the checkpoint holds, or after those that several have in common; with `calibrated`, its scores
    are divided by the temperature that it holds. `figures` names families of
    FAMILIES, by default all; `also` other protocols of CONVENTIONS; `absent` is as in `Scores`.

    Written are metrics.json, confusion.csv and images.csv; with `report` also the page report.html, or at that path,
    and confusion.png, classes.png and, for the checkpoint of a run, curves.png in the run folder.

    Raises:
        CheckpointError: a file can't be read, checkpoints don't go together, or the data set's classes are not theirs.
        ConfigError: an override that is wrong, or can't have an effect here; of several checkpoints no `output`, or a
            split that some of them were trained on; `calibrated` without a temperature that could be used.
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
    temperature = stored_temperature(checkpoints, rules) if calibrated else None
    split = split or config.data.val
    _check_split(paths, checkpoints, split)
    items = list_items(config.data, split, seed=config.train.seed, held_out=checkpoint.held_out)
    scoring = build_scoring(
        checkpoints, items, config, precision_given=sets(overrides, "train.precision"), postprocess=rules
    )
    measurement = Measurement(classes, build_families(len(classes), figures, probabilities=True), also)
    if temperature:
        scoring = replace(scoring, model=Calibrated(scoring.model, temperature))
    title = f"evaluating {split}"
    measured = scoring.validation.score(scoring.model, title=title, measurement=measurement, absent=absent).measured
    assert measured is not None
    protocol = EvaluationProtocol(
        split,
        len(items),
        config.data.canvas,
        scoring.precision,
        config.eval.tta,
        rules,
        scoring.runtime,
        absent,
        tuple(_digest(path) for path in paths),
        measured.data,
        temperature,
    )
    output = output or _default_output(path, split)
    with writing(output, remedy="choose another folder with --output"):
        output.mkdir(parents=True, exist_ok=True)
        write_metrics(output, measured.scores, classes, protocol, measured=measured)
        (output / "confusion.csv").write_text(confusion_csv(measured.scores, classes), encoding="utf-8")
        (output / "images.csv").write_text(images_csv(measured), encoding="utf-8")
        if report:
            page = output / "report.html" if report is True else report
            _write_report(page, path, measured, protocol, scoring)
            (output / "confusion.png").write_bytes(confusion_png(measured))
            (output / "classes.png").write_bytes(classes_png(measured))
    return EvalResult(split, measured, output, protocol)


def _write_report(
    report: Path, checkpoint: Path, measured: Measured, protocol: EvaluationProtocol, scoring: Scoring
) -> None:
    """Write report.html, whose images are predicted once more."""
    choices = choose(measured)
    names = list(dict.fromkeys(name for choice in choices for name in choice.images))
    images = list(show(names, scoring.model, scoring.validation, measured.classes))
    run = run_of(checkpoint)
    title = f"{run.name if run else checkpoint.name}: {protocol.split}"
    facts = _run_facts(run) if run else None
    if run and facts and facts.epochs:
        (run / "curves.png").write_bytes(curves_png(facts.epochs))
    page = report_page(title, str(protocol), measured, choices=choices, images=images, run=facts)
    write_bytes_durably(report, page.encode(errors="replace"))


def _run_facts(run: Path) -> RunFacts:
    """Return what the files of a run folder say of it; what is missing is left out."""

    def text(name: str) -> str:
        return (run / name).read_text(encoding="utf-8") if (run / name).is_file() else ""

    images = Counter(split for split, *_ in RunFolder(run).files())
    epochs = list(csv.DictReader(io.StringIO(text("log.csv"))))
    return RunFacts(epochs, dict(images), text("config.yaml"), text("environment.json"))


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in; None for one that lies elsewhere."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else None


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


def _digest(path: Path) -> str:
    """Return the first 12 digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _default_output(path: Path, split: str) -> Path:
    return (run_of(path) or path.resolve().parent) / f"eval_{split}"
