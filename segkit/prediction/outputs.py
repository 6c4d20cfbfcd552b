"""What can be written of a prediction: the interface of an output, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from segkit.inference.segmentation import Segmentation


@dataclass(frozen=True)
class Prediction:
    """An image and what the model says of it, under the name that its outputs get."""

    name: str  # unique in the job, "/"-separated, without a suffix: "deep/er/c.d"
    source: Path
    image: np.ndarray  # uint8 RGB [h, w, 3]
    segmentation: Segmentation


class Output(Protocol):
    """One kind of file that predictions become."""

    def write(self, prediction: Prediction) -> None:
        """Write what one image gives. Several threads call this at a time; each file appears whole."""

    def finish(self, names: Sequence[str]) -> None:
        """Write what is said of all images of the job together, those done by an earlier job included."""
