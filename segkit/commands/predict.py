"""Write masks and overlays for images and videos without labels."""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import is_first_rank, say
from segkit.errors import ConfigError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.config.schema import View
    from segkit.inference.predictor import Predictor
    from segkit.inference.windows import WindowSetting
    from segkit.prediction.job import Job
    from segkit.prediction.rows import Predicted


MAX_MEGAPIXELS = 1000.0  # as in segkit.predict (a test compares), which is heavy to import


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        nargs="+",
        type=Path,
        help="such as runs/NAME/checkpoints/best.pt; of several the probabilities are averaged. Or an exported model: "
        "model.onnx, model.xml, model.pt2",
    )
    parser.add_argument(
        "input",
        help="an image, a folder (searched to any depth), a quoted pattern: 'in/**/*.jpg', numbered frames: "
        "in/%%06d.png, a .txt file that lists paths, - for a list on the standard input, a video, a camera's number, "
        "or a stream's address",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for masks/, overlays/ and predictions.csv")
    parser.add_argument("--overwrite", action="store_true", help="replace masks that are in the output folder already")
    parser.add_argument("--skip-existing", action="store_true", help="continue: leave out images whose mask exists")
    parser.add_argument(
        "--batch-size",
        type=_batch_size,
        default="auto",
        metavar="N",
        help="images per forward pass; auto: 1 on a CPU, 16 on a GPU; halved where memory is short (default: auto)",
    )
    parser.add_argument(
        "--tta",
        metavar="VIEW,...",
        help="test-time augmentation: flip, vflip and scales, as in flip,1.25; none (default: the run's eval.tta)",
    )
    parser.add_argument(
        "--no-postprocess", action="store_true", help="leave out the rules that segkit postprocess found for the model"
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="divide scores by the temperature that segkit calibrate found: probabilities and confidences that say how "
        "often the model is right",
    )
    parser.add_argument(
        "--window",
        default="auto",
        metavar="auto|off|H,W",
        help="slide a window of H x W pixels over an image, instead of shrinking it to the canvas; auto: where that "
        "would shrink it more than training did (default: auto)",
    )
    parser.add_argument(
        "--min-confidence",
        type=_fraction,
        default=0.0,
        metavar="P",
        help="pixels whose class is less probable become the ignore index (default: 0, none)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=MAX_MEGAPIXELS,
        metavar="N",
        help="refuse images whose header says more, before they fill the memory (default: %(default)g)",
    )
    written = parser.add_argument_group("what is written, beside masks and predictions.csv")
    written.add_argument("--no-overlays", action="store_true", help="no masks drawn on the images")
    for flag, text in {
        "--color": "masks in the classes' colours, as RGB PNGs",
        "--side-by-side": "each image beside its overlay",
        "--uncertainty": "entropy of the class probabilities as grey PNGs: 0 certain, 255 a guess",
        "--labelme": "a JSON file per image for labelme, to correct the masks by hand",
        "--geojson": "a GeoJSON file of polygons per image, in pixels",
        "--areas": "areas.csv: pixels and objects of each class in each image",
    }.items():
        written.add_argument(flag, action="store_true", help=text)
    written.add_argument(
        "--coco",
        choices=("polygons", "runs"),
        help="coco.json: an annotation per region, as polygon (RLE where it has holes), or all as RLE, exactly",
    )
    written.add_argument(
        "--probabilities",
        choices=("npz", "png"),
        help="class probabilities: float16 arrays [C, h, w], or a grey PNG per class",
    )
    written.add_argument(
        "--render",
        choices=("blend", "mask", "cutout", "contours"),
        default="blend",
        help="how overlays look: colours over the image, colours alone, the background transparent, outlines "
        "(default: blend)",
    )
    written.add_argument(
        "--opacity", type=_opacity, default=0.6, metavar="A", help="of the colours over the image (default: 0.6)"
    )
    parser.add_argument(
        "--smooth", action="store_true", help="videos: average the probabilities along the motion, against flicker"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: this process, or those of torchrun. ray: many processes, here or on the cluster that RAY_ADDRESS "
        "names; --output is then on storage that all machines share (default: local)",
    )
    parser.add_argument(
        "--workers",
        type=_number,
        metavar="N",
        help="processes of --engine ray (default: one per GPU, or one per core where there is none)",
    )
    parser.add_argument("--frame-masks", action="store_true", help="videos: also masks/NAME/000123.png, one per frame")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="default: as trained")


