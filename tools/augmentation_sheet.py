"""Draw docs/augmentation.jpg, what each augmentation alone does to an image and its mask, and time each.

python tools/augmentation_sheet.py --output docs/augmentation.jpg [--data ../shared/data/camvid] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.config.schema import AugmentConfig, DataConfig
from segkit.datasets.masks import build_mask_reader
from segkit.imaging.overlay import overlay, sheet
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.prepare import PreparedData, prepare_data
from segkit.loading.training_set import TrainingSet

OFF = AugmentConfig(scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0)
ALONE: dict[str, AugmentConfig] = {
    "nothing": OFF,
    "scale [0.5, 2], aspect 0.3": replace(OFF, scale=(0.5, 2), aspect=0.3),
    "rare_crops 1, scale [2, 3]": replace(OFF, scale=(2, 3), rare_crops=1),
    "hue 0.1, saturation 0.7, value 0.3": replace(OFF, hue=0.1, saturation=0.7, value=0.3),
    "vflip 1": replace(OFF, vflip=1),
    "quarter_turns 1": replace(OFF, quarter_turns=1),
    "shear 20": replace(OFF, shear=20),
    "rotate 30": replace(OFF, rotate=30),
    "perspective 0.2": replace(OFF, perspective=0.2),
    "brightness 0.2, contrast 0.3": replace(OFF, brightness=0.2, contrast=0.3),
    "gamma 1": replace(OFF, gamma=1),
    "clahe 1": replace(OFF, clahe=1),
    "grey 1": replace(OFF, grey=1),
    "channel_drop 1": replace(OFF, channel_drop=1),
    "blur 1": replace(OFF, blur=1),
    "noise 1": replace(OFF, noise=1),
    "jpeg 1": replace(OFF, jpeg=1),
    "mosaic 1": replace(OFF, mosaic=1),
    "cutmix 1": replace(OFF, cutmix=1),
    "classmix 1": replace(OFF, classmix=1),
    "copy_paste 1": replace(OFF, copy_paste=1),
    "cutout 1": replace(OFF, cutout=1),
}
COLUMNS, SHOWN_WIDTH = 4, 300


def main(words: Sequence[str] | None = None) -> None:
    """Write the sheet, and print the milliseconds that a sample takes with each, decoding left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", default="../shared/data/camvid")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", type=int, default=150, help="which image of the training split is shown")
    arguments = parser.parse_args(words)
    config = DataConfig(arguments.data, canvas=(360, 480))
    data = prepare_data(config, seed=0)
    sets = {name: _samples(each, config, data) for name, each in ALONE.items()}
    panels = [_titled(name, *samples.draw((0, arguments.image)), data.classes) for name, samples in sets.items()]
    drawn = cv2.cvtColor(sheet(panels, columns=COLUMNS), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(arguments.output), drawn, [cv2.IMWRITE_JPEG_QUALITY, 80])
    seconds: dict[str, list[float]] = {name: [] for name in sets}
    for _ in range(arguments.rounds):
        for name, samples in sets.items():
            started = time.perf_counter()
            for view in range(8):
                samples.draw((1, view))
            seconds[name].append((time.perf_counter() - started) / 8)
    base = statistics.median(seconds["nothing"])
    print(f"decoded, laid on 480x360, nothing else: {1000 * base:.2f} ms; beyond that")
    for name, found in seconds.items():
        if name != "nothing":
            print(f"{name:36} {1000 * (statistics.median(found) - base):6.2f} ms")


def _samples(augment: AugmentConfig, config: DataConfig, data: PreparedData) -> TrainingSet:
    recipe = build_augment(
        augment, canvas_hw=config.canvas, ignore_index=data.classes.ignore_index, class_pixels=data.survey.class_pixels
    )
    return TrainingSet(data.train, build_mask_reader(config, data.classes), recipe, seed=4)


def _titled(name: str, image: np.ndarray, mask: np.ndarray, classes: Classes) -> np.ndarray:
    size = (SHOWN_WIDTH, SHOWN_WIDTH * image.shape[0] // image.shape[1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ids = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    half = size[0] // 2
    shown = np.concatenate([small[:, :half], overlay(small, ids, classes)[:, half:]], axis=1)  # the mask on the right
    head = np.full((26, size[0], 3), 255, np.uint8)
    cv2.putText(head, name, (2, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([head, shown])


if __name__ == "__main__":
    main()
