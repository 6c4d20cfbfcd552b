"""Look inside a model: the feature maps of a layer as one picture, or where it looks for a class."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.errors import CheckpointError, ConfigError
from segkit.runtime.process import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="such as runs/NAME/checkpoints/best.pt")
    parser.add_argument("image", type=Path, nargs="?", metavar="IMAGE", help="an image; --list does without")
    parser.add_argument("--layer", metavar="NAME", help="whose output (default with --cam: the encoder's last map)")
    parser.add_argument(
        "--cam", metavar="CLASS", help="show where the layer argues for a class, by its name (Grad-CAM)"
    )
    parser.add_argument("--list", action="store_true", help="list the layers with the shapes of their outputs")
    parser.add_argument("--output", type=Path, default=Path("features.png"), help="a PNG (default: features.png)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.image is None and not arguments.list:
        raise ConfigError("features: found no image, expected one; --list shows the layers without")
    if not (arguments.list or arguments.layer or arguments.cam):
        raise ConfigError("features: found neither --layer nor --cam, expected one; --list shows the layers")
    with importing():
        from segkit.datasets.images import read_image
        from segkit.inference.exported import is_exported
        from segkit.inference.features import draw_features, layers_of
        from segkit.models.checkpoint import Checkpoint

    if is_exported(arguments.checkpoint):
        raise CheckpointError(
            f"{arguments.checkpoint}: an exported model, expected a checkpoint, whose layers have names; give the "
            ".pt or .safetensors that it was exported from"
        )
    checkpoint = Checkpoint.load(arguments.checkpoint)
    if arguments.list:
        layers = layers_of(checkpoint)
        width = max(len(layer.name) for layer in layers)
        say(*(f"{layer.name:<{width}}  {'x'.join(map(str, layer.shape)):>16}  {layer.kind}" for layer in layers))
        return 0
    image = read_image(arguments.image)
    shows = draw_features(checkpoint, image, arguments.output, layer=arguments.layer, class_name=arguments.cam)
    say(shows, f"written: {arguments.output}")
    return 0
