"""Guess classes and mask values of a data set that names no classes, from what its labels hold."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from segkit.classes import MAX_CLASSES, VOC_NAMES
from segkit.config.schema import DataConfig
from segkit.datasets.label_faults import map_object, object_value, without_rare
from segkit.datasets.masks import COLOR_MODES, color_of
from segkit.doctor.measure import Facts

MOST_COLORS = 64


def guess_classes(data: DataConfig, facts: Facts) -> tuple[DataConfig, str]:
    """Return the config with data.classes and data.mask_values filled in, and what to tell the user ('': nothing).

    With data.mask_values there is a class for each. The values of soft edges say nothing.
    Two values are background and object. More ids in the voc layout are VOC's classes, if they fit; else classes are
    numbered: one for each value, if they are far apart, else up to the largest id. Labels of colours: every colour that
    isn't rare is a class, black first, then by frequency.
    """
    if data.mask_values is not None:
        return (
            replace(data, classes=_numbered(len(data.mask_values))),
            f"data.mask_values lists {len(data.mask_values)} values",
        )
    ids, colors = _count(facts)
    if not ids and colors:
        codes = by_frequency(without_rare(colors))[:MOST_COLORS]
        values = tuple(color_of(code) for code in codes)
        names = _numbered(max(2, len(values)))
        values = values if len(values) > 1 else ((0, 0, 0), (255, 255, 255))
        listed = str([list(color) for color in values])
        return (
            replace(data, classes=names, mask_values=values, ignore_values="rest"),
            f"the labels hold {len(codes)} colours: data.mask_values: {listed}",
        )
    value = object_value(ids)
    if value is not None and value <= 0xFFFF:
        mapped = None if value == 1 else (0, value)
        line = "" if value == 1 else f", {map_object(value)}"
        return (
            replace(data, classes=("background", "object"), mask_values=mapped),
            f"the labels hold 0 and {value}: data.classes: [background, object]{line}",
        )
    if data.layout == "voc" and _are_below(len(VOC_NAMES), ids):
        return replace(data, classes=VOC_NAMES), ""
    held = sorted(set(ids) - {data.ignore_index})
    if 2 <= len(held) <= MOST_COLORS and held[-1] >= 2 * len(held) and held[-1] <= 0xFFFF:
        return (
            replace(data, classes=_numbered(len(held)), mask_values=tuple(held)),
            f"the labels hold {len(held)} values: data.mask_values: {held}",
        )
    last = max((value for value in ids if value != data.ignore_index and value < MAX_CLASSES), default=1)
    return (
        replace(data, classes=_numbered(max(2, last + 1))),
        f"the labels hold the ids 0 to {last}" + (f" and {data.ignore_index}" if data.ignore_index in ids else ""),
    )


def by_frequency(colors: Mapping[int, int]) -> list[int]:
    """Return colour codes, given with their pixels: black first, then the most frequent."""
    return sorted(colors, key=lambda code: (code != 0, -colors[code], code))


def _are_below(count: int, ids: Collection[int]) -> bool:
    return all(value < count or value == 255 for value in ids)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class_{k}" for k in range(count))


def _count(facts: Facts) -> tuple[Counter[int], Counter[int]]:
    """Return the pixels of every id and of every colour."""
    ids: Counter[int] = Counter()
    colors: Counter[int] = Counter()
    for index, there in enumerate(facts.has_label):
        if there and not facts.labels["jpeg"][index]:
            found = facts.main_values(index)
            kind = colors if facts.labels["mode"][index] in COLOR_MODES else ids
            kind.update(dict(zip(found.values.tolist(), found.pixels.tolist(), strict=True)))
    return ids, colors