def run(arguments: argparse.Namespace) -> int:
    from segkit.errors import SegkitError
    from segkit.prediction.job import prepare
    from segkit.prediction.video import is_video

    styled = arguments.render != "blend" or arguments.opacity != 0.6
    if styled and arguments.no_overlays and not arguments.side_by_side:
        raise SegkitError("--render, --opacity: without effect, no overlay is written; leave out --no-overlays")
    _check_engine(arguments, video=is_video(arguments.input))
    _views(arguments)  # a wrong word is told before a model is loaded, or a fleet started
    if is_video(arguments.input):
        return _predict_video(arguments)
    if arguments.smooth or arguments.frame_masks:
        raise SegkitError("--smooth, --frame-masks: without effect on images; for frames, make a video of them first")
    # before the model is loaded, which takes seconds: a wrong path and a full disk are told at once
    job = prepare(
        arguments.input, arguments.output, overwrite=arguments.overwrite, skip_existing=arguments.skip_existing
    )
    results = _predict_by_fleet(arguments, job) if arguments.engine == "ray" else _predict(arguments, job)
    failed = [result for result in results if result.error]
    say(f"{len(results) - len(failed)} of {len(results)} images predicted: {arguments.output}")
    if Path(arguments.input).is_dir():
        words = shlex.join([str(arguments.output), "--from", "id-masks", "--images", arguments.input])
        say(f"correct them by hand: segkit convert {words} --to labelme FIXED")
    for result in failed[:10] if is_first_rank() else []:
        print(f"error: {result.error}", file=sys.stderr)
    if len(failed) > 10 and is_first_rank():
        print(f"... and {len(failed) - 10} more, see {arguments.output / 'predictions.csv'}", file=sys.stderr)
    return 1 if failed else 0


def _predict_video(arguments: argparse.Namespace) -> int:
    from segkit.errors import SegkitError

    with importing():
        from segkit.prediction.outputs import Style
        from segkit.prediction.video_job import predict_video, refuse_existing

    if _kinds(arguments) != ["overlays"] or arguments.skip_existing:
        raise SegkitError(
            "a video becomes one video and a table: --no-overlays, --skip-existing and the outputs of images have no "
            "effect; --frame-masks writes a mask per frame"
        )
    if arguments.batch_size != "auto" or arguments.max_megapixels != MAX_MEGAPIXELS:
        raise SegkitError(
            "--batch-size, --max-megapixels: without effect on a video, whose frames come one after the other"
        )
    if arguments.window not in ("auto", "off"):
        raise SegkitError(f"--window {arguments.window}: without effect on a video, whose frames fit the canvas whole")
    masks = arguments.frame_masks
    refuse_existing(arguments.input, arguments.output, overwrite=arguments.overwrite, masks=masks)
    predictor, style = _load(arguments), Style(arguments.render, arguments.opacity)
    done = predict_video(
        predictor, arguments.input, arguments.output, style=style, smooth=arguments.smooth, masks=masks
    )
    say(f"{done.num_frames} frames predicted: {done.path}")
    if done.raw_flicker is not None and done.smooth_flicker is not None:
        say(
            f"flicker, the share of pixels that change class from frame to frame as the image moves: "
            f"{done.raw_flicker:.2%} as predicted, {done.smooth_flicker:.2%} smoothed"
        )
    return 1 if done.problem else 0


def _predict(arguments: argparse.Namespace, job: "Job") -> "list[Predicted]":
    import contextlib

    with importing():
        from segkit.predict import predict
        from segkit.prediction.outputs import Style
        from segkit.prediction.table import build_outputs

    style = Style(arguments.render, arguments.opacity)
    with contextlib.ExitStack() as stack:
        ranks = None
        if "RANK" in os.environ:  # torchrun: each process predicts a share
            from segkit.runtime.ranks import process_group

            ranks = stack.enter_context(process_group(arguments.device))
        predictor = _load(arguments, local_rank=ranks.local_rank if ranks else 0)
        return predict(
            predictor,
            job,
            build_outputs(job.output, predictor.classes, _kinds(arguments), style=style),
            batch_size=predictor.usual_batch_size if arguments.batch_size == "auto" else arguments.batch_size,
            max_megapixels=arguments.max_megapixels,
            ranks=ranks,
        )


