"""Verdicts about what labels store: values that are no classes, and what they most likely are.

Each label has one kind (`Examined.kinds`), so no file is reported twice. What all labels of a kind hold together tells
what they are: 0/255 masks, ids that start at 1, instances. A guess is offered as a line to type, never applied.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from segkit.data.examined import Examined, Kind, Verdict, verdict

MOST_LISTED = 24  # values or colours in a message


def jpeg_labels(examined: Examined) -> Verdict | None:
    return _of_kind(
        examined,
        "jpeg",
        "JPEG labels",
        "JPEG changes ids near every edge: export the labels again as PNG; if they can't be had any more, --fix OUT "
        "gives each pixel the nearest of the values that classes have",
    )


def color_labels(examined: Examined) -> Verdict | None:
    colors = values_of(examined, "colors")
    if not colors:
        return None
    table = color_table(examined)
    listed = str([list(rgb(code)) for code in table[:MOST_LISTED]])
    more = f" (the first {MOST_LISTED} of {len(table)})" if len(table) > MOST_LISTED else ""
    fit = len(table) == len(examined.classes)
    remedy = (
        f"list the colours in class order: data.mask_values: {listed}{more}"
        + ("" if fit else f"; there are {len(table)} of them for {len(examined.classes)} classes")
        + "; --fix OUT writes ids in this order"
    )
    return _of_kind(examined, "colors", "colours where ids are expected", remedy)


def id_labels(examined: Examined) -> Verdict | None:
    remedy = "data.mask_values are colours, these labels hold single values: write values there, or leave it out"
    return _of_kind(examined, "ids", "ids where colours are expected", remedy)


def soft_labels(examined: Examined) -> Verdict | None:
    return _of_kind(
        examined,
        "soft",
        "labels with soft edges (anti-aliased, resized with interpolation, or once a JPEG)",
        "export them again without smoothing; or let --fix OUT give each pixel the nearest of the values that classes "
        "have; or leave those pixels out: data.mask_values with the real values, data.ignore_values: rest",
    )


def zero_255(examined: Examined) -> Verdict | None:
    """0/255 masks of two classes: with 255 as ignore they read as nothing but background."""
    classes = examined.classes
    if two_levels(examined) != (0, classes.ignore_index):
        return None
    places = [
        place for place in examined.of_kind("right") if classes.ignore_index in examined.facts.values(place).values
    ]
    lines = [f"{examined.pairs[place].mask}: 0 and {classes.ignore_index}" for place in places]
    remedy = (
        f"{classes.ignore_index} means 'ignore', and no pixel holds 1: set data.mask_values: "
        f"[0, {classes.ignore_index}]; or let --fix OUT write 0 and 1"
    )
    return verdict("zero-255", "error", "masks of 0 and 255", places, lines, remedy)


def unknown_ids(examined: Examined) -> Verdict | None:
    places = examined.of_kind("unknown")
    if not places:
        return None
    classes, reader = examined.classes, examined.reader
    held = values_of(examined, "unknown")
    everything = sorted({*held, *values_of(examined, "right")} - {classes.ignore_index})
    last = len(classes) - 1
    title, remedy = "ids that are no class", ""
    if reader.by_color:
        title = "colours that are no class"
        remedy = "add them to data.mask_values with their class, or to data.ignore_values (rest ignores all others)"
    elif reader.mapped:
        remedy = "add them to data.mask_values with their class, or to data.ignore_values"
    elif off_by_one(examined):
        title = "ids that start at 1"
        wanted = list(range(1, len(classes) + 1))
        zero = " and data.ignore_values: [0], if 0 means unlabelled" if 0 in everything else ""
        remedy = f"set data.mask_values: {wanted}{zero}; or name a class more, if 0 is one; --fix OUT does the former"
    elif levels := two_levels(examined):
        title = "masks of {} and {}".format(*levels)
        remedy = f"set data.mask_values: {list(levels)}; or let --fix OUT write 0 and 1"
    elif looks_like_instances(examined):
        title = "ids that look like instances (every object has its own)"
        remedy = "segmentation needs the class of each pixel: export semantic masks, or convert the annotations"
    else:
        shown = ", ".join(map(str, everything[:MOST_LISTED])) + (", ..." if len(everything) > MOST_LISTED else "")
        remedy = (
            f"the labels hold {shown}; classes are 0..{last}. Name the missing ones in data.classes, map values with "
            f"data.mask_values, or ignore them: data.ignore_values: {_unknown(examined, held)[:MOST_LISTED]}"
        )
    lines = []
    for place in places:
        found = examined.facts.values(place)
        unknown = _unknown(examined, found.values.tolist())
        pixels = int(found.pixels[np.isin(found.values, unknown)].sum())
        said = [list(rgb(value)) for value in unknown[:8]] if reader.by_color else unknown[:8]
        lines.append(
            f"{examined.pairs[place].mask}: {str(said)[1:-1]}{', ...' if len(unknown) > 8 else ''} ({pixels} pixels)"
        )
    return verdict("unknown-id", "error", title, places, lines, remedy)


def deep_labels(examined: Examined) -> Verdict | None:
    remedy = (
        "values beyond 255 are mostly instances (class * 1000 + number, as Cityscapes has them) or 16-bit exports: "
        "write one class id per pixel, or map values with data.mask_values"
    )
    return _of_kind(examined, "deep", "16-bit or instance-id labels", remedy)


def palettes_differ(examined: Examined) -> Verdict | None:
    """Palette labels whose files give an id different colours: each was made with a palette of its own."""
    facts = examined.facts
    places = [place for place in examined.of_kind("right") if facts.labels["palette"][place] >= 0]
    pairs: Counter[tuple[int, bytes]] = Counter()
    by_place = {}
    for place in places:
        palette = facts.palettes[facts.labels["palette"][place]]
        values = facts.values(place).values.tolist()
        by_place[place] = [(value, palette[3 * k : 3 * k + 3]) for k, value in enumerate(values)]
        pairs.update(by_place[place])
    usual: dict[int, bytes] = {}
    for (value, color), _ in pairs.most_common():
        usual.setdefault(value, color)
    home = {color: value for value, color in usual.items()}
    lines, odd, swapped = [], [], False
    for place, entries in by_place.items():
        other = [(value, color) for value, color in entries if usual[value] != color]
        if not other:
            continue
        odd.append(place)
        value, color = other[0]
        wandered = home.get(color, value) != value
        swapped |= wandered
        here = f"{value} is {list(color)}, elsewhere {list(usual[value])}"
        lines.append(f"{examined.pairs[place].mask}: {here}" + (f", the colour of {home[color]}" if wandered else ""))
    severity = "error" if swapped else "warning"
    remedy = (
        "the same colour has other ids in other files: each was saved with a palette of its own, so ids mean nothing; "
        "save them as RGB and list the colours in data.mask_values"
        if swapped
        else "ids are read, colours are not: look whether ids mean the same in these files"
    )
    return verdict("palette", severity, "palettes that differ from the others'", odd, lines, remedy)  # type: ignore[arg-type]


def unnamed_classes(examined: Examined) -> Verdict | None:
    lines = [examined.guessed] if examined.guessed else []
    remedy = f"write {examined.data.root}/classes.txt, one name per line in the order of the values, or data.classes"
    return verdict("unnamed-classes", "warning", "classes have no names", lines=lines, remedy=remedy)


VERDICTS: tuple[Callable[[Examined], Verdict | None], ...] = (
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


# ---- what labels hold together; also for those who mend them


def rgb(code: int) -> tuple[int, int, int]:
    """Return the colour of a code, R * 65536 + G * 256 + B."""
    return code >> 16, code >> 8 & 255, code & 255


def two_levels(examined: Examined) -> tuple[int, int] | None:
    """Return 0 and the other value of masks of two classes, if all labels together hold just two and it isn't 1."""
    classes, reader = examined.classes, examined.reader
    if len(classes) != 2 or reader.mapped or reader.by_color:
        return None
    held = sorted({*values_of(examined, "right"), *values_of(examined, "unknown")})
    return (0, held[1]) if len(held) == 2 and held[0] == 0 and 1 < held[1] < 2**16 else None


