"""Several models as one: what they give is the mean of their class probabilities."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from segkit.classes import Classes
from segkit.inference.backend import Array
from segkit.inference.torch_backend import TorchBackend


@dataclass(frozen=True)
class Ensemble:
    """Models of the same classes and canvas that vote by their class probabilities, each with the same weight.

    Its scores are the logarithm of the mean probability. So they are logits like those of a single model: their softmax
    is the mean of the models' probabilities, and the same path takes them further. (If probabilities were enlarged
    instead, an ensemble of one model with itself would differ from that model between two pixels.)
    """

    members: tuple[TorchBackend, ...]

    @property
    def classes(self) -> Classes:
        """Those of every member."""
        return self.members[0].classes

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """That of every member."""
        return self.members[0].canvas_hw

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.members[0].device

    @property
    def precision(self) -> torch.dtype:
        """What the members compute in."""
        return self.members[0].precision

    @torch.inference_mode()
    def __call__(self, images: Array) -> torch.Tensor:
        """Return scores float32 [B, C, H, W] on the canvas, for letterboxed images, uint8 RGB [B, 3, H, W].

        Probabilities are added as logarithms, so that none of them becomes 0, whose logarithm is infinite.
        """
        inputs = torch.as_tensor(images).to(self.device, non_blocking=True)
        votes = (member(inputs).log_softmax(dim=1) for member in self.members)
        return functools.reduce(torch.logaddexp, votes) - math.log(len(self.members))


def together(members: Sequence[TorchBackend]) -> TorchBackend | Ensemble:
    """Return a single model as it is, several as an ensemble."""
    return members[0] if len(members) == 1 else Ensemble(tuple(members))
