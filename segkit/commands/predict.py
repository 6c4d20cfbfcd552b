"""Write masks and overlays for images without labels."""

import argparse
import shlex
import sys
from pathlib import Path

from segkit.commands.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        nargs="+",
        type=Path,
        help="such as runs/NAME/checkpoints/best.pt; of several the probabilities are averaged",
    )
    parser.add_argument("input", help="an image, a folder (searched to any depth), or a quoted pattern: 'in/**/*.jpg'")
    parser.add_argument("--output", type=Path, required=True, help="folder for masks/, overlays/ and predictions.csv")
    parser.add_argument("--no-overlays", action="store_true", help="write masks only")
    parser.add_argument("--overwrite", action="store_true", help="replace masks that are in the output folder already")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="default: as trained")


def run(arguments: argparse.Namespace) -> int:
    from segkit.inference.predictor import Predictor
    from segkit.predict import predict_files

    predictor = Predictor.load(arguments.checkpoint, device=arguments.device, precision=arguments.precision)
    results = predict_files(
        predictor,
        arguments.input,
        arguments.output,
        overlays=not arguments.no_overlays,
        overwrite=arguments.overwrite,
    )
    failed = [result for result in results if result.error]
    say(f"{len(results) - len(failed)} of {len(results)} images predicted: {arguments.output}")
    if Path(arguments.input).is_dir():
        words = shlex.join([str(arguments.output), "--from", "id-masks", "--images", arguments.input])
        say(f"correct them by hand: segkit convert {words} --to labelme FIXED")
    for result in failed[:10]:
        print(f"error: {result.error}", file=sys.stderr)
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more, see {arguments.output / 'predictions.csv'}", file=sys.stderr)
    return 1 if failed else 0
