"""Which images a report shows, and how: image, truth, prediction and errors, each as a data URI."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.evaluation.evaluate import segmentations
from segkit.evaluation.measurement import ImageRow, Measured
from segkit.evaluation.validation import Validation
from segkit.imaging.overlay import colorize
from segkit.inference.backend import Backend
from segkit.loading.evaluation_set import stack_evaluation

LONGEST_SIDE = 560  # of an image in the page, in pixels
WRONG = np.array([213, 94, 0], np.uint8)  # vermilion, which readers of every kind of sight tell from grey
LEFT_OUT = np.array([90, 120, 190], np.uint8)


@dataclass(frozen=True)
class Choice:
    """A group of images: its title, and by name what is said of each."""

    title: str
    images: dict[str, str]


@dataclass(frozen=True)
class Shown:
    """One image in the page, and what can be laid over it by its name: data URIs of one size, (height, width)."""

    name: str
    id: str
    size_hw: tuple[int, int]
    image: str
    layers: dict[str, str]


def choose(measured: Measured, *, per_group: int = 6) -> list[Choice]:
    """Choose the images with the lowest, the middle and the highest mIoU, those with most sure errors, and the one
    that feeds each of the largest confusions most.
    """
    known = sorted((row for row in measured.rows if not np.isnan(row.miou)), key=lambda row: (row.miou, row.name))
    middle = max(0, (len(known) - per_group // 2) // 2)
    groups = [
        Choice("Worst images", _with_miou(known[:per_group])),
        Choice("Median images", _with_miou(known[middle : middle + per_group // 2])),
        Choice("Best images", _with_miou(known[::-1][: per_group // 2])),
        Choice("Most confident errors", _sure_errors(measured, per_group)),
        Choice("Largest confusions", _largest_confusions(measured, per_group)),
    ]
    return [group for group in groups if group.images]


def _with_miou(rows: Sequence[ImageRow]) -> dict[str, str]:
    return {row.name: f"mIoU {100 * row.miou:.2f} %" for row in rows}


def _sure_errors(measured: Measured, count: int) -> dict[str, str]:
    """Return images with most pixels that are wrong at a confidence in the highest bin of calibration."""
    if "calibration" not in measured.families:
        return {}
    wrong = {}
    for row in measured.rows:
        pixels, hits, _ = row.families["calibration"][:, -1]
        if pixels > hits:
            wrong[row.name] = (int(pixels - hits), int(row.marginals[1].sum()))
    most = sorted(wrong, key=lambda name: (-wrong[name][0], name))[:count]
    shares = {name: 100 * wrong[name][0] / wrong[name][1] for name in most}
    return {name: f"{share:.2f} % of pixels are wrong and over 93 % sure" for name, share in shares.items()}


def _largest_confusions(measured: Measured, count: int) -> dict[str, str]:
    names = measured.classes.names
    counts = measured.scores.counts * (1 - np.eye(len(names), dtype=np.int64))
    found: dict[str, str] = {}
    for flat in np.argsort(-counts, axis=None, kind="stable")[:count]:
        true, predicted = np.unravel_index(flat, counts.shape)
        fed = feeders(measured).get((int(true), int(predicted)))
        if fed:
            found.setdefault(fed[0][0], f"{names[true]} predicted as {names[predicted]}: {fed[0][1]:,} pixels")
    return found


def feeders(measured: Measured, *, count: int = 5) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return for each cell of the confusion matrix the images that feed it most: names and pixels, most first."""
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for row in measured.rows:
        for (true, predicted), pixels in zip(row.cells.tolist(), row.pixels.tolist(), strict=True):
            found.setdefault((true, predicted), []).append((row.name, pixels))
    return {cell: sorted(images, key=lambda image: (-image[1], image[0]))[:count] for cell, images in found.items()}


def show(names: Sequence[str], model: Backend, validation: Validation, classes: Classes) -> Iterator[Shown]:
    """Predict images again, by their names, and yield what the page shows of them."""
    index = {item.name: k for k, item in enumerate(validation.dataset.items)}
    for number, name in enumerate(names):
        sample = validation.dataset[index[name]]
        batch = stack_evaluation([sample])
        (labelled,) = segmentations(model, [batch], postprocess=validation.postprocess)
        image = sample.image.transpose(1, 2, 0)[sample.box.inner]
        yield shown(f"image-{number}", name, image, labelled.truth, labelled.segmentation.mask, classes)


def shown(key: str, name: str, image: np.ndarray, truth: np.ndarray, mask: np.ndarray, classes: Classes) -> Shown:
    """Return an image uint8 RGB [H, W, 3] with truth and prediction, uint8 [h, w], and where they differ."""
    compared = shown_masks(key, name, image, truth, {"prediction": mask}, classes)
    height, width = compared.size_hw
    image, truth, mask = (_resized(array, (height, width)) for array in (image, truth, mask))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) // 2 + 64
    ignored = truth == classes.ignore_index
    errors = np.where(((truth != mask) & ~ignored)[..., None], WRONG, grey)
    errors = np.where(ignored[..., None], grey // 2 + LEFT_OUT // 2, errors)
    return replace(compared, layers={**compared.layers, "errors": _jpeg(errors)})


def shown_masks(
    key: str, name: str, image: np.ndarray, truth: np.ndarray, masks: Mapping[str, np.ndarray], classes: Classes
) -> Shown:
    """Return an image uint8 RGB [H, W, 3] with truth and predictions, uint8 [h, w], as layers in colours."""
    scale = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    size_hw = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    truth = _resized(truth, size_hw)
    ignored = truth == classes.ignore_index
    layers = {"truth": _png(colorize(truth, classes))}
    for label, mask in masks.items():
        predicted = np.where(ignored, np.uint8(classes.ignore_index), _resized(mask, size_hw))
        layers[label] = _png(colorize(predicted, classes))
    return Shown(name, key, size_hw, _jpeg(_resized(image, size_hw)), layers)


def _resized(array: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return an image, by area, or ids, by nearest, at another size."""
    return cv2.resize(array, size_hw[::-1], interpolation=cv2.INTER_NEAREST if array.ndim == 2 else cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> str:
    return _uri(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])


def _png(image: np.ndarray) -> str:
    return _uri(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _uri(suffix: str, image: np.ndarray, options: list[int]) -> str:
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64," + base64.b64encode(encoded.tobytes()).decode()
