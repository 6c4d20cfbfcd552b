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
    shown = ~_left_out(mask, classes)
    if kind == "contours":
        return _outline(image, mask, colorize(mask, classes), shown)
    assert kind == "cutout", kind
    cut = np.dstack([image, np.where(shown, np.uint8(255), np.uint8(0))])
    cut[~shown] = 0  # nothing of what is hidden is left in the file
    return cut


def _outline(image: np.ndarray, mask: np.ndarray, colors: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Draw a line of a class's colour along its inner border, and a white one at the border itself.

    The coloured line is 1 pixel wide per 240 pixels of the shorter side. The white one, of 1 pixel, shows dark colours
    on dark images; what is too thin for both is all colour. The border of the image is no outline.
    """
    outlined = image.copy()
    width = max(1, round(min(mask.shape) / 240))
    colored = _borders(mask, reach=1 + width) & shown
    outlined[colored] = colors[colored]
    outer = _borders(mask, reach=1)
    is_thick = cv2.dilate((~outer).view(np.uint8), np.ones((3, 3), np.uint8)).reshape(mask.shape) > 0
    outlined[outer & is_thick & shown] = 255
    return outlined


def _borders(mask: np.ndarray, *, reach: int) -> np.ndarray:
    """Return which pixels have another id within `reach` pixels, diagonals included: bool [h, w]."""
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    least, largest = (change(mask, around).reshape(mask.shape) for change in (cv2.erode, cv2.dilate))
    different: np.ndarray = (least != mask) | (largest != mask)
    return different


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
