"""Show what a model costs: parameters, FLOPs, memory, receptive field, time, stage by stage."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import say
from segkit.errors import ConfigError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.models.summary import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="CHECKPOINT|CONFIG.yaml", help="what to build the model from")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of a config to change")
    parser.add_argument("--size", metavar="H,W", help="of the images (default: data.canvas)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images per forward pass (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    is_config = arguments.source.suffix in (".yaml", ".yml")
    if arguments.overrides and not is_config:
        raise ConfigError(f"{arguments.overrides[0]}: without effect on a checkpoint, whose model is built already")
    size_hw = None if arguments.size is None else _size(arguments.size)
    if arguments.batch_size < 1:
        raise ConfigError(f"--batch-size {arguments.batch_size}: expected a number from 1")
    with importing():
        from segkit.config.reading import load_config
        from segkit.datasets.layouts import resolve_classes
        from segkit.models.checkpoint import Checkpoint
        from segkit.models.summary import summarize
        from segkit.models.table import build_model
        from segkit.runtime.device import select_device

    device = select_device(arguments.device)
    if is_config:
        config = load_config(arguments.source, arguments.overrides)
        segmenter = build_model(config.model, len(resolve_classes(config.data)), pretrained=False)
    else:
        checkpoint = Checkpoint.load(arguments.source)
        config, segmenter = checkpoint.config, checkpoint.build()
    segmenter.to_device(device, channels_last=config.train.channels_last)
    name = f"{config.model.name}, encoder {config.model.encoder}"
    summary = summarize(segmenter, name, size_hw=size_hw or config.data.canvas, batch_size=arguments.batch_size)
    if arguments.json:
        origin = segmenter.origin
        say(json.dumps({**summary.to_dict(), "pretrained": origin.to_dict() if origin else None}, indent=2))
    else:
        say(_table(summary, str(device)), *([f"\nweights from {segmenter.origin}"] if segmenter.origin else []))
    return 0


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition(",")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size: found {text!r}, expected height,width in pixels, as in 360,480")
    return int(height), int(width)


def _table(summary: "Summary", device: str) -> str:
    field = summary.receptive_field_hw
    height, width = summary.size_hw
    lines = [
        f"{summary.name}: {summary.batch_size} x {width}x{height} pixels, fp32, {device}",
        f"parameters        {summary.parameters / 1e6:.2f} M",
        f"operations        {summary.flops / 1e9:.2f} GFLOPs ({summary.flops / 2e9:.2f} G multiply-adds)",
        f"activations       {summary.activation_bytes / 2**20:.1f} MiB, the outputs of all layers",
        f"receptive field   {'the whole image' if field is None else f'{field[1]}x{field[0]} pixels'}",
        f"forward pass      {1e3 * summary.seconds:.1f} ms",
        "",
        f"{'stage':<34} {'params M':>9} {'GFLOPs':>8} {'MiB':>8} {'ms':>8}",
    ]
    lines += [
        f"{stage.name[:34]:<34} {stage.parameters / 1e6:9.3f} {stage.flops / 1e9:8.3f} "
        f"{stage.activation_bytes / 2**20:8.1f} {1e3 * stage.seconds:8.1f}"
        for stage in summary.stages
    ]
    return "\n".join(lines)
