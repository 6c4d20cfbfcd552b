"""What training does to a picture and its mask: placement on the canvas, and colour.

Parameters are sampled once and applied by type, so image and mask can't disagree. To add an augmentation, write a
class with `sample(rng, hw)`, `image(pixels, parameters)` and `mask(ids, parameters)`, and a line in `build_augment`.
The recipe is the usual one of UNet/VOC pipelines: aspect jitter, scale, flip, placement, then HSV jitter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from segkit.config.schema import AugmentConfig
from segkit.imaging.letterbox import BAR_GREY
from segkit.imaging.resize import resize_image, resize_mask
from segkit.loading.augment.geometric import Placement, RandomPlacement, Size, _lengths
from segkit.loading.augment.photometric import ColorJitter


class Augmentation(Protocol):
    """One step: draw parameters for a picture of size (height, width), then apply them to pixels and to class ids."""

    def sample(self, rng: np.random.Generator, hw: Size) -> Any: ...

    def image(self, image: np.ndarray, parameters: Any) -> np.ndarray: ...

    def mask(self, mask: np.ndarray, parameters: Any) -> np.ndarray: ...


@dataclass(frozen=True)
class Recipe:
    """What happens to a picture: a placement, and changes of colour where it is smaller, before or after."""

    placement: RandomPlacement
    colour: Sequence[Augmentation] = ()


def build_augment(
    config: AugmentConfig, *, canvas_hw: Size, ignore_index: int, class_pixels: Sequence[int] = ()
) -> Recipe:
    """Return the steps of `config`, those that change nothing left out.

    `class_pixels`, how many pixels of each class the training set has, is needed for augment.rare_crops.
    """
    assert class_pixels or not config.rare_crops, "augment.rare_crops needs class_pixels"
    placement = RandomPlacement(
        canvas_hw=config.crop or canvas_hw,
        fit_hw=canvas_hw,
        scale=config.scale,
        aspect=config.aspect,
        flip=config.flip,
        ignore_index=ignore_index,
        rare_crops=config.rare_crops,
        rarity=tuple(sum(class_pixels) / pixels if pixels else 0.0 for pixels in class_pixels),
    )
    colour = ColorJitter(config.hue, config.saturation, config.value)
    changes_colour = config.hue or config.saturation or config.value
    return Recipe(placement, (colour,) if changes_colour else ())


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
    placement = recipe.placement
    where = placement.sample(rng, mask.shape, mask)
    drawn = [(step, step.sample(rng, mask.shape)) for step in recipe.colour]

    def change_colour(pixels: np.ndarray) -> np.ndarray:
        for step, parameters in drawn:
            pixels = step.image(pixels, parameters)
        return pixels

    canvas, ids = out or (np.empty((*placement.canvas_hw, 3), np.uint8), np.empty(placement.canvas_hw, np.uint8))
    placement.put(mask, where, ids, bars=placement.ignore_index, resize=resize_mask)
    grows = np.prod(_lengths(where.target)) > np.prod(_lengths(where.source))
    if grows and drawn:
        image = change_colour(image[where.source])
        whole = Placement((slice(None), slice(None)), where.target, where.flip)
        placement.put(image, whole, canvas, bars=BAR_GREY, resize=resize_image)
    else:
        placement.put(image, where, canvas, bars=BAR_GREY, resize=resize_image)
        canvas[where.target] = change_colour(canvas[where.target])
    return canvas, ids
