"""What the facts mean: findings in order of harm, each with its files and with what to type.

A rule is a function from what was examined to a Finding, or None where there is nothing to say; `RULES` lists
them, those about files (`of_files`) and label values (`of_labels`) first. An error stops a training, or makes
its figures worthless; a warning is likely to harm; a note is good to know.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from segkit.datasets.layouts import EVERYTHING
from segkit.doctor.duplicates import copies, near_copies, sequences
from segkit.doctor.examination import Examined, Finding, Severity, finding
from segkit.doctor.findings import files as of_files
from segkit.doctor.findings import labels as of_labels
from segkit.errors import count as plural

FEW_IMAGES = 10  # to validate on
RARE = 1e-4  # of the labelled pixels
MOST_LOW_BITS = 12  # of 16 that an image uses; of 12 bits 4 are left
FEW_SHOWN = 3  # validation images that show a class


def list_findings(examined: Examined) -> list[Finding]:
    """Return every finding that holds, the most harmful first."""
    found = [one for rule in RULES if (one := rule(examined)) is not None]
    order = ("error", "warning", "note")
    return sorted(found, key=lambda one: order.index(one.severity))


# ---- splits


def empty_splits(examined: Examined) -> Finding | None:
    lines = [f"{split}: no image" for split, indices in examined.inventory.splits.items() if not indices]
    remedy = f"add names to it, or divide anew: {examined.command('split', '--force')}"
    return finding("empty-split", "error", "splits without an image", lines=lines, remedy=remedy)


def no_validation(examined: Examined) -> Finding | None:
    splits, data = examined.inventory.splits, examined.data
    lines = []
    if set(splits) == {EVERYTHING} or data.val not in splits:
        lines = [f"{data.root}: no split to validate on, among {', '.join(splits)}"]
    remedy = f"divide it: {examined.command('split', '--val', '0.1')}"
    return finding("no-validation", "warning", "nothing to validate on", lines=lines, remedy=remedy)


def overlap_by_name(examined: Examined) -> Finding | None:
    lines = []
    for (first, indices), (second, others) in combinations(examined.inventory.splits.items(), 2):
        both = sorted(set(indices) & set(others))
        lines += [f"{examined.items[index].name}: in '{first}' and in '{second}'" for index in both]
    data = examined.data
    if data.train == data.val and data.train != EVERYTHING:
        lines.append(f"data.train and data.val are both '{data.train}': every image is trained on and measured on")
    remedy = f"remove each from one of the two; or divide anew: {examined.command('split', '--force')}"
    return finding("overlap", "error", "images in two splits", lines=lines, remedy=remedy)


def identical_across(examined: Examined) -> Finding | None:
    lines, indices = [], []
    for group in copies(examined.facts):
        first_of = _first_by_splits(examined, group)
        for one, other in combinations(first_of, 2):
            if set(one).isdisjoint(other):
                indices += [first_of[one], first_of[other]]
                lines.append(_two(examined, first_of[one], first_of[other]))
    remedy = "remove one of each two: what was trained on can't be measured on"
    return finding("identical", "error", "identical files in two splits", indices, lines, remedy)


def identical_within(examined: Examined) -> Finding | None:
    digests = examined.facts.labels["digest"]
    lines, indices = [], []
    for group in copies(examined.facts):
        first_of = _first_by_splits(examined, group)
        for other in group:
            first = first_of[tuple(examined.split_of[other])]
            if first != other:
                indices += [first, other]
                contradict = digests[first] != digests[other]
                lines.append(_two(examined, first, other) + (", and their labels differ" if contradict else ""))
    remedy = "keep one of each; an image that exists twice counts twice"
    return finding("copies", "warning", "identical files within a split", indices, lines, remedy)


def _first_by_splits(examined: Examined, group: Sequence[int]) -> dict[tuple[str, ...], int]:
    """Return the first image of a group for each set of splits that any of them is in."""
    first_of: dict[tuple[str, ...], int] = {}
    for index in group:
        if examined.split_of[index]:
            first_of.setdefault(tuple(examined.split_of[index]), index)
    return first_of


def near_duplicates(examined: Examined) -> Finding | None:
    found = near_copies(examined.facts, examined.split_of)
    lines = [_two(examined, first, second) for first, second in found]
    indices = [index for both in found for index in both]
    remedy = "look at them in check.html; remove one of each two from its split if they show the same"
    return finding("near-duplicate", "warning", "images in two splits that look the same", indices, lines, remedy)


def sequences_across(examined: Examined) -> Finding | None:
    lines = [
        f"{found.pattern}: " + ", ".join(f"{count} in {split}" for split, count in found.counts.items())
        for found in sequences(examined.facts, examined.split_of)
    ]
    splits = examined.inventory.splits
    sizes = [word for split in ("val", "test") if split in splits for word in (f"--{split}", str(len(splits[split])))]
    again = examined.command("split", *sizes, "--group-by", "'^(.*?)[0-9]*[^0-9]*$'", "--force")
    remedy = f"scores are too good where both sides hold frames of one sequence; keep them together: {again}"
    return finding("sequence", "warning", "sequences in several splits", lines=lines, remedy=remedy)


def _two(examined: Examined, first: int, second: int) -> str:
    words = [
        f"{examined.items[index].image}" + (f" ({', '.join(splits)})" if (splits := examined.split_of[index]) else "")
        for index in (first, second)
    ]
    return " and ".join(words)


# ---- what there is to learn and to measure


def nothing_labelled(examined: Examined) -> Finding | None:
    empty = [
        split
        for split, indices in examined.inventory.splits.items()
        if examined.can_count(indices) and not examined.pixels(split).sum()
    ]
    lines = [f"{split}: not one labelled pixel in {len(examined.inventory.splits[split])} images" for split in empty]
    harms = {examined.data.train, examined.data.val, EVERYTHING} & set(empty)
    remedy = "check data.ignore_index, data.ignore_values and the labels: every pixel is ignored"
    severity: Severity = "error" if harms else "warning"
    return finding("no-label", severity, "splits without a labelled pixel", lines=lines, remedy=remedy)


def all_ignored(examined: Examined) -> Finding | None:
    if examined.data.unlabeled == "ignore":  # few labelled pixels are what this data set is
        return None
    indices = [index for index in examined.counted if not examined.presence[index].any()]
    lines = [f"{examined.items[index].mask}: every pixel is ignored" for index in indices]
    remedy = "nothing is learned from them; label them, or take them out"
    return finding("all-ignored", "warning", "labels without a labelled pixel", indices, lines, remedy)


def background_only(examined: Examined) -> Finding | None:
    if of_labels.two_levels(examined):  # said already: 255 is read as 'ignore'
        return None
    presence = examined.presence
    indices = [index for index in examined.counted if presence[index, 0] and not presence[index, 1:].any()]
    many = len(indices) > 0.8 * max(1, len(examined.counted))
    name = examined.classes.names[0]
    lines = [f"{examined.items[index].mask}: '{name}' alone" for index in indices]
    remedy = (
        "nearly all are empty: are the labels those of other images, or exported wrongly?"
        if many
        else "right where images show none of the other classes; look at some in check.html"
    )
    return finding("empty", "warning" if many else "note", f"labels that hold '{name}' alone", indices, lines, remedy)


def absent_classes(examined: Examined) -> Finding | None:
    if of_labels.two_levels(examined):
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
    return finding("absent-class", "warning", "classes that are missing", lines=lines, remedy=remedy)


def rare_classes(examined: Examined) -> Finding | None:
    splits = examined.inventory.splits
    split = examined.data.train if examined.data.train in splits else next(iter(splits))
    pixels, shown = examined.pixels(split), examined.shown(split)
    total = max(1, int(pixels.sum()))
    lines = [
        f"{name}: {100 * count / total:.3f} % of the labelled pixels, in {plural(images, 'image')} of {split}"
        for name, count, images in zip(examined.classes.names, pixels.tolist(), shown.tolist(), strict=True)
        if count and (count < RARE * total or images < min(FEW_SHOWN, len(splits[split])))
    ]
    remedy = (
        "label more; or make more of them: data.sampler: repeat_factor, augment.rare_crops: 0.5, "
        "loss.class_weights: log"
    )
    return finding("rare-class", "warning", "classes that are hardly there", lines=lines, remedy=remedy)


def too_small(examined: Examined) -> Finding | None:
    val = examined.data.val
    indices = examined.inventory.splits.get(val)
    if indices is None or val == examined.data.train:
        return None
    lines = []
    if len(indices) < FEW_IMAGES:
        lines.append(f"{val}: {plural(len(indices), 'image')}, expected {FEW_IMAGES} or more")
    shown = zip(examined.classes.names, examined.shown(val).tolist(), strict=True)
    if few := [f"{name} ({count})" for name, count in shown if 0 < count < FEW_SHOWN]:
        lines.append(f"{val}: fewer than {FEW_SHOWN} images that show {', '.join(few)}")
    folds = examined.command("split", "--folds", "5")
    remedy = f"figures of so few move by chance: hold out more, or cross-validate: {folds}"
    return finding("small", "warning", "too little to validate on", lines=lines, remedy=remedy)


def grey_images(examined: Examined) -> Finding | None:
    grey = examined.facts.images["grey"]
    indices = np.flatnonzero(grey).tolist()
    mixed = len(indices) < int(examined.facts.has_image.sum())
    lines = [f"{examined.items[index].image}" for index in indices]
    remedy = (
        "grey beside colour images: fine if new images will be mixed too"
        if mixed
        else "all are grey: hue and saturation jitter do nothing, set augment.hue: 0 augment.saturation: 0"
    )
    return finding("grey", "note", "grey images", indices, lines, remedy)


def low_bits(examined: Examined) -> Finding | None:
    """16-bit images that use 12 bits or fewer in the whole set: of each value, the upper 8 of 16 bits are read."""
    values = examined.facts.images["highest"]
    indices = np.flatnonzero(values).tolist()
    highest = int(values.max(initial=0))
    lines = [f"{examined.items[index].image}: up to {values[index]} of 65535" for index in indices]
    remedy = (
        f"segkit reads the upper 8 of 16 bits, so at most {highest >> 8} of 255 is left: multiply these images by "
        f"{2 ** (16 - highest.bit_length())}, or rescale them to 0..65535, before training and before prediction"
    )
    lines = lines if highest < 2**MOST_LOW_BITS else []
    return finding("low-bits", "note", f"16-bit images of {MOST_LOW_BITS} bits or fewer", indices, lines, remedy)


RULES: tuple[Callable[[Examined], Finding | None], ...] = (
    *of_files.RULES,
    empty_splits,
    *of_labels.RULES,
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
