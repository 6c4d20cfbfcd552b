"""Findings about what labels store: values that are no classes, and what they most likely are.

Each label has one kind (`Examined.kinds`), so no file is reported twice. What all labels of a kind hold together tells
what they are: 0/255 masks, ids that start at 1, instances. A guess is offered as a line to type, never applied.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from segkit.datasets.label_faults import SOFT, map_from_one, map_object, object_value, start_at_one, without_rare
from segkit.datasets.masks import code_of, color_of
from segkit.doctor.examination import Examined, Finding, Kind, finding
from segkit.doctor.guess_classes import by_frequency

MOST_LISTED = 24  # values or colours in a message
MANY = 0.05  # share of the labels that must hold what is said of all
CREAM = 0xE0E0C0  # VOC's border
INTEGERS: tuple[Kind, ...] = ("right", "unknown", "deep")  # labels of ids


def jpeg_labels(examined: Examined) -> Finding | None:
    return _of_kind(
        examined,
        "jpeg",
        "JPEG labels",
        "JPEG changes ids near every edge: export the labels again as PNG; where that is impossible, --fix OUT "
        "gives each pixel the nearest of the values that classes have",
    )


def color_labels(examined: Examined) -> Finding | None:
    if not examined.of_kind("colors"):
        return None
    table, certain = color_table(examined)
    listed = str([list(color_of(code)) for code in table[:MOST_LISTED]])
    more = f" (the first {MOST_LISTED} of {len(table)})" if len(table) > MOST_LISTED else ""
    names = ", ".join(examined.classes.names)
    if certain:
        remedy = f"these are the colours of the classes: data.mask_values: {listed}; or let --fix OUT write ids"
    else:
        remedy = (
            f"found these colours, the most frequent first: {listed}{more}; put them into the order of the classes "
            f"({names}) as data.mask_values, which segkit can't guess. --fix OUT of such a config writes ids"
        )
    if any(examined.facts.labels["soft"][index] >= SOFT for index in examined.of_kind("colors")):
        remedy += ". Their edges are soft: set data.ignore_values: rest as well"
    return _of_kind(examined, "colors", "colours where ids are expected", remedy)


def id_labels(examined: Examined) -> Finding | None:
    remedy = "data.mask_values are colours, these labels hold single values: write values there, or leave it out"
    return _of_kind(examined, "ids", "ids where colours are expected", remedy)


def soft_labels(examined: Examined) -> Finding | None:
    return _of_kind(
        examined,
        "soft",
        "labels with soft edges (anti-aliased, resized with interpolation, or once a JPEG)",
        "export them again without smoothing; or let --fix OUT give each pixel the nearest of the values that classes "
        "have; or leave those pixels out: data.mask_values with the real values, data.ignore_values: rest",
    )


def zero_255(examined: Examined) -> Finding | None:
    """0/255 masks of two classes: with 255 as ignore they read as nothing but background."""
    classes = examined.classes
    if two_levels(examined) != (0, classes.ignore_index):
        return None
    indices = [
        index for index in examined.of_kind("right") if classes.ignore_index in examined.facts.values(index).values
    ]
    lines = [f"{examined.items[index].mask}: 0 and {classes.ignore_index}" for index in indices]
    remedy = (
        f"{classes.ignore_index} means 'ignore', and no pixel holds 1: set "
        f"{map_object(classes.ignore_index)}; or let --fix OUT write 0 and 1"
    )
    return finding("zero-255", "error", "masks of 0 and 255", indices, lines, remedy)


def unknown_ids(examined: Examined) -> Finding | None:
    indices = examined.of_kind("unknown")
    if not indices:
        return None
    classes, reader = examined.classes, examined.reader
    held = examined.held("unknown")
    everything = sorted({*held, *examined.held("right")} - {classes.ignore_index})
    last = len(classes) - 1
    title = "ids that are no class"
    if reader.by_color:
        title = "colours that are no class"
        remedy = "add them to data.mask_values with their class, or to data.ignore_values (rest ignores all others)"
    elif reader.mapped:
        remedy = "add them to data.mask_values with their class, or to data.ignore_values"
    elif off_by_one(examined):
        title = "ids that start at 1"
        remedy = f"set {map_from_one(len(classes))}; or let --fix OUT write 0 to {last}"
    elif levels := two_levels(examined):
        title = "masks of {} and {}".format(*levels)
        remedy = f"set {map_object(levels[1])}; or let --fix OUT write 0 and 1"
    elif spread := spread_values(examined):
        title = "values that are no ids, as many as there are classes"
        remedy = f"if they are the classes in their order, set data.mask_values: {spread}"
    elif looks_like_instances(examined):
        title = "ids that look like instances (every object has its own)"
        remedy = "segmentation needs the class of each pixel: export semantic masks, or convert the annotations"
    else:
        shown = ", ".join(map(str, everything[:MOST_LISTED])) + (", ..." if len(everything) > MOST_LISTED else "")
        shift = ""
        if everything[-1] == last + 1:
            shift = f" If ids start at 1 and 0 means unlabelled: {map_from_one(len(classes))} and "
            shift += "data.ignore_values: [0]."
        remedy = (
            f"the labels hold {shown}; classes are 0..{last}. Name the missing ones in data.classes, map values with "
            f"data.mask_values, or ignore them: data.ignore_values: {_unknown(examined, held)[:MOST_LISTED]}.{shift}"
        )
    lines = []
    for index in indices:
        found = examined.facts.values(index)
        unknown = _unknown(examined, found.values.tolist())
        pixels = int(found.pixels[np.isin(found.values, unknown)].sum())
        said = [list(color_of(value)) for value in unknown[:8]] if reader.by_color else unknown[:8]
        lines.append(
            f"{examined.items[index].mask}: {str(said)[1:-1]}{', ...' if len(unknown) > 8 else ''} ({pixels} pixels)"
        )
    return finding("unknown-id", "error", title, indices, lines, remedy)


def deep_labels(examined: Examined) -> Finding | None:
    if levels := two_levels(examined):
        remedy = f"set {map_object(levels[1])}; or let --fix OUT write 0 and 1"
    elif any(examined.facts.labels["low"][index] < 0 for index in examined.of_kind("deep")):
        remedy = "some values are below 0, which no mask can hold: write unlabelled pixels as data.ignore_index (255)"
    else:
        remedy = (
            "values beyond 255 are mostly instances (class * 1000 + number, as Cityscapes has them) or 16-bit exports: "
            "write one class id per pixel, or map values with data.mask_values"
        )
    return _of_kind(examined, "deep", "16-bit or instance-id labels", remedy)


def palettes_differ(examined: Examined) -> Finding | None:
    """Palette labels whose files give an id different colours: each was made with a palette of its own."""
    odd = _odd_palettes(examined)
    swapped = any(own is not None for _, _, _, own in odd.values())
    lines = [
        f"{examined.items[index].mask}: {value} is {list(color)}, elsewhere {list(usual)}"
        + ("" if own is None else f", the colour of {own}")
        for index, (value, color, usual, own) in odd.items()
    ]
    remedy = (
        "the same colour has other ids in other files: each was saved with a palette of its own, so ids mean nothing "
        "there (--fix OUT leaves them out); save them as RGB and list the colours in data.mask_values"
        if swapped
        else "ids are read, colours are not: look whether ids mean the same in these files"
    )
    title = "palettes that differ from the others'"
    return finding("palette", "error" if swapped else "warning", title, list(odd), lines, remedy)


def unnamed_classes(examined: Examined) -> Finding | None:
    lines = [examined.guessed] if examined.guessed else []
    mapped = ", with that data.mask_values" if examined.data.mask_values is not None else ""
    remedy = f"name them in a config, in the order of the values: data.classes{mapped}"
    if not mapped:
        remedy += f"; or write {examined.data.root}/classes.txt, one name per line"
    return finding("unnamed-classes", "warning", "classes have no names", lines=lines, remedy=remedy)


RULES: tuple[Callable[[Examined], Finding | None], ...] = (
    jpeg_labels,
    color_labels,
    id_labels,
    zero_255,
    unknown_ids,
    deep_labels,
    soft_labels,
    palettes_differ,
    unnamed_classes,
)


# ---- what labels hold together; fix needs them too


def two_levels(examined: Examined) -> tuple[int, int] | None:
    """Return 0 and the other value of masks of two classes, if all labels together hold just two and it isn't 1."""
    classes, reader = examined.classes, examined.reader
    if len(classes) != 2 or reader.mapped or reader.by_color:
        return None
    held = {value for kind in INTEGERS for value in examined.held(kind)}
    other = object_value(held)
    return (0, other) if 0 in held and other is not None and 1 < other < 2**16 else None


