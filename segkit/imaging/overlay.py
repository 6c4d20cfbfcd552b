"""Masks made visible: overlays, and panels of image, truth and prediction. All arrays are uint8 RGB [h, w, 3]."""

from collections.abc import Sequence

import cv2
import numpy as np

from segkit.classes import Classes

OPACITY = 0.6
RENDERS = ("blend", "mask", "cutout", "contours")


def render(image: np.ndarray, mask: np.ndarray, classes: Classes, *, kind: str, opacity: float = OPACITY) -> np.ndarray:
    """Show a mask, ids uint8 [h, w], on its image, uint8 RGB [h, w, 3], in one of the ways of `RENDERS`.

    - blend: the classes' colours over the image, see `overlay`;
    - mask: the colours alone;
    - contours: the image, with the outlines of regions in their classes' colours;
    - cutout: uint8 RGBA [h, w, 4], in which the background (class 0, where its colour is black) and ignored pixels are
      transparent.
    """
    if kind == "blend":
        return overlay(image, mask, classes, opacity=opacity)
    if kind == "mask":
        return colorize(mask, classes)
    if kind == "contours":
        side = 3 + 2 * round(max(mask.shape) / 400)  # as visible in a large image that is shown small
        around = np.ones((side, side), np.uint8)
        outline = cv2.compare(cv2.dilate(mask, around), cv2.erode(mask, around), cv2.CMP_NE)
        outline[_left_out(mask, classes)] = 0
        return cv2.copyTo(colorize(mask, classes), outline, image.copy())
    assert kind == "cutout", kind
    alpha = np.where(_left_out(mask, classes), np.uint8(0), np.uint8(255))
    return np.dstack([image, alpha])


def on_white(shown: np.ndarray) -> np.ndarray:
    """Return uint8 RGB [h, w, 3]: white where RGBA is transparent; RGB as it is."""
    return np.where(shown[:, :, 3:] > 0, shown[:, :, :3], np.uint8(255)) if shown.shape[2] == 4 else shown


def colorize(mask: np.ndarray, classes: Classes) -> np.ndarray:
    """Paint class ids [h, w] in the classes' colours; ignored pixels in VOC's cream."""
    table = np.array(classes.palette(), np.uint8).reshape(1, 256, 3)
    return cv2.LUT(cv2.merge((mask, mask, mask)), table)


def overlay(image: np.ndarray, mask: np.ndarray, classes: Classes, *, opacity: float = OPACITY) -> np.ndarray:
    """Blend the colours of a mask over its image, with a thin white line where classes meet.

    Pixels of class 0 keep the image as it is when the class's colour is black (the usual background).
    """
    blended = cv2.addWeighted(image, 1 - opacity, colorize(mask, classes), opacity, 0)
    if _has_black_background(classes):
        blended = cv2.copyTo(image, cv2.inRange(mask, 0, 0), blended)
    edges = np.zeros(mask.shape, np.uint8)  # 255 at the lower or right one of two pixels that differ
    if mask.shape[1] > 1:
        edges[:, 1:] = cv2.compare(mask[:, 1:], mask[:, :-1], cv2.CMP_NE)
    if mask.shape[0] > 1:
        cv2.max(edges[1:], cv2.compare(mask[1:], mask[:-1], cv2.CMP_NE), dst=edges[1:])
    return cv2.max(blended, cv2.merge((edges, edges, edges)))


def _has_black_background(classes: Classes) -> bool:
    return classes.colors[0] == (0, 0, 0)


def _left_out(mask: np.ndarray, classes: Classes) -> np.ndarray:
    """Return where a mask shows nothing: bool [h, w]."""
    ignored = mask == classes.ignore_index
    return ignored | (mask == 0) if _has_black_background(classes) else ignored


def panel(image: np.ndarray, masks: Sequence[np.ndarray], classes: Classes) -> np.ndarray:
    """Put an image and overlays of some masks (truth, prediction) side by side, with a white gap between."""
    return join_columns([image, *(overlay(image, mask, classes) for mask in masks)])


def join_columns(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images of one height side by side, with a white gap between."""
    gap = np.full((len(images[0]), 4, 3), 255, np.uint8)
    return np.concatenate([part for image in images for part in (gap, image)][1:], axis=1)


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
