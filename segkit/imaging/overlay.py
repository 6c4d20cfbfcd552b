"""Masks made visible: overlays, and panels of image, truth and prediction. All arrays are uint8 RGB [h, w, 3]."""

from collections.abc import Sequence

import cv2
import numpy as np

from segkit.classes import Classes

OPACITY = 0.6


def colorize(mask: np.ndarray, classes: Classes) -> np.ndarray:
    """Paint class ids [h, w] in the classes' colours; ignored pixels in VOC's cream."""
    return np.array(classes.palette(), np.uint8).reshape(256, 3)[mask]


def overlay(image: np.ndarray, mask: np.ndarray, classes: Classes) -> np.ndarray:
    """Blend the colours of a mask over its image, with a thin white line where classes meet.

    Pixels of class 0 keep the image as it is when the class's colour is black (the usual background).
    """
    blended = cv2.addWeighted(image, 1 - OPACITY, colorize(mask, classes), OPACITY, 0)
    if classes.colors[0] == (0, 0, 0):
        blended[mask == 0] = image[mask == 0]
    edges = np.zeros(mask.shape, bool)
    edges[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edges[1:] |= mask[1:] != mask[:-1]
    blended[edges] = 255
    return blended


def panel(image: np.ndarray, masks: Sequence[np.ndarray], classes: Classes) -> np.ndarray:
    """Put an image and overlays of some masks (truth, prediction) side by side, with a white gap between."""
    gap = np.full((len(image), 4, 3), 255, np.uint8)
    parts = [image]
    for mask in masks:
        parts += [gap, overlay(image, mask, classes)]
    return np.concatenate(parts, axis=1)


def sheet(panels: Sequence[np.ndarray], *, columns: int = 2, titles: Sequence[str] = ()) -> np.ndarray:
    """Lay panels out in a grid on white, each in a cell of the largest one's size, `titles` above the first row.

    Titles are spread evenly over the width of a panel, as the parts of `panel` are.
    """
    height, width = (max(image.shape[axis] for image in panels) for axis in (0, 1))
    margin, head = 8, 24 if titles else 0
    rows = -(-len(panels) // columns)
    canvas = np.full((head + rows * (height + margin) + margin, columns * (width + margin) + margin, 3), 255, np.uint8)
    for k, image in enumerate(panels):
        top = head + margin + (k // columns) * (height + margin)
        left = margin + (k % columns) * (width + margin)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    for k, title in enumerate([*titles] * min(columns, len(panels))):
        left = margin + (k // len(titles)) * (width + margin) + (k % len(titles)) * width // len(titles)
        cv2.putText(canvas, title, (left, head - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
    return canvas