def spread_values(examined: Examined) -> list[int] | None:
    """Return the values that all labels together hold, if they are as many as there are classes but other numbers."""
    classes, reader = examined.classes, examined.reader
    if reader.mapped or reader.by_color:
        return None
    held = sorted({*examined.held("right"), *examined.held("unknown")} - {classes.ignore_index})
    return held if len(held) == len(classes) and held[-1] >= len(held) else None


def off_by_one(examined: Examined) -> bool:
    """True if ids start at 1: no label holds 0, and many hold the number of classes, which would be one too many.

    One label with a foreign id, or a class that is missing from the names, is no such thing.
    """
    classes, reader = examined.classes, examined.reader
    if reader.mapped or reader.by_color:
        return False
    held = examined.held("unknown") + examined.held("right")
    num_labels = len(examined.of_kind("unknown")) + len(examined.counted)
    last = len(classes)
    return start_at_one(held, last, ignored=classes.ignore_index) and held[last] >= MANY * num_labels


def swapped_palettes(examined: Examined) -> frozenset[int]:
    """Return the items whose palette gives the colour that other labels have for one id to another."""
    return frozenset(index for index, (_, _, _, own) in _odd_palettes(examined).items() if own is not None)


@functools.lru_cache(maxsize=1)
def _odd_palettes(examined: Examined) -> dict[int, tuple[int, bytes, bytes, int | None]]:
    """Return for each odd palette's item an id, its colour here and elsewhere, and which id has that colour there."""
    facts = examined.facts
    entries = {}
    counts: Counter[tuple[int, bytes]] = Counter()
    for index in examined.of_kind("right"):
        if facts.labels["palette"][index] >= 0:
            palette = facts.palettes[facts.labels["palette"][index]]
            values = facts.values(index).values.tolist()
            entries[index] = [(value, palette[3 * k : 3 * k + 3]) for k, value in enumerate(values)]
            counts.update(entries[index])
    usual: dict[int, bytes] = {}
    for (value, color), _ in counts.most_common():
        usual.setdefault(value, color)
    home: dict[bytes, int | None] = {}
    for value, color in usual.items():
        home[color] = None if color in home else value  # the colour of two ids tells nothing
    odd = {}
    for index, held in entries.items():
        other = [(value, color) for value, color in held if usual[value] != color]
        if not other:
            continue
        distinct = len({color for _, color in held}) == len(held)
        wandered = [entry for entry in other if distinct and home.get(entry[1]) not in (None, entry[0])]
        value, color = (wandered or other)[0]
        odd[index] = (value, color, usual[value], home[color] if wandered else None)
    return odd


