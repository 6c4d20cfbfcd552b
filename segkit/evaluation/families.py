"""The table of figures that an evaluation can report beside those of the confusion matrix.

A family of figures says what one image adds to it, an array of fixed shape, and makes its figures of the sum over
images. So figures of any choice of images, such as a draw of the bootstrap, come from the same code as those of all,
ranks add up, and memory stays bounded.
To add a family, write a class in a file of its own, and give it a line in `FAMILIES`: intervals, metrics.json, the
report and the tests go over the table.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from segkit.evaluation.boundary import BoundaryIoU
from segkit.evaluation.calibration import Calibration
from segkit.evaluation.contours import Contours
from segkit.evaluation.detections import Detections
from segkit.evaluation.judged import Judged
from segkit.evaluation.objects import Objects
from segkit.evaluation.precision_recall import PrecisionRecall


class Family(Protocol):
    """Figures that derive from one sum over images."""

    needs_probabilities: bool  # False: class ids are enough
    per_image: bool  # whether what each image adds is small enough to be kept; only then there are intervals

    def count(self, image: Judged) -> np.ndarray:
        """Return what one image adds: numbers, in a shape that all images share."""

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        """Return figures by name, of sums [..., *shape]: float64, 0..1, NaN where undefined.

        Each is [..., C], by class, or [..., 1], of all classes together.
        """


FAMILIES: dict[str, Callable[[int], Family]] = {  # each is built with the number of classes
    "boundary": BoundaryIoU,
    "contours": Contours,
    "objects": Objects,
    "detections": Detections,
    "calibration": Calibration,
    "precision_recall": PrecisionRecall,
}


def build_families(num_classes: int, names: Sequence[str] | None = None, *, probabilities: bool) -> dict[str, Family]:
    """Return the families of these names, by default all; without probabilities those that do without."""
    built = {name: FAMILIES[name](num_classes) for name in (FAMILIES if names is None else names)}
    return {name: family for name, family in built.items() if probabilities or not family.needs_probabilities}
