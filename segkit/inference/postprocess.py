"""Rules per class that repair predicted masks: small components, holes, pixels the model is unsure of.

The idea is nnU-Net's (Isensee et al. 2021, Nature Methods 18, "configuration of post-processing"): try simple rules on
validation, keep those that help. Which do is found by segkit/postprocess.py. numpy and OpenCV alone. A rule looks at a
whole mask at once: beside the ids it takes up to 16 bytes per pixel while it works.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import cv2
import numpy as np

AROUND = np.ones((3, 3), np.uint8)  # a pixel and its eight neighbours


@dataclass(frozen=True)
class ClassRule:
    """What is done to the pixels of one class, in this order; a default does nothing.

    min_confidence: a region of pixels whose confidence is below this, and which touches another class, is given up:
        each of its pixels becomes the class of the nearest pixel of another class. A region that is surrounded by its
        own class stays: nothing tells what else it could be.
    min_component: components (8-connected) of fewer pixels are dropped. keep_largest: all but the largest one are. A
        dropped component becomes the class that occurs most often among the neighbours of its pixels, the first of
        equals; one without such neighbours stays.
    max_hole: holes of at most so many pixels, 4-connected regions of other classes that this class surrounds without
        the image's edge, become this class.
    """

    min_confidence: float = 0.0
    min_component: int = 0
    keep_largest: bool = False
    max_hole: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a number outside its range."""
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence: found {self.min_confidence}, expected 0..1")
        for name in ("min_component", "max_hole"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number of pixels, 0 or more")

    def describe(self) -> str:
        """Return the rule in words: 'drop components < 64 px, fill holes <= 16 px'; 'none' where it does nothing."""
        words = {
            f"give up pixels of confidence < {self.min_confidence:g}": self.min_confidence > 0,
            "keep the largest component": self.keep_largest,
            f"drop components < {self.min_component} px": self.min_component > 0,
            f"fill holes <= {self.max_hole} px": self.max_hole > 0,
        }
        return ", ".join(text for text, used in words.items() if used) or "none"


@dataclass(frozen=True)
class Postprocess:
    """Rules by class id, applied one class after the other in the order of `rules`, each to what the last one left.

    Ignored pixels stay, and are no neighbours. `tuned_on` is the split on which the rules were found.
    """

    rules: Mapping[int, ClassRule] = field(default_factory=dict)
    ignore_index: int = 255
    tuned_on: str = ""

    @property
    def needs_confidence(self) -> bool:
        """True if some rule looks at the confidence."""
        return any(rule.min_confidence > 0 for rule in self.rules.values())

    def __call__(self, ids: np.ndarray, confidence: np.ndarray | None = None) -> np.ndarray:
        """Return class ids uint8 [h, w] with the rules applied; what is given stays as it is.

        `confidence` is the largest class probability, float [h, w].

        Raises:
            ValueError: a rule needs a confidence, and none is given.
        """
        if confidence is None and self.needs_confidence:
            raise ValueError("confidence: found None, expected float [h, w]: a rule has a min_confidence")
        for class_id, rule in self.rules.items():
            if rule.min_confidence > 0:
                assert confidence is not None
                ids = give_up(ids, class_id, confidence < rule.min_confidence, ignore_index=self.ignore_index)
            if rule.min_component > 0 or rule.keep_largest:
                ids = _drop_components(ids, class_id, rule, ignore_index=self.ignore_index)
            if rule.max_hole > 0:
                ids = _fill_holes(ids, class_id, rule.max_hole, ignore_index=self.ignore_index)
        return ids

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as checkpoints hold them: the rules in their order, without defaults."""
        default = asdict(ClassRule())
        rules = [
            {"class": class_id, **{name: value for name, value in asdict(rule).items() if value != default[name]}}
            for class_id, rule in self.rules.items()
        ]
        return {"rules": rules, "ignore_index": self.ignore_index, "tuned_on": self.tuned_on}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Postprocess":
        """Return the rules of which `to_dict` made `plain`.

        Raises:
            ValueError: a rule that this segkit doesn't know, or a value that is none.
        """
        known = {spec.name for spec in fields(ClassRule)}
        rules: dict[int, ClassRule] = {}
        for entry in plain["rules"]:
            settings = {name: value for name, value in entry.items() if name != "class"}
            if unknown := sorted(settings.keys() - known):
                raise ValueError(f"found a rule {unknown[0]}, expected {', '.join(sorted(known))}")
            rules[int(entry["class"])] = ClassRule(**settings)
        return cls(rules, plain["ignore_index"], plain["tuned_on"])


def give_up(ids: np.ndarray, class_id: int, unsure: np.ndarray, *, ignore_index: int) -> np.ndarray:
    """Return ids in which `unsure` pixels of a class became what is nearest; see `ClassRule.min_confidence`."""
    unsure = unsure & (ids == class_id)
    others = (ids != class_id) & (ids != ignore_index)
    if not unsure.any() or not others.any():
        return ids
    num_regions, regions = cv2.connectedComponents(unsure.astype(np.uint8), connectivity=8)
    touches = np.zeros(num_regions, bool)
    touches[regions[unsure & (cv2.dilate(others.astype(np.uint8), AROUND) > 0)]] = True
    given_up = unsure & touches[regions]
    if not given_up.any():
        return ids
    _, nearest = cv2.distanceTransformWithLabels(
        (~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    class_of = np.zeros(int(nearest.max()) + 1, np.uint8)
    class_of[nearest[others]] = ids[others]
    result = ids.copy()
    result[given_up] = class_of[nearest[given_up]]
    return result


def _drop_components(ids: np.ndarray, class_id: int, rule: ClassRule, *, ignore_index: int) -> np.ndarray:
    inside = _around(ids == class_id)
    if inside is None:
        return ids
    part = ids[inside]
    mine = (part == class_id).astype(np.uint8)
    num, labels, statistics, _ = cv2.connectedComponentsWithStats(mine, connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA]
    dropped = areas < rule.min_component
    if rule.keep_largest:
        top, left = statistics[1:, cv2.CC_STAT_TOP], statistics[1:, cv2.CC_STAT_LEFT]
        dropped[:] = True
        dropped[1 + np.lexsort((left, top, -areas[1:]))[0]] = False  # of equals the topmost, then the leftmost
    dropped[0] = False  # what isn't of this class
    if not dropped.any():
        return ids
    becomes = np.full(num, class_id, np.uint8)
    components, classes = _most_frequent_around(part, labels, dropped, ignore_index=ignore_index)
    becomes[components] = classes
    result = ids.copy()
    np.copyto(result[inside], becomes[labels], where=mine.astype(bool))
    return result


def _most_frequent_around(
    ids: np.ndarray, labels: np.ndarray, dropped: np.ndarray, *, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the dropped components that have neighbours, and the class that occurs most often among those of each.

    Each of the eight neighbours of each pixel of a component counts, if it is of another class.
    """
    mine = (labels > 0).astype(np.uint8)
    y, x = np.nonzero((mine > 0) & (cv2.erode(mine, AROUND) == 0) & dropped[labels])
    pairs = []
    for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        there = (y + down >= 0) & (y + down < ids.shape[0]) & (x + right >= 0) & (x + right < ids.shape[1])
        neighbour = y[there] + down, x[there] + right
        counts = (mine[neighbour] == 0) & (ids[neighbour] != ignore_index)
        pairs.append(labels[y[there], x[there]][counts].astype(np.int64) * 256 + ids[neighbour][counts])
    pair, times = np.unique(np.concatenate(pairs), return_counts=True)
    component, class_id = np.divmod(pair, 256)
    order = np.lexsort((class_id, -times, component))
    first = np.unique(component[order], return_index=True)[1]
    return component[order][first], class_id[order][first]


def _fill_holes(ids: np.ndarray, class_id: int, max_hole: int, *, ignore_index: int) -> np.ndarray:
    inside = _around(ids == class_id)
    if inside is None:
        return ids
    part = ids[inside]
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((part != class_id).astype(np.uint8), connectivity=4)
    filled = statistics[:, cv2.CC_STAT_AREA] <= max_hole
    filled[0] = False  # the class itself
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):  # open there, of the class's surroundings too
        filled[edge] = False
    if not filled.any():
        return ids
    result = ids.copy()
    np.copyto(result[inside], np.uint8(class_id), where=filled[labels] & (part != ignore_index))
    return result


def _around(where: np.ndarray) -> tuple[slice, slice] | None:
    """Return the rows and columns that hold what is true and a pixel around it; None where nothing is."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    if not rows.size:
        return None
    bounds = ((span[0], span[-1], length) for span, length in zip((rows, columns), where.shape, strict=True))
    top, left = (slice(max(0, int(first) - 1), min(length, int(last) + 2)) for first, last, length in bounds)
    return top, left
