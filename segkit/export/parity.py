"""What an exported model and PyTorch say of the same images: the largest difference, and how many class ids agree."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.imaging.argmax import argmax
from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import Array, Backend
from segkit.inference.exported import ExportedBackend


@dataclass(frozen=True)
class Parity:
    """How far two runtimes agree.

    `largest_difference` is that of logits (of probabilities, where the model gives these; 0 for masks), over the pixels
    of the images, not of their bars. `agreement` is the share of pixels at the images' own sizes, 0..1, that got the
    same class; of a model that gives masks, of pixels on the canvas.
    """

    num_images: int
    largest_difference: float
    agreement: float


def compare(
    exported: ExportedBackend,
    reference: Backend,
    images: Iterable[np.ndarray],
    *,
    canvas_hw: tuple[int, int] | None = None,
) -> Parity:
    """Compare an exported model with another backend on images, uint8 RGB [h, w, 3], at their own sizes.

    They are letterboxed to the model's canvas, or to another one that both can take.
    """
    num_images = num_same = num_pixels = 0
    largest = 0.0
    for image in images:
        box = LetterBox.fit((image.shape[0], image.shape[1]), canvas_hw or exported.canvas_hw)
        canvas = np.ascontiguousarray(box.apply(image)).transpose(2, 0, 1)[None]
        expected = _array(reference(canvas))[0]
        found = _array(exported.run(canvas))[0]
        if exported.about.output == "mask":
            same = found[box.inner] == argmax(expected)[box.inner]
        else:
            wanted = _softmax(expected) if exported.about.output == "probabilities" else expected
            difference = np.abs(found[:, *box.inner] - wanted[:, *box.inner]).max()
            largest = max(largest, float(difference)) if np.isfinite(difference) else float("inf")
            same = box.mask(_array(exported(canvas))[0]) == box.mask(expected)
        num_images += 1
        num_same += int(np.count_nonzero(same))
        num_pixels += same.size
    return Parity(num_images, largest, num_same / max(1, num_pixels))


def onnx_reference_difference(path: Path, exported: ExportedBackend, size_hw: tuple[int, int]) -> float:
    """Return the largest difference of onnxruntime's output and that of ONNX's own reference implementation.

    On one image of random pixels of a size that the model in `path` takes. For masks it is the share of pixels that
    differ.
    """
    import onnx.reference

    image = np.random.default_rng(0).integers(0, 256, (1, 3, *size_hw), dtype=np.uint8)
    judge = onnx.reference.ReferenceEvaluator(str(path))
    expected = judge.run(None, {judge.input_names[0]: image})[0]
    found = _array(exported.run(image))
    if exported.about.output == "mask":
        return float(np.mean(found != expected))
    return float(np.abs(found - expected).max())


def _array(values: Array) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.float().cpu().numpy()


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)
