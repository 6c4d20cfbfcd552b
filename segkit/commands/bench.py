"""Time trained models in each runtime and precision, side by side."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.errors import SegkitError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.export.bench import Candidate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="model|key=value",
        help="checkpoints and exported models; the first one is what the others are compared with. A checkpoint is "
        "measured in each precision that this machine computes in. Settings to change, as in data.root=DIR",
    )
    parser.add_argument(
        "--make",
        action="append",
        default=[],
        metavar="FORMAT:PRECISION",
        help="also export the first checkpoint to it, as in onnx:fp32 or openvino:int8, and measure that; may be given "
        "several times. all: every format and precision whose runtime is installed",
    )
    parser.add_argument("--score", action="store_true", help="also score each model on the validation split")
    parser.add_argument("--split", help="the split to score on instead; implies --score")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="calls of each (default: 50)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    paths, overrides = split_words(arguments.words)
    if not paths:
        raise SegkitError("bench: found no model, expected some, such as runs/NAME/checkpoints/best.pt and model.onnx")
    with importing():
        from segkit.export.bench import bench, markdown, scratch

    scored = arguments.score or arguments.split is not None
    with scratch() as folder:
        candidates = [each for path in paths for each in _candidates(Path(path), arguments.device)]
        for word in arguments.make:
            if word == "all":
                candidates += _all_made(paths, overrides, folder)
            else:
                candidates.append(_made(word, paths, overrides, folder))
        timings = bench(
            candidates,
            rounds=arguments.rounds,
            device=arguments.device,
            score=overrides if scored else None,
            split=arguments.split,
        )
    say(markdown(timings))
    if arguments.output:
        content = {"models": [timing.to_dict() for timing in timings]}
        arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        say(f"written: {arguments.output}")
    return 0


def _candidates(path: Path, device: str) -> "list[Candidate]":
    from segkit.export.bench import Candidate
    from segkit.inference.exported import is_exported

    if is_exported(path):
        return [Candidate(path.name, path)]
    from segkit.runtime.device import has_bf16, select_device

    precisions = ["fp32", *(["bf16"] if has_bf16(select_device(device)) else [])]
    return [Candidate(path.name, path, precision) for precision in precisions]


def _makeable() -> list[str]:
    """Return what --make may name: the formats that segkit itself predicts with, so no machine code and no page."""
    from segkit.export.table import FORMATS

    return [f"{k}:{p}" for k, each in FORMATS.items() if not (each.run or each.model) for p in each.precisions]


def _all_made(paths: list[str], overrides: list[str], folder: Path) -> "list[Candidate]":
    """Export the first checkpoint to all that is makeable here, and say what isn't, and why."""
    made = []
    for word in _makeable():
        try:
            made.append(_made(word, paths, overrides, folder))
        except SegkitError as error:
            say(f"left out: {word}: {error}")
    return made


def _made(word: str, paths: list[str], overrides: list[str], folder: Path) -> "Candidate":
    """Export the first checkpoint as --make says."""
    from segkit.export.bench import Candidate
    from segkit.export.job import ExportSettings, export_model
    from segkit.export.table import FORMATS

    name, _, precision = word.partition(":")
    known = _makeable()
    if f"{name}:{precision or 'fp32'}" not in known:
        raise SegkitError(f"--make: found {word!r}, expected one of {', '.join(known)}, or all")
    settings = ExportSettings(name, folder / f"{name}-{precision}{FORMATS[name].suffix}", precision=precision or "fp32")
    report = export_model([Path(paths[0])], overrides, settings)
    return Candidate(f"made: {word}", report.files[-1])
