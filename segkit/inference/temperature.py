"""Temperature scaling: a model whose probabilities say how often it is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML, section 4.2: logits are divided by one number, fitted
on validation. No class id changes. It wraps any backend. Not here: the fit (segkit/evaluation/temperature.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segkit.classes import Classes
from segkit.errors import ConfigError
from segkit.inference.backend import Array, Backend
from segkit.inference.postprocess import Postprocess
from segkit.inference.trained import TrainedModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Calibrated:
    """A backend whose scores are divided by a temperature: above 1 it is less sure than the model itself."""

    backend: Backend
    temperature: float

    @property
    def classes(self) -> Classes:
        """Those of the backend."""
        return self.backend.classes

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """That of the backend."""
        return self.backend.canvas_hw

    @property
    def device(self) -> "torch.device | None":
        """That of the backend."""
        return self.backend.device

    def __call__(self, images: Array) -> Array:
        """Return scores float32 [B, C, H, W] on the canvas, for letterboxed images, uint8 RGB [B, 3, H, W]."""
        return self.backend(images) / self.temperature


def stored_temperature(models: Sequence[TrainedModel], rules: Postprocess | None) -> float:
    """Return the temperature that a model holds, to be used with the rules of post-processing, where there are some.

    Raises:
        ConfigError: it holds none; there are several models, each with its own; or the rules look at confidences.
    """
    if len(models) > 1:
        raise ConfigError(
            f"--calibrated: found {len(models)} models, expected one: a temperature is fitted for one model; leave it "
            "out, or give one"
        )
    temperature = models[0].temperature
    if temperature is None:
        raise ConfigError(
            "--calibrated: the model holds no temperature; find it with segkit calibrate CHECKPOINT (and export again)"
        )
    if rules and rules.needs_confidence:
        raise ConfigError(
            "--calibrated: the model's rules of post-processing look at confidences as they were without it; add "
            "--no-postprocess, or leave --calibrated out"
        )
    return temperature
