"""What computes logits: the one interface that validation, evaluation and prediction see, without torch.

Not here: PyTorch's own (torch_backend), several as one (ensemble); letterbox and argmax around it (segkit/imaging).
"""

from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from segkit.classes import Classes

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "torch.Tensor | np.ndarray"


class Backend(Protocol):
    """A trained model, ready to compute. The letterbox takes its logits further: `box.mask(logits[k])` to class ids at
    the image's own size, `box.invert(logits[k])` to scores.
    """

    @property
    def classes(self) -> Classes:
        """Class k is channel k of the logits."""

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """The size of letterboxed images that it was trained with."""

    @property
    def device(self) -> "torch.device | None":
        """Where PyTorch puts the logits; None for arrays of another runtime."""

    def __call__(self, images: Array) -> Array:
        """Return logits float32 [B, C, H, W] on the canvas, for letterboxed images, uint8 RGB [B, 3, H, W]."""
