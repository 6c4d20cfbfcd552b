"""Export a trained model for other runtimes, proved against PyTorch before it is kept."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.errors import SegkitError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.export.job import ExportReport

FORMATS = ("onnx", "openvino", "torch-export", "aoti", "web")  # a test compares them with the table of the writers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="checkpoint|key=value",
        help="such as runs/NAME/checkpoints/best.pt; of several the ensemble. Settings to change, as in data.root=DIR",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the suffix of --output")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="as in model.onnx, .xml, .pt2")
    parser.add_argument(
        "--output-kind",
        choices=("logits", "probabilities", "mask"),
        default="logits",
        help="what the model gives; segkit itself predicts by logits and probabilities (default: logits)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        default="fp32",
        help="int8: for OpenVINO, calibrated on training images (default: fp32)",
    )
    parser.add_argument(
        "--any-size", action="store_true", help="images of any size in steps of the stride, where the network allows it"
    )
    parser.add_argument(
        "--images", metavar="INPUT", help="images to compare with PyTorch on (default: the validation split)"
    )
    parser.add_argument("--num-images", type=_positive, default=16, metavar="N", help="of them (default: 16)")
    parser.add_argument(
        "--min-agreement",
        type=_share,
        metavar="A",
        help="keep the file only if so many pixels get PyTorch's class (default: 0.999 in fp32, 0.99 else)",
    )
    parser.add_argument(
        "--max-miou-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="of int8 on validation; layers that cost more keep their precision (default: 0.5)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(arguments: argparse.Namespace) -> int:
    paths, overrides = split_words(arguments.words)
    if not paths:
        raise SegkitError("export: found no checkpoint, expected one, such as runs/NAME/checkpoints/best.pt")
    with importing():
        from segkit.export.job import ExportSettings, export_model
        from segkit.export.table import format_of

    chosen = arguments.format or format_of(arguments.output)
    report = export_model(
        [Path(path) for path in paths],
        overrides,
        ExportSettings(
            chosen,
            arguments.output,
            output_kind=arguments.output_kind,
            precision=arguments.precision,
            any_size=arguments.any_size,
            images=arguments.images,
            num_images=arguments.num_images,
            min_agreement=arguments.min_agreement,
            max_miou_drop=arguments.max_miou_drop / 100,
            overwrite=arguments.overwrite,
        ),
    )
    say(_describe(report, predicts=chosen != "aoti"))
    return 0


def _describe(report: "ExportReport", *, predicts: bool) -> str:
    about, parity = report.about, report.parity
    size = "any size in steps of the stride" if about.size_hw is None else f"{about.size_hw[1]}x{about.size_hw[0]}"
    lines = [
        f"written: {', '.join(map(str, report.files))} ({report.num_bytes / 2**20:.1f} MiB)",
        f"  takes uint8 RGB images of {size}, any number; gives {about.output}, in {about.precision}",
        f"  {parity.agreement:.4%} of the pixels of {parity.num_images} images get PyTorch's class; at least "
        f"{report.min_agreement:.2%} are asked for; largest difference of {about.output}: "
        f"{parity.largest_difference:.2g}",
    ]
    if report.reference_difference is not None:
        lines.append(f"  ONNX's own reference implementation differs by at most {report.reference_difference:.2g}")
    if report.miou:
        lines.append(f"  mIoU on validation: {report.miou[1]:.2%}, in fp32 {report.miou[0]:.2%}")
        kept = report.kept_layers
        lines.append(f"  layers that keep their precision: {', '.join(kept) if kept else 'none'}")
    if report.files[0].is_dir():
        lines.append(f"open it: cd {report.files[0]} && npm install && python -m http.server")
    elif predicts:
        lines.append(f"predict with it: segkit predict {report.files[-1]} IMAGES --output FOLDER")
    return "\n".join(lines)


def _positive(word: str) -> int:
    if not (word.isdecimal() and int(word) > 0):
        raise argparse.ArgumentTypeError(f"found {word!r}, expected a number from 1")
    return int(word)


def _share(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {word!r}, expected a share in [0, 1], as in 0.999")
    return value