def off_by_one(examined: Examined) -> bool:
    """True if the last class's id is one too many in the labels and everything else fits: ids that start at 1."""
    classes, reader = examined.classes, examined.reader
    if reader.mapped or reader.by_color:
        return False
    held = {*values_of(examined, "unknown"), *values_of(examined, "right")} - {classes.ignore_index}
    return max(held, default=0) == len(classes) and len(classes) > 1 and 1 in held


def color_table(examined: Examined) -> list[int]:
    """Return the colour codes that labels of colours use for classes, in class order as far as that can be told.

    Colours that are those of the classes come in their order; else black first, then by frequency. Colours of soft
    edges (rare, and many of them) are left out.
    """
    counts: Counter[int] = Counter()
    total = 0
    for place in examined.of_kind("colors"):
        found = examined.facts.values(place)
        counts.update(dict(zip(found.values.tolist(), found.pixels.tolist(), strict=True)))
        total += int(found.pixels.sum())
    if len(counts) > MOST_LISTED:
        counts = Counter({code: pixels for code, pixels in counts.items() if pixels >= 1e-4 * total})
    own = [red << 16 | green << 8 | blue for red, green, blue in examined.classes.colors]
    if set(counts) <= {*own, 0xE0E0C0}:  # and VOC's border
        return own
    return sorted(counts, key=lambda code: (code != 0, -counts[code], code))


def values_of(examined: Examined, kind: Kind) -> Counter[int]:
    """Return every value that labels of a kind hold, with how many labels hold it."""
    counts: Counter[int] = Counter()
    for place in examined.of_kind(kind):
        counts.update(examined.facts.values(place).values.tolist())
    return counts


def _unknown(examined: Examined, values: object) -> list[int]:
    reader = examined.reader
    return sorted(
        value
        for value in list(values)  # type: ignore[call-overload]
        if not 0 <= value < len(reader.table) or reader.table[value] == reader.unknown
    )


def looks_like_instances(examined: Examined) -> bool:
    """True if unknown ids run from 0 or 1 without a gap in nearly every label, up to another number in each."""
    places = examined.of_kind("unknown")
    last, gapless = set(), 0
    for place in places:
        values = examined.facts.values(place).values
        values = values[values != examined.classes.ignore_index]
        gapless += bool(len(values) > 1 and values[0] <= 1 and values[-1] - values[0] == len(values) - 1)
        last.add(int(values[-1]) if len(values) else 0)
    return len(places) > 2 and gapless >= 0.9 * len(places) and len(last) > 2


def _of_kind(examined: Examined, kind: Kind, title: str, remedy: str) -> Verdict | None:
    places = examined.of_kind(kind)
    labels = examined.facts.labels
    lines = [
        f"{examined.pairs[place].mask}: {labels['mode'][place]}, {labels['num_values'][place]} different values"
        for place in places
    ]
    codes = {
        "jpeg": "jpeg-label",
        "colors": "color-label",
        "ids": "id-label",
        "soft": "soft-label",
        "deep": "deep-label",
    }
    return verdict(codes[kind], "error", title, places, lines, remedy)
