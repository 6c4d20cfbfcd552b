"""Pixels to image files: the one place that encodes JPEG and PNG. Reading them: segkit/datasets/images.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION


def fits_jpeg(size_hw: tuple[int, int]) -> bool:
    """True if a JPEG can hold an image of that size, in pixels."""
    return max(size_hw) <= JPEG_MAX_SIDE


def encode_jpeg(image: np.ndarray, *, quality: int) -> bytes:
    """Return uint8 RGB [h, w, 3] as the bytes of a JPEG file; `quality` is 0 to 100.

    Raises:
        ValueError: a side is longer than JPEG_MAX_SIDE.
    """
    if not fits_jpeg((image.shape[0], image.shape[1])):
        raise ValueError(f"found {image.shape[1]}x{image.shape[0]} pixels, a JPEG holds at most {JPEG_MAX_SIDE} a side")
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise MemoryError("OpenCV couldn't encode the JPEG")  # of a sound array nothing else can be missing
    return encoded.tobytes()


def write_png(path: Path | BinaryIO, image: np.ndarray) -> None:
    """Write uint8 RGB [h, w, 3], RGBA [h, w, 4] or grey [h, w]."""
    Image.fromarray(image).save(path, format="PNG")


def write_palette_png(path: Path | BinaryIO, ids: np.ndarray, palette: Sequence[int]) -> None:
    """Write ids uint8 [h, w] as they are, with the colours R, G, B, R, G, B, ... to show them in."""
    image = Image.fromarray(ids)
    image.putpalette(palette)
    # level 1: four times faster than the default, a few percent larger
    image.save(path, format="PNG", compress_level=1)
