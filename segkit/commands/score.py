"""Score masks that any program has made: the figures of segkit eval, from two folders."""

import argparse
from pathlib import Path

from segkit.commands.figures import add_absent, add_figures, family_names
from segkit.commands.output import say
from segkit.runtime.process import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pred", type=Path, required=True, metavar="DIR", help="folder of predicted masks")
    parser.add_argument(
        "--truth", type=Path, required=True, metavar="DIR", help="folder of true masks, of the same relative paths"
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES|FILE",
        help="names in id order, as in background,cat,dog, or a text file with one per line (default: classes.txt in "
        "the folder of the truth)",
    )
    parser.add_argument(
        "--pred-ids",
        action="store_true",
        help="predictions hold class ids, whatever data.mask_values says of the truth",
    )
    add_figures(parser, "boundary, contours, objects")
    add_absent(parser)
    parser.add_argument("--output", type=Path, help="folder for metrics.json, confusion.csv and images.csv")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="how labels are read: data.mask_values=[0,255], data.ignore_values, data.ignore_index",
    )


def run(arguments: argparse.Namespace) -> int:
    with importing():
        from segkit.report.tables import figures_table, scores_table
        from segkit.score import score_masks

    result = score_masks(
        arguments.pred,
        arguments.truth,
        [*_classes(arguments.classes), *arguments.overrides],
        prediction_ids=arguments.pred_ids,
        figures=family_names(arguments.figures),
        absent=arguments.absent_classes,
        output=arguments.output,
    )
    measured = result.measured
    say(str(result.protocol), scores_table(measured.scores, measured.classes, measured.intervals))
    say(figures_table(measured))
    if arguments.output:
        say(f"written: {arguments.output}/ metrics.json, confusion.csv, images.csv")
    return 0


def _classes(text: str | None) -> list[str]:
    """Return --classes as an override."""
    if text is None:
        return []
    is_list = "," in text and not Path(text).is_file()
    return [f"data.classes=[{text}]" if is_list else f"data.classes={text}"]