def color_table(examined: Examined) -> tuple[list[int], bool]:
    """Return the colour codes that labels of colours use for classes, and whether their order is that of the classes.

    It is where all are the classes' own colours. Else black goes first, then the most frequent; colours of soft edges
    (rare, and many of them) are left out.
    """
    counts: Counter[int] = Counter()
    for index in examined.of_kind("colors"):
        found = examined.facts.main_values(index)
        counts.update(dict(zip(found.values.tolist(), found.pixels.tolist(), strict=True)))
    own = [code_of(color) for color in examined.classes.colors]
    if counts and set(counts) <= {*own, CREAM}:
        return own, True
    if len(counts) > MOST_LISTED:
        return by_frequency(without_rare(counts)), False
    return by_frequency(counts), False


def _unknown(examined: Examined, values: Iterable[int]) -> list[int]:
    reader = examined.reader
    listed = np.array(sorted(values), np.int64)
    unknown: list[int] = listed[~reader.table.knows(listed)].tolist()
    return unknown


def looks_like_instances(examined: Examined) -> bool:
    """True if unknown ids run from 0 or 1 without a gap in nearly every label, up to another number in each."""
    indices = examined.of_kind("unknown")
    last, gapless = set(), 0
    for index in indices:
        values = examined.facts.values(index).values
        values = values[values != examined.classes.ignore_index]
        gapless += bool(len(values) > 1 and values[0] <= 1 and values[-1] - values[0] == len(values) - 1)
        last.add(int(values[-1]) if len(values) else 0)
    return len(indices) > 2 and gapless >= 0.9 * len(indices) and len(last) > 2


def _of_kind(examined: Examined, kind: Kind, title: str, remedy: str) -> Finding | None:
    indices = examined.of_kind(kind)
    labels = examined.facts.labels
    lines = [
        f"{examined.items[index].mask}: {labels['mode'][index]}, {labels['num_values'][index]} different values"
        for index in indices
    ]
    codes = {
        "jpeg": "jpeg-label",
        "colors": "color-label",
        "ids": "id-label",
        "soft": "soft-label",
        "deep": "deep-label",
    }
    return finding(codes[kind], "error", title, indices, lines, remedy)
