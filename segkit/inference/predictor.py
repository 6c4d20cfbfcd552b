"""A trained model that takes one image of any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segkit.config.schema import View
from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import Array, Backend
from segkit.inference.postprocess import Postprocess
from segkit.inference.segmentation import Segmentation
from segkit.inference.temperature import Calibrated, stored_temperature
from segkit.inference.trained import make_ready, open_models, stored_rules
from segkit.inference.tta import with_tta
from segkit.inference.windows import Windows, WindowSetting, choose_window


class Predictor:
    """A trained model, or several as an ensemble, that takes images of any size."""

    def __init__(
        self,
        backend: Backend,
        *,
        window: WindowSetting = "auto",
        zoom: float | None = None,
        smallest_zoom: float | None = None,
        postprocess: Postprocess | None = None,
        min_confidence: float = 0.0,
    ) -> None:
        """`zoom` and `smallest_zoom` are those of the checkpoint: how training scaled images, see `choose_window`."""
        self.backend, self.classes, self.canvas_hw = backend, backend.classes, backend.canvas_hw
        self.window, self.zoom, self.smallest_zoom = window, zoom, smallest_zoom
        self.postprocess, self.min_confidence = postprocess, min_confidence

    @classmethod
    def load(
        cls,
        path: Path | str | Sequence[Path | str],
        *,
        device: str = "auto",
        precision: str | None = None,
        tta: Sequence[View] | None = None,
        window: WindowSetting = "auto",
        postprocess: bool = True,
        calibrated: bool = False,
        min_confidence: float = 0.0,
        local_rank: int = 0,
    ) -> "Predictor":
        """Load a checkpoint, or several, whose class probabilities are then averaged; or an exported model.

        Classes, canvas and normalisation come from the file, and the precision unless it is given. Checkpoints
        that were trained in different precisions predict in fp32. `tta` is as the key eval.tta, which it is taken from
        unless it is given. With `postprocess`, masks follow the rules that the file holds; with `calibrated`, scores
        are divided by its temperature.

        With `window` auto, images that the letterbox would shrink more than training did are predicted by windows of
        the canvas's size; off: none; (height, width): all, by windows of that size. Pixels whose class is less probable
        than `min_confidence` become the ignore index. `local_rank` chooses the GPU of one process among several.

        Raises:
            CheckpointError: a file isn't a readable model, or checkpoints differ in their classes or in their canvas.
            ConfigError: an exported model can't do what is asked, or its runtime isn't installed; `calibrated` without
                a temperature that could be used.
            DeviceError: no such device or precision here.
            ValueError: no path.
        """
        paths = [path] if isinstance(path, (str, Path)) else path
        if not paths:
            raise ValueError("found no path, expected one of a model, or several")
        models = open_models(paths)
        backend = make_ready(models, device=device, precision=precision, local_rank=local_rank).backend
        first = models[0]
        rules = stored_rules(models) if postprocess else None
        backend = with_tta(backend, first.config.eval.tta if tta is None else tta)
        return cls(
            Calibrated(backend, stored_temperature(models, rules)) if calibrated else backend,
            window=window,
            zoom=first.zoom,
            smallest_zoom=first.smallest_zoom,
            postprocess=rules,
            min_confidence=min_confidence,
        )

    @property
    def is_on_gpu(self) -> bool:
        """True if the scores are made on a GPU, and stay there."""
        return self.backend.device is not None and self.backend.device.type != "cpu"

    @property
    def usual_batch_size(self) -> int:
        """How many images of one canvas are worth computing together: a CPU is as fast with one."""
        return 16 if self.is_on_gpu else 1

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return class ids uint8 [h, w] for an image, uint8 RGB [h, w, 3].

        Raises:
            ValueError: another shape or dtype.
        """
        return self.segment(image).mask

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return class probabilities float32 [C, h, w], which sum to 1, for an image, uint8 RGB [h, w, 3]."""
        return self.segment(image).probabilities

    def segment(self, image: np.ndarray) -> Segmentation:
        """Return what the model says of an image, uint8 RGB [h, w, 3]: mask, probabilities, confidence."""
        size_hw = _size_of(image)
        if windows := self.windows(size_hw):
            return self.segmentation(windows.logits(image), LetterBox.fit(size_hw, size_hw))
        box, canvas = self.letterbox(image)
        return self.segmentation(self.canvas_logits(canvas), box)

    def windows(self, source_hw: tuple[int, int]) -> Windows | None:
        """Return the windows that an image of this size is predicted by; None where its letterbox is."""
        chosen = choose_window(self.window, source_hw, self.canvas_hw, smallest_zoom=self.smallest_zoom)
        return Windows(self.backend, chosen, self.zoom or 1.0, batch_size=self.usual_batch_size) if chosen else None

    def segmentation(self, logits: Array, box: LetterBox) -> Segmentation:
        """Return what scores [C, H, W] on the canvas say, with this predictor's post-processing."""
        return Segmentation(logits, box, self.postprocess, self.min_confidence, self.classes.ignore_index)

    def logits(self, image: np.ndarray) -> Array:
        """Return scores float [C, h, w] for an image, uint8 RGB [h, w, 3]: a tensor of PyTorch, else an array."""
        segmentation = self.segment(image)
        return segmentation.box.invert(segmentation.logits)

    def letterbox(self, image: np.ndarray) -> tuple[LetterBox, np.ndarray]:
        """Return how an image, uint8 RGB [h, w, 3], lies on the canvas, and the canvas, uint8 RGB [H, W, 3]."""
        box = LetterBox.fit(_size_of(image), self.canvas_hw)
        return box, box.apply(image)

    def canvas_logits(self, canvas: np.ndarray) -> Array:
        """Return scores float [C, H, W] for a canvas, uint8 RGB [H, W, 3]: the network alone."""
        return self.canvases_logits(canvas[None])[0]

    def canvases_logits(self, canvases: np.ndarray) -> Array:
        """Return scores float [B, C, H, W] for canvases, uint8 RGB [B, H, W, 3]."""
        writable = np.require(canvases, requirements=["C", "W"])  # as PyTorch wants memory that it shares
        return self.backend(writable.transpose(0, 3, 1, 2))


def _size_of(image: np.ndarray) -> tuple[int, int]:
    """Return the (height, width) of an image. Raises ValueError for what isn't uint8 RGB [h, w, 3]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"found {image.dtype} {image.shape}, expected uint8 RGB [h, w, 3]")
    return image.shape[0], image.shape[1]
