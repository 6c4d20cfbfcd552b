"""List architectures and encoders: what they cost, their pretrained weights, and the licences of those."""

import argparse
import json
from typing import TYPE_CHECKING

from segkit.commands.output import say
from segkit.errors import ConfigError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.models.catalogue import Entry

COUNTED = 40  # matches whose costs are counted unasked: some seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern",
        nargs="?",
        metavar="PATTERN",
        help="part of a name, or a name with wildcards: resnet, 'tu-convnext*' (default: all but timm's encoders)",
    )
    parser.add_argument(
        "--encoder", default="resnet34", metavar="NAME", help="to count architectures with (default: resnet34)"
    )
    parser.add_argument(
        "--all", action="store_true", help=f"count parameters and operations of more than {COUNTED} matches, too"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    with importing():
        from segkit.models.catalogue import NUM_CLASSES, count, find

    entries = find(arguments.pattern, encoder=arguments.encoder)
    if not entries:
        raise ConfigError(
            f"{arguments.pattern}: no architecture and no encoder of this name; timm's begin with tu-, and wildcards "
            "are quoted: segkit models '*b0*'"
        )
    counted = len(entries) <= COUNTED or arguments.all
    entries = [count(entry) if counted or entry.kind == "architecture" else entry for entry in entries]
    if arguments.json:
        say(json.dumps([entry.to_dict() for entry in entries], indent=2))
        return 0
    say(f"{'':<44} {'params M':>9} {'GFLOPs':>8}  pretrained weights, licence", *map(_line, entries), "")
    say(f"GFLOPs: of one image of 512x512, two per multiply-add; architectures: of {NUM_CLASSES} classes.")
    if any(entry.flops is None for entry in entries) and counted:
        say("-: can't be built or run at that size, as many transformers, whose images have a fixed size.")
    if not counted:
        say(f"Of more than {COUNTED} matches encoders aren't counted; name fewer, or add --all.")
    if arguments.pattern is None:
        say("Every encoder of timm is tu- and its name: segkit models tu-convnext")
    return 0


def _line(entry: "Entry") -> str:
    name = entry.name if entry.kind == "encoder" else f"{entry.name} ({entry.encoder})"
    parameters = "-" if entry.parameters is None else f"{entry.parameters / 1e6:.2f}"
    flops = "-" if entry.flops is None else f"{entry.flops / 1e9:.2f}"
    weights = "; ".join(map(str, entry.weights)) if entry.kind == "encoder" else "those of the encoder"
    return f"{name[:44]:<44} {parameters:>9} {flops:>8}  {weights or 'none'}"
