"""What a network with a second head is trained by: the configured losses of both, the second at 0.4.

The weight is that of PSPNet (Zhao et al. 2017, section 4) and of those who followed.
"""

from dataclasses import dataclass, replace

import torch

from segkit.losses.table import LossValue, WeightedLoss
from segkit.models.resize import resize
from segkit.models.two_resolutions import AuxiliaryOutputs

WEIGHT = 0.4
STRIDE = 64  # of the networks that use it: what their images were padded to


@dataclass(frozen=True)
class AuxiliaryLoss:
    """The criterion of a network with two heads."""

    loss: WeightedLoss

    @property
    def names(self) -> tuple[str, ...]:
        """The configured losses of the logits, and those of the second head."""
        return (*self.loss.names, *(f"auxiliary_{name}" for name in self.loss.names))

    def at(self, progress: float) -> "AuxiliaryLoss":
        """Return it as it is after a part of the run, 0..1."""
        return replace(self, loss=self.loss.at(progress))

    def normalizers(self, target: torch.Tensor) -> torch.Tensor:
        """Return each term's divisor for ids [B, H, W]: float [T]."""
        own = self.loss.normalizers(target)
        return torch.cat([own, own])

    def __call__(
        self, outputs: AuxiliaryOutputs, target: torch.Tensor, normalizers: torch.Tensor | None = None
    ) -> LossValue:
        """Return the loss of what the network gave, for ids [B, H, W]."""
        if normalizers is None:
            normalizers = self.normalizers(target)
        logits, second = (aligned(each, target) for each in outputs)
        own = normalizers[: len(self.loss.names)]
        main, auxiliary = self.loss(logits, target, own), self.loss(second, target, own)
        return LossValue(main.total + WEIGHT * auxiliary.total, torch.cat([main.terms, auxiliary.terms]))


def aligned(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return scores [B, K, h, w] of images that were padded to STRIDE at the size of their ids [B, H, W]."""
    height, width = target.shape[-2:]
    return resize(scores, (height + -height % STRIDE, width + -width % STRIDE))[..., :height, :width]
