"""Score masks that any program has made against the truth, by the code that scores our own models.

Both folders are matched by the files' relative paths without the suffix. Truth is read as a data set's labels are, by
`data.mask_values`, `data.ignore_values` and `data.ignore_index`; predictions by the same values, or as class ids. A
labelled pixel whose prediction is no class is a miss: dropping such pixels would raise the score of whatever predicts
nothing where it is unsure.
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.config.reading import override_config
from segkit.config.schema import DataConfig, RunConfig
from segkit.datasets.images import image_size_hw
from segkit.datasets.layouts import list_images, resolve_classes
from segkit.datasets.masks import MaskReader, build_mask_reader
from segkit.errors import ConfigError, DataError, count, listed, summarize
from segkit.evaluation.confusion import Absent, ConfusionMatrix
from segkit.evaluation.families import build_families
from segkit.evaluation.judged import Judged
from segkit.evaluation.measurement import Counted, Measured, Measurement
from segkit.evaluation.protocol import MaskProtocol
from segkit.report.tables import confusion_csv, images_csv
from segkit.runtime.files import writing
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch
from segkit.training.run_folder import write_metrics

log = logging.getLogger(__name__)

READING = ("data.classes", "data.mask_values", "data.ignore_values", "data.ignore_index")


@dataclass(frozen=True)
class Pair:
    """A predicted mask and the true one, by their name: the relative path without the suffix."""

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class ScoreResult:
    """The figures of a folder of masks, and how they were made, in a line."""

    measured: Measured
    protocol: MaskProtocol


def score_masks(
    predictions: Path,
    truth: Path,
    overrides: Sequence[str] = (),
    *,
    prediction_ids: bool = False,
    figures: Sequence[str] | None = None,
    absent: Absent = "ignore",
    output: Path | None = None,
) -> ScoreResult:
    """Score the masks below one folder against those below another.

    `overrides` (`data.classes=[a,b]`) say how label files are read; with `prediction_ids`, predictions hold class ids
    whatever the truth holds. `figures` and `absent` are as in `eval_miou`. With `output`, metrics.json, confusion.csv
    and images.csv are written there.

    Raises:
        ConfigError: no classes, or a key that doesn't say how labels are read.
        DataError: a truth without a prediction, two files of one name, a label that can't be read or holds a value that
            is no class, or two masks of different size; names up to ten of them.
    """
    keys = [override.partition("=")[0].strip() for override in overrides]
    if idle := [key for key in keys if key not in READING]:
        raise ConfigError(f"{', '.join(idle)}: without effect on masks; expected {', '.join(READING)}")
    base = RunConfig(data=DataConfig(root=str(truth), layout="folders"))
    data = override_config(base, overrides, where="the overrides").data
    classes = resolve_classes(data)
    reader = build_mask_reader(data, classes)
    pairs = match(predictions, truth)
    _check_sizes(pairs)
    predicted = MaskReader.build(classes) if prediction_ids else reader
    measurement = Measurement(classes, build_families(len(classes), figures, probabilities=False))
    count_pair = functools.partial(_count, reader=reader, predicted=predicted, measurement=measurement)
    matrix, strange = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index), []
    threads = count_threads()
    counted = prefetch(count_pair, pairs, threads=threads, ahead=2 * threads)
    for image, missed in progress(counted, total=len(pairs), title="scoring", unit="masks"):
        matrix += image.matrix
        measurement.add(image)
        strange += missed
    if strange:
        log.warning("warning: predictions that are no class count as misses:\n%s", summarize(strange))
    measured = measurement.measured(matrix.scores(absent=absent))
    protocol = MaskProtocol(str(predictions), str(truth), len(pairs), absent, measured.data)
    if output:
        with writing(output, remedy="choose another folder with --output"):
            output.mkdir(parents=True, exist_ok=True)
            write_metrics(output, measured.scores, classes, protocol, measured=measured)
            (output / "confusion.csv").write_text(confusion_csv(measured.scores, classes), encoding="utf-8")
            (output / "images.csv").write_text(images_csv(measured), encoding="utf-8")
    return ScoreResult(measured, protocol)


def match(predictions: Path, truth: Path) -> list[Pair]:
    """Return each true mask with its prediction, by name. Predictions without a truth are told in a warning.

    Raises:
        DataError: a folder without masks, two files of one name, or a truth without a prediction.
    """
    predicted, true = _by_name(predictions), _by_name(truth)
    if missing := [path for name, path in true.items() if name not in predicted]:
        raise DataError(
            f"{predictions}: {count(len(missing), 'prediction')} of {len(true)} missing, expected one for each mask of "
            f"{truth}, by relative path without the suffix; predict the rest, or leave their truth out:\n"
            + summarize([str(path) for path in missing])
        )
    if extra := [name for name in predicted if name not in true]:
        log.warning("warning: %s: not scored, without a truth in %s: %s", predictions, truth, listed(extra))
    return [Pair(name, predicted[name], path) for name, path in true.items()]


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected masks below it")
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{path}: has the name of {found[name]}, expected one mask of each name; remove one")
        found[name] = path
    if not found:
        raise DataError(f"{folder}: no masks, expected label files such as PNG below it")
    return found


def _check_sizes(pairs: Sequence[Pair]) -> None:
    """Raises DataError where the two masks of a pair, by their headers, differ in size."""
    threads = count_threads()

    def sizes(pair: Pair) -> tuple[tuple[int, int], tuple[int, int]]:
        return image_size_hw(pair.prediction), image_size_hw(pair.truth)

    problems = []
    for pair, (found, expected) in zip(pairs, prefetch(sizes, pairs, threads=threads, ahead=4 * threads), strict=True):
        if found != expected:
            problems.append(
                f"{pair.prediction}: {found[1]}x{found[0]} pixels, expected {expected[1]}x{expected[0]} as {pair.truth}"
            )
    if problems:
        raise DataError(
            summarize(problems) + "\nbring predictions to the size of the truth; resizing the truth would change it"
        )


def _count(
    pair: Pair, *, reader: MaskReader, predicted: MaskReader, measurement: Measurement
) -> tuple[Counted, list[str]]:
    """Return what a pair adds, and a line if labelled pixels are predicted as no class."""
    truth, prediction = reader(pair.truth), predicted.prediction(pair.prediction)
    classes = reader.classes
    image = Judged(truth, prediction, num_classes=len(classes), ignore_index=classes.ignore_index)
    counted = measurement.look(pair.name, image)
    missed = int(counted.matrix.missed.sum())
    return counted, [f"{pair.prediction}: {missed} labelled pixels"] if missed else []
