"""What the facts mean: verdicts in order of harm, each with its files and with what to type.

A verdict is a function from what was examined to a Verdict, or None where there is nothing to say; `VERDICTS` lists
them, those about files (`file_verdicts`) and label values (`label_verdicts`) first. An error stops a training, or makes
its figures worthless; a warning is likely to harm; a note is good to know.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from segkit.datasets.layouts import EVERYTHING
from segkit.doctor.duplicates import copies, near_copies, sequences
from segkit.doctor.examination import Examined, Severity, Verdict, verdict
from segkit.doctor.findings import files as file_verdicts
from segkit.doctor.findings import labels as label_verdicts
from segkit.errors import count as plural

FEW_PICTURES = 10  # to validate on
RARE = 1e-4  # of the labelled pixels
MOST_LOW_BITS = 12  # of 16 that an image uses; of 12 bits 4 are left
FEW_SHOWN = 3  # validation pictures that show a class


def judge(examined: Examined) -> list[Verdict]:
    """Return every verdict that holds, the most harmful first."""
    found = [one for rule in VERDICTS if (one := rule(examined)) is not None]
    order = ("error", "warning", "note")
    return sorted(found, key=lambda one: order.index(one.severity))


# ---- splits


def empty_splits(examined: Examined) -> Verdict | None:
    lines = [f"{split}: no picture" for split, places in examined.inventory.splits.items() if not places]
    remedy = f"add names to it, or divide anew: {examined.command('split', '--force')}"
    return verdict("empty-split", "error", "splits without a picture", lines=lines, remedy=remedy)


def no_validation(examined: Examined) -> Verdict | None:
    splits, data = examined.inventory.splits, examined.data
    lines = []
    if set(splits) == {EVERYTHING} or data.val not in splits:
        lines = [f"{data.root}: no split to validate on, among {', '.join(splits)}"]
    remedy = f"divide it: {examined.command('split', '--val', '0.1')}"
    return verdict("no-validation", "warning", "nothing to validate on", lines=lines, remedy=remedy)


def overlap_by_name(examined: Examined) -> Verdict | None:
    lines = []
    for (first, places), (second, others) in combinations(examined.inventory.splits.items(), 2):
        both = sorted(set(places) & set(others))
        lines += [f"{examined.pairs[place].name}: in '{first}' and in '{second}'" for place in both]
    data = examined.data
    if data.train == data.val and data.train != EVERYTHING:
        lines.append(f"data.train and data.val are both '{data.train}': every picture is trained on and measured on")
    remedy = f"remove each from one of the two; or divide anew: {examined.command('split', '--force')}"
    return verdict("overlap", "error", "pictures in two splits", lines=lines, remedy=remedy)


def identical_across(examined: Examined) -> Verdict | None:
    lines, places = [], []
    for group in copies(examined.facts):
        first_of = _first_by_splits(examined, group)
        for one, other in combinations(first_of, 2):
            if set(one).isdisjoint(other):
                places += [first_of[one], first_of[other]]
                lines.append(_two(examined, first_of[one], first_of[other]))
    remedy = "remove one of each two: what was trained on can't be measured on"
    return verdict("identical", "error", "identical files in two splits", places, lines, remedy)


def identical_within(examined: Examined) -> Verdict | None:
    digests = examined.facts.labels["digest"]
    lines, places = [], []
    for group in copies(examined.facts):
        first_of = _first_by_splits(examined, group)
        for other in group:
            first = first_of[tuple(examined.split_of[other])]
            if first != other:
                places += [first, other]
                contradict = digests[first] != digests[other]
                lines.append(_two(examined, first, other) + (", and their labels differ" if contradict else ""))
    remedy = "keep one of each; a picture that is there twice counts twice"
    return verdict("copies", "warning", "identical files within a split", places, lines, remedy)


def _first_by_splits(examined: Examined, group: Sequence[int]) -> dict[tuple[str, ...], int]:
    """Return the first picture of a group for each set of splits that any of them is in."""
    first_of: dict[tuple[str, ...], int] = {}
    for place in group:
        if examined.split_of[place]:
            first_of.setdefault(tuple(examined.split_of[place]), place)
    return first_of


def near_duplicates(examined: Examined) -> Verdict | None:
    found = near_copies(examined.facts, examined.split_of)
    lines = [_two(examined, first, second) for first, second in found]
    places = [place for pair in found for place in pair]
    remedy = "look at them in check.html; remove one of each two from its split if they show the same"
    return verdict("near-duplicate", "warning", "pictures in two splits that look the same", places, lines, remedy)


def sequences_across(examined: Examined) -> Verdict | None:
    lines = [
        f"{found.pattern}: " + ", ".join(f"{count} in {split}" for split, count in found.counts.items())
        for found in sequences(examined.facts, examined.split_of)
    ]
    splits = examined.inventory.splits
    sizes = [word for split in ("val", "test") if split in splits for word in (f"--{split}", str(len(splits[split])))]
    again = examined.command("split", *sizes, "--group-by", "'^(.*?)[0-9]*[^0-9]*$'", "--force")
    remedy = f"scores are too good where frames of one sequence stand on both sides; keep them together: {again}"
    return verdict("sequence", "warning", "sequences that stand in several splits", lines=lines, remedy=remedy)


def _two(examined: Examined, first: int, second: int) -> str:
    words = [
        f"{examined.pairs[place].image}" + (f" ({', '.join(splits)})" if (splits := examined.split_of[place]) else "")
        for place in (first, second)
    ]
    return " and ".join(words)


# ---- what there is to learn and to measure


def nothing_labelled(examined: Examined) -> Verdict | None:
    empty = [
        split
        for split, places in examined.inventory.splits.items()
        if examined.can_count(places) and not examined.pixels(split).sum()
    ]
    lines = [f"{split}: not one labelled pixel in {len(examined.inventory.splits[split])} pictures" for split in empty]
    harms = {examined.data.train, examined.data.val, EVERYTHING} & set(empty)
    remedy = "check data.ignore_index, data.ignore_values and the labels: every pixel is ignored"
    severity: Severity = "error" if harms else "warning"
    return verdict("no-label", severity, "splits without a labelled pixel", lines=lines, remedy=remedy)


def all_ignored(examined: Examined) -> Verdict | None:
    places = [place for place in examined.counted if not examined.presence[place].any()]
    lines = [f"{examined.pairs[place].mask}: every pixel is ignored" for place in places]
    remedy = "nothing is learned from them; label them, or take them out"
    return verdict("all-ignored", "warning", "labels without a labelled pixel", places, lines, remedy)


def background_only(examined: Examined) -> Verdict | None:
    if label_verdicts.two_levels(examined):  # said already: 255 is read as 'ignore'
        return None
    presence = examined.presence
    places = [place for place in examined.counted if presence[place, 0] and not presence[place, 1:].any()]
    many = len(places) > 0.8 * max(1, len(examined.counted))
    name = examined.classes.names[0]
    lines = [f"{examined.pairs[place].mask}: '{name}' alone" for place in places]
    remedy = (
        "nearly all are empty: are the labels those of other pictures, or exported wrongly?"
        if many
        else "right where pictures show none of the other classes; look at some in check.html"
    )
    return verdict("empty", "warning" if many else "note", f"labels that hold '{name}' alone", places, lines, remedy)


def absent_classes(examined: Examined) -> Verdict | None:
    if label_verdicts.two_levels(examined):
        return None
    lines = []
    for split in examined.inventory.splits:
        pixels = examined.pixels(split)
        absent = [name for name, count in zip(examined.classes.names, pixels, strict=True) if not count]
        if absent and pixels.sum():
            what = "learned" if split == examined.data.train else "measured there"
            names = ", ".join(absent)
            lines.append(f"{split}: no pixel of {len(absent)} of {len(pixels)} classes, which can't be {what}: {names}")
    again = examined.command("split", "--force")
    remedy = f"label some, or take them out of data.classes; divide anew so that each split has its share: {again}"
    return verdict("absent-class", "warning", "classes that are missing", lines=lines, remedy=remedy)


def rare_classes(examined: Examined) -> Verdict | None:
    splits = examined.inventory.splits
    split = examined.data.train if examined.data.train in splits else next(iter(splits))
    pixels, shown = examined.pixels(split), examined.shown(split)
    total = max(1, int(pixels.sum()))
    lines = [
        f"{name}: {100 * count / total:.3f} % of the labelled pixels, in {plural(pictures, 'picture')} of {split}"
        for name, count, pictures in zip(examined.classes.names, pixels.tolist(), shown.tolist(), strict=True)
        if count and (count < RARE * total or pictures < min(FEW_SHOWN, len(splits[split])))
    ]
    remedy = (
        "label more; or make more of them: data.sampler: repeat_factor, augment.rare_crops: 0.5, "
        "loss.class_weights: log"
    )
    return verdict("rare-class", "warning", "classes that are hardly there", lines=lines, remedy=remedy)


def too_small(examined: Examined) -> Verdict | None:
    val = examined.data.val
    places = examined.inventory.splits.get(val)
    if places is None or val == examined.data.train:
        return None
    lines = []
    if len(places) < FEW_PICTURES:
        lines.append(f"{val}: {plural(len(places), 'picture')}, expected {FEW_PICTURES} or more")
    shown = zip(examined.classes.names, examined.shown(val).tolist(), strict=True)
    if few := [f"{name} ({count})" for name, count in shown if 0 < count < FEW_SHOWN]:
        lines.append(f"{val}: fewer than {FEW_SHOWN} pictures that show {', '.join(few)}")
    folds = examined.command("split", "--folds", "5")
    remedy = f"figures of so few move by chance: hold out more, or cross-validate: {folds}"
    return verdict("small", "warning", "too little to validate on", lines=lines, remedy=remedy)


def grey_images(examined: Examined) -> Verdict | None:
    grey = examined.facts.images["grey"]
    places = np.flatnonzero(grey).tolist()
    mixed = len(places) < int(examined.facts.has_image.sum())
    lines = [f"{examined.pairs[place].image}" for place in places]
    remedy = (
        "grey beside colour pictures: fine if new pictures will be mixed too"
        if mixed
        else "all are grey: hue and saturation jitter do nothing, set augment.hue: 0 augment.saturation: 0"
    )
    return verdict("grey", "note", "grey images", places, lines, remedy)


def low_bits(examined: Examined) -> Verdict | None:
    """16-bit images that use 12 bits or fewer in the whole set: of each value, the upper 8 of 16 bits are read."""
    values = examined.facts.images["highest"]
    places = np.flatnonzero(values).tolist()
    highest = int(values.max(initial=0))
    lines = [f"{examined.pairs[place].image}: up to {values[place]} of 65535" for place in places]
    remedy = (
        f"segkit reads the upper 8 of 16 bits, so at most {highest >> 8} of 255 is left: multiply these images by "
        f"{2 ** (16 - highest.bit_length())}, or rescale them to 0..65535, before training and before prediction"
    )
    lines = lines if highest < 2**MOST_LOW_BITS else []
    return verdict("low-bits", "note", f"16-bit images of {MOST_LOW_BITS} bits or fewer", places, lines, remedy)


VERDICTS: tuple[Callable[[Examined], Verdict | None], ...] = (
    *file_verdicts.VERDICTS,
    empty_splits,
    *label_verdicts.VERDICTS,
    nothing_labelled,
    overlap_by_name,
    identical_across,
    near_duplicates,
    sequences_across,
    all_ignored,
    background_only,
    absent_classes,
    rare_classes,
    no_validation,
    too_small,
    identical_within,
    grey_images,
    low_bits,
)
