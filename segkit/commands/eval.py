"""Score checkpoints on labelled images: mIoU and the per-class table."""

import argparse
from pathlib import Path

from segkit.commands.figures import add_absent, add_figures, family_names, names
from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.errors import SegkitError
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
        "--calibrated", action="store_true", help="divide scores by the temperature that segkit calibrate has stored"
    )
    add_figures(parser, "boundary, contours, objects, detections, calibration, precision_recall")
    parser.add_argument(
        "--also",
        metavar="LIST",
        help="show what other protocols would report for the same predictions: letterbox (scored on the canvas), crop "
        "(the middle of each image)",
    )
    add_absent(parser)
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
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
        from segkit.report.tables import figures_table, scores_table

    also = names(arguments.also, tuple(CONVENTIONS), "--also")
    result = eval_miou(
        [Path(path) for path in paths],
        overrides,
        split=arguments.split,
        output=arguments.output,
        postprocess=not arguments.no_postprocess,
        calibrated=arguments.calibrated,
        figures=family_names(arguments.figures),
        also=also,
        absent=arguments.absent_classes,
        report=not arguments.no_report,
    )
    say(str(result.protocol), scores_table(result.scores, result.classes, result.measured.intervals))
    say(figures_table(result.measured))
    page = "" if arguments.no_report else ", report.html"
    say(f"written: {result.output}/ metrics.json, confusion.csv, images.csv{page}")
    return 0
