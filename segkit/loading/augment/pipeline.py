"""What training does to an image and its mask: a list of steps, built from the table `STEPS`.

To add an augmentation, write a GeometricStep or a PhotometricStep, and a line in `STEPS`. The list is the usual one of
U-Net and VOC pipelines: aspect jitter, scale, position, flip, then HSV jitter; everything else is off by default.
What is made of several images is in mixing.py.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segkit.config.schema import AugmentConfig
from segkit.loading.augment.degrading import Blur, Jpeg, Noise
from segkit.loading.augment.geometric import (
    Aspect,
    Flip,
    GeometricStep,
    Placement,
    Position,
    RareCrops,
    Scale,
    Size,
    rarity,
)
from segkit.loading.augment.matrices import Perspective, QuarterTurns, Rotation, Shear, VerticalFlip
from segkit.loading.augment.mixing import MIXES, Mix
from segkit.loading.augment.photometric import HsvJitter, PhotometricStep
from segkit.loading.augment.tones import ChannelDrop, Clahe, Grey, Tones
from segkit.loading.augment.warp import Change, warp

Step = GeometricStep | PhotometricStep

# Each takes the config and how many pixels of each class the training set has, and returns its step, or None if that
# would change nothing. Parameters are drawn in this order, so a new step belongs at the end, or it changes the numbers
# that the steps behind it draw. The first four always draw, as they did when they were one step.
STEPS: dict[str, Callable[[AugmentConfig, Sequence[int]], Step | None]] = {
    "aspect": lambda config, _: Aspect(config.aspect),
    "scale": lambda config, _: Scale(*config.scale),
    "position": lambda config, _: Position(),
    "flip": lambda config, _: Flip(config.flip),
    "rare_crops": lambda config, class_pixels: (
        RareCrops(config.rare_crops, rarity(class_pixels)) if config.rare_crops else None
    ),
    "hsv": lambda config, _: (
        HsvJitter(config.hue, config.saturation, config.value)
        if config.hue or config.saturation or config.value
        else None
    ),
    "vflip": lambda config, _: VerticalFlip(config.vflip) if config.vflip else None,
    "quarter_turns": lambda config, _: QuarterTurns(config.quarter_turns) if config.quarter_turns else None,
    "shear": lambda config, _: Shear(config.shear) if config.shear else None,
    "rotate": lambda config, _: Rotation(config.rotate) if config.rotate else None,
    "perspective": lambda config, _: Perspective(config.perspective) if config.perspective else None,
    "tones": lambda config, _: (
        Tones(config.brightness, config.contrast, config.gamma)
        if config.brightness or config.contrast or config.gamma
        else None
    ),
    "clahe": lambda config, _: Clahe(config.clahe) if config.clahe else None,
    "grey": lambda config, _: Grey(config.grey) if config.grey else None,
    "channel_drop": lambda config, _: ChannelDrop(config.channel_drop) if config.channel_drop else None,
    "blur": lambda config, _: Blur(config.blur) if config.blur else None,
    "noise": lambda config, _: Noise(config.noise) if config.noise else None,
    "jpeg": lambda config, _: Jpeg(config.jpeg) if config.jpeg else None,
}


@dataclass(frozen=True)
class Recipe:
    """The steps of a run, in the order in which they draw, and the canvas that they fill.

    `fit_hw` is the canvas of validation: at scale 1 an image just fits it. `ignore_index` fills a mask's bars.
    """

    steps: tuple[Step, ...]
    canvas_hw: Size
    fit_hw: Size
    ignore_index: int
    mixes: tuple[Mix, ...] = ()  # what is then made of several samples

    def reduction(self, size_hw: Size) -> int:
        """Return by how much (1, 2, 4 or 8) an image can be shrunk beforehand without ever having to grow here.

        It depends on the image's size alone, not on what is drawn, so decoded images can be cached.
        """
        geometric = [step for step in self.steps if isinstance(step, GeometricStep)]
        most = math.prod(step.max_stretch for step in geometric)
        rows = min(self.fit_hw[0] / size_hw[0], self.fit_hw[1] / size_hw[1] * most)
        columns = min(self.fit_hw[0] / size_hw[0] * most, self.fit_hw[1] / size_hw[1])
        largest = math.prod(step.max_growth for step in geometric) * max(rows, columns)
        return next((factor for factor in (8, 4, 2) if factor * largest <= 1), 1)


def build_augment(
    config: AugmentConfig,
    *,
    canvas_hw: Size,
    ignore_index: int,
    class_pixels: Sequence[int] = (),
    labelled_crops: bool = False,
) -> Recipe:
    """Return the recipe of `config`, steps that change nothing left out.

    `class_pixels`, how many pixels of each class the training set has, is needed for augment.rare_crops. With
    `labelled_crops` every crop holds a labelled pixel, of a rare class rather than of others: augment.rare_crops at 1.
    """
    if labelled_crops:
        config = replace(config, rare_crops=1.0)
    assert class_pixels or not (config.rare_crops or config.copy_paste), "rarity needs class_pixels"
    built = [build(config, class_pixels) for build in STEPS.values()]
    steps = tuple(step for step in built if step is not None)
    mixes = tuple(made for make in MIXES.values() if (made := make(config, class_pixels)) is not None)
    return Recipe(steps, canvas_hw=config.crop or canvas_hw, fit_hw=canvas_hw, ignore_index=ignore_index, mixes=mixes)


def augment(
    recipe: Recipe,
    rng: np.random.Generator,
    image: np.ndarray,
    mask: np.ndarray,
    *,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a recipe to uint8 RGB [h, w, 3] and its class ids [h, w], with parameters drawn from `rng`.

    Returns uint8 RGB [H, W, 3] and ids [H, W], in the arrays of `out` where they are given.
    """
    placement, changes = draw(recipe, rng, mask)
    early: list[Change] = []
    late: list[Change] = []
    for step, parameters in changes:
        change = functools.partial(step.apply, parameters=parameters)
        (early if step.pointwise and not late else late).append(change)
    out = out or (np.empty((*recipe.canvas_hw, 3), np.uint8), np.empty(recipe.canvas_hw, np.uint8))
    warp(
        image,
        mask,
        placement,
        out=out,
        ignore_index=recipe.ignore_index,
        before_growing=_in_order(early),
        change=_in_order(late),
    )
    return out


def draw(
    recipe: Recipe, rng: np.random.Generator, mask: np.ndarray
) -> tuple[Placement, list[tuple[PhotometricStep, Any]]]:
    """Draw the parameters of one sample, step by step: where it comes to lie, and how its pixels change."""
    placement = Placement(mask.shape, recipe.canvas_hw, recipe.fit_hw)
    changes: list[tuple[PhotometricStep, Any]] = []
    for step in recipe.steps:
        if isinstance(step, GeometricStep):
            placement = step.sample(rng, placement, mask)
        else:
            changes.append((step, step.sample(rng)))
    return placement, changes


def _in_order(changes: Sequence[Change]) -> Change | None:
    if not changes:
        return None
    return lambda pixels: functools.reduce(lambda changed, change: change(changed), changes, pixels)
