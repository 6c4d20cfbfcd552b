"""What an output of a prediction is: its interface, what it gets, and how it looks. The table of them: table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from segkit.classes import Classes
from segkit.imaging.overlay import OPACITY
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

    def finish(self, done: Sequence[tuple[str, Path]]) -> None:
        """Write what is said of all images together: name and source of each, those of an earlier job included.

        Their masks are on the disk. So several processes, or a job that was continued, give the file of one job.
        """


@dataclass(frozen=True)
class Style:
    """How predictions look: the render of overlays and of side-by-side images, and how opaque its colours are."""

    render: str = "blend"
    opacity: float = OPACITY


@dataclass(frozen=True)
class PerImage:
    """What outputs of a file per image, and of none about all of them, have in common."""

    folder: Path
    classes: Classes
    style: Style

    def finish(self, done: Sequence[tuple[str, Path]]) -> None:
        """Do nothing: each file is whole already."""
