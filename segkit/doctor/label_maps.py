"""How what labels store becomes class ids, where that is certain: for the repaired copy of a data set."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segkit.datasets.label_faults import Values, snap
from segkit.datasets.masks import ValueTable, color_codes
from segkit.doctor.examination import Examined, Kind
from segkit.doctor.findings.labels import (
    INTEGERS,
    color_table,
    looks_like_instances,
    off_by_one,
    spread_values,
    two_levels,
)

GREY_LEVELS = 12  # by which the channels of a grey JPEG may differ
FAR_SHARE = 0.05  # of a label's pixels that may be far from every class's value

Remap = Callable[[np.ndarray], np.ndarray]  # what a label stores -> class ids uint8 [h, w]
Remaps = dict[str, tuple[str, Remap]]  # by kind of label: what to log ('': nothing), and what to do


def build_remaps(examined: Examined) -> Remaps:
    """Return how each kind of label becomes class ids; uncertain kinds are missing.

    Values of no class become ignored, but for instances. Colours become ids where they are those of the classes.
    """
    classes, reader = examined.classes, examined.reader
    ignored = classes.ignore_index
    known = reader.table.ignoring_unknown(ignored)
    remaps: Remaps = {"right": ("", known)}
    if not looks_like_instances(examined) and not spread_values(examined):
        remaps["unknown"] = ("values that are no class became ignored", known)
    levels = two_levels(examined)
    if levels is not None:
        shades = ValueTable.build({value: k for k, value in enumerate(levels)}, rest=ignored)
        remaps |= dict.fromkeys(INTEGERS, ("{} and {} became 0 and 1".format(*levels), shades))
    elif off_by_one(examined):
        shifted = ValueTable.build({k + 1: k for k in range(len(classes))}, rest=ignored)
        said = f"1 to {len(classes)} became 0 to {len(classes) - 1}"
        remaps["right"] = remaps["unknown"] = (said, shifted)
    for kind in ("soft", "jpeg"):
        if examined.of_kind(kind):
            remaps[kind] = ("each pixel got the nearest value of a class", Nearest.build(examined, kind))
    if examined.of_kind("colors"):
        colors, certain = color_table(examined)
        if certain:
            by_color = ValueTable.build({color: k for k, color in enumerate(colors)}, by_color=True, rest=ignored)
            remaps["colors"] = ("colours became ids", by_color)
    return remaps


@dataclass(frozen=True)
class Nearest:
    """Gives each pixel the class whose value is nearest, for labels that were smoothed or compressed.

    `values` are those of classes and of ignored pixels, sorted; `ids` what each becomes. Pixels that are far from all
    of them become ignored: between a class and the ignored value lies nothing.
    """

    values: np.ndarray
    ids: np.ndarray
    by_color: bool
    ignored: int

    @classmethod
    def build(cls, examined: Examined, kind: Kind) -> "Nearest":
        """Take the values that labels should hold; of two classes, dark and bright, those that they do hold."""
        reader, ignored = examined.reader, examined.classes.ignore_index
        table = reader.table.ids
        listed = np.flatnonzero((table != reader.table.unknown) & (table != ignored))
        ids = {int(value): int(table[value]) for value in listed}
        if not reader.by_color and table[ignored] == ignored:
            ids[ignored] = ignored
        bright = max((value & 255 for value in examined.held(kind)), default=0)  # of grey pixels, any channel
        if len(examined.classes) == 2 and not reader.mapped and bright > 16:
            ids = {0: 0, bright: 1}
        values = sorted(ids)
        return cls(np.array(values, np.int64), np.array([ids[v] for v in values], np.uint8), reader.by_color, ignored)

    def fits(self, found: Values, *, in_color: bool) -> bool:
        """True if nearly every pixel is near a value: else the label says nothing."""
        values = found.values
        if in_color and not self.by_color:
            channels = np.stack([values >> 16, values >> 8 & 255, values & 255])
            if found.pixels[np.ptp(channels, axis=0) > GREY_LEVELS].sum() > FAR_SHARE * found.pixels.sum():
                return False  # colours, where ids are expected
            values = channels.max(axis=0)
        far = self._far(values, snap(values, self.values))
        return bool(found.pixels[far].sum() <= FAR_SHARE * found.pixels.sum())

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        codes = (
            stored.max(axis=2)
            if stored.ndim == 3 and not self.by_color
            else (color_codes(stored) if stored.ndim == 3 else stored)
        )
        values = np.unique(codes)
        near = snap(values.astype(np.int64), self.values)
        ids = self.ids[np.searchsorted(self.values, near)]
        ids[self._far(values.astype(np.int64), near)] = self.ignored
        return ids[np.searchsorted(values, codes)]

    def _far(self, values: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return which values, int64 [n], are far from the nearest one, measured by the gaps between classes."""
        if self.by_color:
            apart = [np.abs((values >> bits & 255) - (near >> bits & 255)) for bits in (16, 8, 0)]
            in_color: np.ndarray = np.sum(apart, axis=0) > 64
            return in_color
        classes = self.values[self.ids != self.ignored]
        gap = int(np.diff(classes).min(initial=255))
        # of two classes everything between is near one of them
        reach = gap // 2 + 1 if len(classes) == 2 else max(1, gap // 4)
        far: np.ndarray = np.abs(values - near) > reach
        return far
