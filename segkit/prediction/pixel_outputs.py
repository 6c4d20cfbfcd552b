"""Outputs that are images or arrays of the image's size."""

import json
import re
from pathlib import Path

import numpy as np

from segkit.datasets.masks import write_mask
from segkit.imaging.codec import encode_jpeg, fits_jpeg, write_png
from segkit.imaging.overlay import colorize, join_columns, on_white, render
from segkit.prediction.outputs import PerImage, Prediction
from segkit.runtime.files import appearing

JPEG_QUALITY = 90


class _Drawn(PerImage):
    """An output that shows the mask on its image."""

    def draw(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return a mask on its image, as the style says: uint8 [h, w, 3 or 4]."""
        return render(image, mask, self.classes, kind=self.style.render, opacity=self.style.opacity)


class Masks(PerImage):
    """`masks/NAME.png`: class ids as a palette PNG in the classes' colours."""

    def write(self, prediction: Prediction) -> None:
        with appearing(self.folder / "masks" / f"{prediction.name}.png") as part, part.open("wb") as file:
            write_mask(file, prediction.segmentation.mask, self.classes)


class Overlays(_Drawn):
    """`overlays/NAME.jpg`: the mask on its image; PNG where it is transparent, or a side is too long for a JPEG."""

    def write(self, prediction: Prediction) -> None:
        _write_image(
            self.folder / "overlays", prediction.name, self.draw(prediction.image, prediction.segmentation.mask)
        )


class Colors(PerImage):
    """`color/NAME.png`: the mask in the classes' colours, RGB; ignored pixels in VOC's cream."""

    def write(self, prediction: Prediction) -> None:
        with appearing(self.folder / "color" / f"{prediction.name}.png") as part, part.open("wb") as file:
            write_png(file, colorize(prediction.segmentation.mask, self.classes))


class SideBySide(_Drawn):
    """`side_by_side/NAME.jpg`: the image, and the mask on it."""

    def write(self, prediction: Prediction) -> None:
        shown = self.draw(prediction.image, prediction.segmentation.mask)
        _write_image(self.folder / "side_by_side", prediction.name, join_columns([prediction.image, on_white(shown)]))


class ProbabilityArrays(PerImage):
    """`probabilities/NAME.npz`: `probabilities`, float16 [C, h, w], and `classes`, the names as a JSON text."""

    def write(self, prediction: Prediction) -> None:
        probabilities = prediction.segmentation.probabilities.astype(np.float16)
        names = np.array(json.dumps(self.classes.names))
        with appearing(self.folder / "probabilities" / f"{prediction.name}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, probabilities=probabilities, classes=names)


class ProbabilityImages(PerImage):
    """`probabilities/NAME/CLASS.png`: a grey PNG per class, in which 255 is probability 1."""

    def write(self, prediction: Prediction) -> None:
        for k, plane in enumerate(prediction.segmentation.probabilities):
            name = f"{k:03d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', self.classes.names[k])}.png"
            with appearing(self.folder / "probabilities" / prediction.name / name) as part, part.open("wb") as file:
                write_png(file, _to_bytes(plane))


class Uncertainty(PerImage):
    """`uncertainty/NAME.png`: the entropy of the class probabilities, divided by that of a uniform guess.

    A grey PNG, in which 0 is certainty and 255 the same probability for every class: 255 * -sum(p log p) / log C
    (Shannon 1948).
    """

    def write(self, prediction: Prediction) -> None:
        with appearing(self.folder / "uncertainty" / f"{prediction.name}.png") as part, part.open("wb") as file:
            write_png(file, _to_bytes(normalized_entropy(prediction.segmentation.probabilities)))


def normalized_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of class probabilities, float32 [C, h, w], in units of log C: float32 [h, w] in 0..1."""
    total = np.zeros(probabilities.shape[1:], np.float32)
    for plane in probabilities:  # a plane at a time: C planes of logarithms would double the memory
        total -= plane * np.log(np.maximum(plane, np.finfo(np.float32).tiny))
    result: np.ndarray = (total / np.float32(np.log(max(2, len(probabilities))))).clip(0, 1)
    return result


def _to_bytes(fractions: np.ndarray) -> np.ndarray:
    return np.rint(fractions * 255).astype(np.uint8)


def _write_image(folder: Path, name: str, image: np.ndarray) -> None:
    """Write a JPEG where one can hold the image, else a PNG; the name says which."""
    if image.shape[2] == 3 and fits_jpeg((image.shape[0], image.shape[1])):
        with appearing(folder / f"{name}.jpg") as part:
            part.write_bytes(encode_jpeg(image, quality=JPEG_QUALITY))
        return
    with appearing(folder / f"{name}.png") as part, part.open("wb") as file:
        write_png(file, image)
