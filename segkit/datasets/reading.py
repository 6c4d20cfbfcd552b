"""One item off the disk: its pixels and its class ids, checked to be of one size."""

from collections.abc import Callable, Sequence

import numpy as np

from segkit.datasets.images import image_size_hw, read_image, reduced_hw
from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.errors import DataError


def read_pair(
    item: Item, reader: MaskReader, *, reduction: Callable[[tuple[int, int]], int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 RGB [h, w, 3] and its class ids uint8 [h, w]; of an item without a mask every pixel is ignored.

    `reduction` says by how much an image of (height, width) may be shrunk, where its format gains from that.

    Raises:
        DataError: a file is broken, holds unknown ids, or the two differ in size.
    """
    if item.mask is None:
        image = read_image(item.image, reduction=reduction(image_size_hw(item.image)) if reduction else 1)
        return image, np.full(image.shape[:2], reader.classes.ignore_index, np.uint8)
    mask = reader(item.mask)
    factor = reduction(mask.shape) if reduction else 1
    image = read_image(item.image, reduction=factor)
    image_hw = image.shape[:2]
    if image_hw == mask.shape:
        return image, mask
    if factor > 1 and image_hw == reduced_hw(mask.shape, factor):
        return image, _middles(mask, factor)
    raise DataError(size_mismatch(item, image_size_hw(item.image), mask.shape))


def _middles(mask: np.ndarray, factor: int) -> np.ndarray:
    """Return of every block of factor x factor ids the one in the middle: aligned with a JPEG decoded at 1 / factor.

    Blocks at the far edges may reach beyond the mask, as a JPEG's do.
    """
    rows, columns = (
        np.minimum(np.arange(-(-length // factor)) * factor + factor // 2, length - 1) for length in mask.shape
    )
    middles: np.ndarray = mask.take(rows, axis=0).take(columns, axis=1)
    return middles


def size_mismatch(item: Item, image_hw: Sequence[int], mask_hw: Sequence[int]) -> str:
    """Word the message for an image and a mask of different (height, width)."""
    turned = tuple(image_hw) == tuple(mask_hw)[::-1]
    remedy = (
        "one of them is turned by 90 degrees (EXIF orientation is applied to images): export the label upright"
        if turned
        else "export the label at the image's size; resizing labels afterwards loses thin objects"
    )
    return (
        f"{item.mask}: the label is {mask_hw[1]}x{mask_hw[0]} pixels, its image {item.image.name} is "
        f"{image_hw[1]}x{image_hw[0]}; {remedy}"
    )
