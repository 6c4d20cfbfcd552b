"""Pixels to image files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB [h, w, 3]."""
    Image.fromarray(image).save(path)
