"""Score checkpoints on labelled images: mIoU and the per-class table."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.errors import ConfigError, SegkitError
from segkit.runtime.process import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="checkpoint|key=value",
        help="such as runs/NAME/checkpoints/best.pt; of several the probabilities are averaged. Or an exported model, "
        "such as model.onnx. Settings to change, as in data.root=DIR",
    )
    parser.add_argument("--split", help="which split to score; all: every labelled image (default: data.val)")
    parser.add_argument(
        "--no-postprocess", action="store_true", help="score masks without the rules that segkit postprocess has stored"
    )
    parser.add_argument(
        "--figures",
        metavar="LIST",
        help="which figures to measure beside the confusion matrix: all, none, or some of boundary, contours, objects, "
        "detections, calibration, precision_recall (default: all)",
    )
    parser.add_argument(
        "--also",
        metavar="LIST",
        help="show what other protocols would report for the same predictions: letterbox (scored on the canvas), crop "
        "(the middle of each image)",
    )
    parser.add_argument(
        "--absent-classes",
        choices=("ignore", "zero", "one"),
        default="ignore",
        help="what a class without any pixel, true or predicted, counts in a mean (default: ignore)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for metrics.json, confusion.csv, images.csv and report.html (default: in the run)",
    )


def run(arguments: argparse.Namespace) -> int:
    paths, overrides = split_words(arguments.words)
    if not paths:
        raise SegkitError("eval: found no checkpoint, expected one, such as runs/NAME/checkpoints/best.pt")
    with importing():
        from segkit.eval_miou import eval_miou
        from segkit.evaluation.conventions import CONVENTIONS
        from segkit.evaluation.families import FAMILIES
        from segkit.report.tables import figures_table, scores_table

    everything = arguments.figures in (None, "all")
    figures = None if everything else _names(arguments.figures, tuple(FAMILIES), "--figures")
    also = _names(arguments.also, tuple(CONVENTIONS), "--also")
    result = eval_miou(
        [Path(path) for path in paths],
        overrides,
        split=arguments.split,
        output=arguments.output,
        postprocess=not arguments.no_postprocess,
        figures=figures,
        also=also,
        absent=arguments.absent_classes,
    )
    say(str(result.protocol), scores_table(result.scores, result.classes, result.measured.intervals))
    say(figures_table(result.measured))
    say(f"written: {result.output}/ metrics.json, confusion.csv, images.csv")
    return 0


def _names(text: str | None, known: tuple[str, ...], option: str) -> list[str]:
    """Return the names in a list such as 'boundary,objects'; raises ConfigError for one that isn't known."""
    names = [name.strip() for name in (text or "none").split(",") if name.strip() != "none"]
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: found {name!r}, expected {', '.join(known)}, or none")
    return names
