"""Several models as one: what they give is the mean of their class probabilities."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import nn

from segkit.models.segmenter import Segmenter


class Ensemble(nn.Module):
    """Models of the same classes that vote by their class probabilities, each with the same weight.

    Its scores are the logarithm of the mean probability. So they are logits as those of a single model are: their
    softmax is the mean of the models' probabilities, and what goes on with them is the same path. (If probabilities
    were enlarged instead, an ensemble of one model with itself would differ from that model between two pixels.)
    """

    def __init__(self, models: Sequence[Segmenter]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    @property
    def mean(self) -> torch.Tensor:
        """What the first model subtracts from pixels; it says which device they all are on."""
        first = self.models[0]
        assert isinstance(first, Segmenter)
        return first.mean

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores float32 [B, C, H, W] for RGB images [B, 3, H, W], uint8 or float, in 0..255.

        Probabilities are added as logarithms, so that none of them becomes 0, whose logarithm is no number.
        """
        votes = (model(images).float().log_softmax(dim=1) for model in self.models)
        return functools.reduce(torch.logaddexp, votes) - math.log(len(self.models))


def together(models: Sequence[Segmenter]) -> Segmenter | Ensemble:
    """Return a single model as it is, several as an ensemble."""
    return models[0] if len(models) == 1 else Ensemble(models)
