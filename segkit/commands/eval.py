"""Score checkpoints on labelled images: mIoU and the per-class table."""

import argparse
from pathlib import Path

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
    parser.add_argument("--output", type=Path, help="folder for metrics.json and confusion.csv (default: in the run)")


def run(arguments: argparse.Namespace) -> int:
    paths, overrides = split_words(arguments.words)
    if not paths:
        raise SegkitError("eval: found no checkpoint, expected one, such as runs/NAME/checkpoints/best.pt")
    with importing():
        from segkit.eval_miou import eval_miou
        from segkit.report.tables import scores_table

    result = eval_miou(
        [Path(path) for path in paths],
        overrides,
        split=arguments.split,
        output=arguments.output,
        postprocess=not arguments.no_postprocess,
    )
    say(str(result.protocol), scores_table(result.scores, result.classes))
    say(f"written: {result.output / 'metrics.json'}, {result.output / 'confusion.csv'}")
    return 0
