"""A trained model that takes one image of any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import Backend
from segkit.inference.ensemble import together
from segkit.inference.ready import load_together, ready
from segkit.loading.collate import to_tensor
from segkit.runtime.device import common_precision, select_device


class Predictor:
    """A trained model, or several as an ensemble, that takes images of any size."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.classes, self.canvas_hw = backend, backend.classes, backend.canvas_hw

    @classmethod
    def load(
        cls, path: Path | str | Sequence[Path | str], *, device: str = "auto", precision: str | None = None
    ) -> "Predictor":
        """Load a checkpoint, or several, whose class probabilities are then averaged.

        Classes, canvas and normalisation come from the checkpoint, and the precision unless it is given. Checkpoints
        that were trained in different precisions predict in fp32.

        Raises:
            CheckpointError: a file isn't a readable checkpoint, or they differ in their classes or in their canvas.
            DeviceError: no such device or precision here.
            ValueError: no path.
        """
        paths = [path] if isinstance(path, (str, Path)) else path
        if not paths:
            raise ValueError("found no path, expected one of a checkpoint, or several")
        checkpoints = load_together(paths)
        target = select_device(device)
        trained = [checkpoint.config.train.precision for checkpoint in checkpoints]
        if target.type == "cpu":  # trained in fp16 on a GPU, which a CPU can't compute in
            trained = ["auto" if name == "fp16" else name for name in trained]
        dtype = common_precision([precision] if precision else trained, target)
        return cls(together([ready(checkpoint, target, precision=dtype) for checkpoint in checkpoints]))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return class ids uint8 [h, w] for an image, uint8 RGB [h, w, 3].

        Raises:
            ValueError: another shape or dtype.
        """
        box, canvas = self.letterbox(image)
        return box.mask(self.canvas_logits(canvas))

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return class probabilities float32 [C, h, w], which sum to 1, for an image, uint8 RGB [h, w, 3]."""
        probabilities: np.ndarray = self.logits(image).softmax(dim=0).cpu().numpy()
        return probabilities

    def logits(self, image: np.ndarray) -> torch.Tensor:
        """Return scores float [C, h, w] for an image, uint8 RGB [h, w, 3]."""
        box, canvas = self.letterbox(image)
        return box.invert(self.canvas_logits(canvas))

    def letterbox(self, image: np.ndarray) -> tuple[LetterBox, np.ndarray]:
        """Return how an image, uint8 RGB [h, w, 3], lies on the canvas, and the canvas, uint8 RGB [H, W, 3]."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"found {image.dtype} {image.shape}, expected uint8 RGB [h, w, 3]")
        box = LetterBox.fit((image.shape[0], image.shape[1]), self.canvas_hw)
        return box, box.apply(image)

    def canvas_logits(self, canvas: np.ndarray) -> torch.Tensor:
        """Return scores float [C, H, W] for a canvas, uint8 RGB [H, W, 3]: the network alone."""
        return torch.as_tensor(self.backend(to_tensor(canvas)[None]))[0]
