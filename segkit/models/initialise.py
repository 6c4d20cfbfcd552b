"""How weights begin that no pretrained ones replace.

To add a way: a line in INITIALISERS and its name in the schema. Normalisation layers keep weight 1 and bias 0.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

Initialise = Callable[[torch.Tensor], object]

INITIALISERS: dict[str, Initialise] = {
    # He et al. 2015, Delving deep into rectifiers, equation 14
    "kaiming": partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
    # Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward networks, equation 16
    "xavier": nn.init.xavier_uniform_,
    # Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning in deep linear networks, section 3
    "orthogonal": nn.init.orthogonal_,
    # Dosovitskiy et al. 2021, as transformers begin: a normal distribution cut off at two deviations
    "trunc_normal": partial(nn.init.trunc_normal_, std=0.02, a=-0.04, b=0.04),
}


def initialise(network: nn.Module, name: str, *, keep: nn.Module | None) -> None:
    """Draw the weights of all convolutions and linear layers anew, by torch's generator, and set their biases to 0.

    Layers inside `keep`, a pretrained encoder, stay as they are.
    """
    kept = set(keep.modules()) if keep is not None else set()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and module not in kept:
            INITIALISERS[name](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