def _load(arguments: argparse.Namespace, *, local_rank: int = 0) -> "Predictor":
    """Load the model as the command line says, in this process or in one of a fleet."""
    from segkit.inference.predictor import Predictor

    tta, window = _views(arguments)
    return Predictor.load(
        arguments.checkpoint,
        device=arguments.device,
        precision=arguments.precision,
        tta=tta,
        window=window,
        postprocess=not arguments.no_postprocess,
        calibrated=arguments.calibrated,
        min_confidence=arguments.min_confidence,
        local_rank=local_rank,
    )


def _views(arguments: argparse.Namespace) -> "tuple[Sequence[View] | None, WindowSetting]":
    """Return what --tta and --window say. Raises ConfigError for words that mean nothing."""
    from segkit.inference.tta import parse_tta
    from segkit.inference.windows import parse_window

    tta = None if arguments.tta is None else () if arguments.tta == "none" else parse_tta(arguments.tta)
    return tta, parse_window(arguments.window)


def _predict_by_fleet(arguments: argparse.Namespace, job: "Job") -> "list[Predicted]":
    import functools

    with importing():
        from segkit.inference.trained import open_models
        from segkit.predict import predict_by
        from segkit.prediction.fleet import Fleet
        from segkit.prediction.outputs import Style
        from segkit.prediction.table import build_outputs

    classes = open_models(arguments.checkpoint)[0].classes  # the driver needs no more of them, but finds bad ones
    style = Style(arguments.render, arguments.opacity)
    outputs = build_outputs(job.output, classes, _kinds(arguments), style=style)
    fleet = Fleet(
        functools.partial(_load, arguments),
        outputs,
        job.output,
        max_pixels=round(arguments.max_megapixels * 1e6),
        workers=arguments.workers,
        batch_size=None if arguments.batch_size == "auto" else arguments.batch_size,
        device=arguments.device,
    )
    return predict_by(fleet, classes, job, outputs)


def _check_engine(arguments: argparse.Namespace, *, video: bool) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: --workers without --engine ray; --engine ray under torchrun, or on a video.
    """
    if arguments.engine == "local" and arguments.workers is not None:
        raise ConfigError(
            "--workers: without effect on --engine local, which uses the cores by threads; give --engine ray as well"
        )
    if arguments.engine == "ray" and "RANK" in os.environ:
        raise ConfigError("--engine ray: found under torchrun; start it once, without torchrun: Ray starts processes")
    if arguments.engine == "ray" and video:
        raise ConfigError("--engine ray: without effect on a video, which one process predicts, frame after frame")


def _kinds(arguments: argparse.Namespace) -> list[str]:
    """Return the outputs that were asked for, by their names in the table."""
    flags = ("color", "side_by_side", "uncertainty", "labelme", "geojson", "areas")
    kinds = [flag for flag in flags if getattr(arguments, flag)]
    if arguments.coco:
        kinds.append(f"coco_{arguments.coco}")
    if arguments.probabilities:
        kinds.append(f"probabilities_{arguments.probabilities}")
    return kinds if arguments.no_overlays else ["overlays", *kinds]


def _batch_size(word: str) -> int | str:
    return word if word == "auto" else _number(word, expected="auto or a number of images from 1")


def _number(word: str, *, expected: str = "a number from 1") -> int:
    if not (word.isdecimal() and int(word) > 0):
        raise argparse.ArgumentTypeError(f"found {word!r}, expected {expected}")
    return int(word)


def _fraction(word: str) -> float:
    return _number_where(word, lambda value: 0 <= value < 1, expected="a probability in [0, 1)")


def _opacity(word: str) -> float:
    return _number_where(word, lambda value: 0 <= value <= 1, expected="a number in [0, 1]")


def _number_where(word: str, fits: Callable[[float], bool], *, expected: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan  # which fits nowhere
    if not fits(value):
        raise argparse.ArgumentTypeError(f"found {word!r}, expected {expected}")
    return value
