"""Regions of a label that are probably wrong: a model that is sure says otherwise.

After confident learning (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
70): a label is doubted where the probability of another class reaches that class's own level, which is its mean
probability over the pixels that are labelled as it. Here of whole regions, since a wrong label in a mask is a thing,
not a pixel: 8-connected pixels of one label and one prediction, without the seam along edges where both are unsure.
Regions come in the order of their evidence, the sum over pixels of how much likelier the prediction is than the label.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SEAM = np.ones((3, 3), np.uint8)  # a region must hold pixels whose neighbours belong to it as well
MOST_REGIONS = 50  # kept of an image


@dataclass(frozen=True)
class Region:
    """A part of a label that is doubted. box: top, left, height, width in pixels of the image."""

    image: str
    label: int
    predicted: int
    box: tuple[int, int, int, int]
    pixels: int
    confidence: float  # mean probability of the predicted class, 0..1
    label_probability: float  # mean probability of the label's class

    @property
    def evidence(self) -> float:
        """What regions are ordered by: pixels times the difference of the two probabilities."""
        return self.pixels * (self.confidence - self.label_probability)


class ClassLevels:
    """The mean probability of each class over the pixels that are labelled as it."""

    def __init__(self, num_classes: int) -> None:
        self.sums, self.pixels = np.zeros(num_classes), np.zeros(num_classes, np.int64)

    def add(self, truth: np.ndarray, probabilities: np.ndarray) -> None:
        """Add an image: ids uint8 [h, w], probabilities float32 [C, h, w]."""
        for k in np.unique(truth[truth < len(self.sums)]):
            mine = truth == k
            self.sums[k] += float(probabilities[k][mine].sum(dtype=np.float64))
            self.pixels[k] += int(mine.sum())

    def reached_by(self, region: Region) -> bool:
        """True if the region's prediction is as sure as that class's labels are on average; of a class that no label
        shows, if it is likelier than not.
        """
        pixels = self.pixels[region.predicted]
        return region.confidence >= (self.sums[region.predicted] / pixels if pixels else 0.5)


def doubted_regions(name: str, truth: np.ndarray, probabilities: np.ndarray, *, ignore_index: int) -> list[Region]:
    """Return the regions of one image where label and prediction differ, at most MOST_REGIONS, most evidence first.

    `truth` is ids uint8 [h, w], `probabilities` float32 [C, h, w].
    """
    prediction = probabilities.argmax(axis=0).astype(np.uint8)
    differs = (prediction != truth) & (truth != ignore_index)
    code = truth.astype(np.uint16) << 8 | prediction
    found = []
    for pair in np.unique(code[differs]):
        label, predicted = int(pair >> 8), int(pair & 255)
        mine = ((code == pair) & differs).astype(np.uint8)
        core = cv2.erode(mine, SEAM, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        count, regions, statistics, _ = cv2.connectedComponentsWithStats(mine, connectivity=8)
        held = np.bincount(regions[core > 0], minlength=count) > 0
        for k in range(1, count):
            if held[k]:
                left, top, width, height, pixels = (int(value) for value in statistics[k])
                inside = slice(top, top + height), slice(left, left + width)
                here = regions[inside] == k
                sure, given = (float(probabilities[c][inside][here].mean()) for c in (predicted, label))
                found.append(Region(name, label, predicted, (top, left, height, width), pixels, sure, given))
    return sorted(found, key=lambda region: (-region.evidence, region.box))[:MOST_REGIONS]
