"""What the facts mean: verdicts in order of harm, each with its files and with what to type.

A verdict is a function from what was examined to a Verdict, or None where there is nothing to say; `VERDICTS` lists
them. Those about label values are in `label_verdicts`. An error stops a training, or makes its figures worthless; a
warning is likely to harm; a note is good to know.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from segkit.data import label_verdicts
from segkit.data.duplicates import copies, near_copies, sequences
from segkit.data.examined import Examined, Verdict, verdict

FEW_PICTURES = 10  # to validate on
FEW_SHOWN = 3  # validation pictures that show a class
RARE_SHARE = 1e-4  # of the labelled pixels


def judge(examined: Examined) -> list[Verdict]:
    """Return every verdict that holds, the most harmful first."""
    found = [one for rule in VERDICTS if (one := rule(examined)) is not None]
    order = ("error", "warning", "note")
    return sorted(found, key=lambda one: order.index(one.severity))


# ---- files


def split_files(examined: Examined) -> Verdict | None:
    lines = examined.inventory.problems
    remedy = "correct the split file, or let `segkit check --fix OUT` write clean ones"
    return verdict("split-file", "error", "lines of a split file that can't be used", lines=lines, remedy=remedy)


def missing_images(examined: Examined) -> Verdict | None:
    places = [place for place, pair in enumerate(examined.facts.pairs) if pair.image is None]
    lines = [f"{examined.pairs[place].name}: named by a split, but there is no such image" for place in places]
    remedy = "add the images, or take the names out of the split (--fix OUT does)"
    return verdict("missing-image", "error", "images that aren't there", places, lines, remedy)


def missing_labels(examined: Examined) -> Verdict | None:
    places = [place for place, pair in enumerate(examined.facts.pairs) if pair.image and pair.mask is None]
    lines = [f"{examined.pairs[place].image}: no label" for place in places]
    remedy = examined.label_hint or "add the labels, or take the images out of the split (--fix OUT does)"
    return verdict("missing-label", "error", "images without a label", places, lines, remedy)


def same_names(examined: Examined) -> Verdict | None:
    remedy = "remove one of each; segkit can't know which is meant"
    return verdict("same-name", "error", "files of the same name", lines=examined.inventory.twice, remedy=remedy)


def unreadable_images(examined: Examined) -> Verdict | None:
    faults = examined.facts.image_faults
    remedy = "copy the files again, or take them out of the split (--fix OUT does)"
    return verdict("unreadable-image", "error", "images that can't be read", list(faults), faults.values(), remedy)


def unreadable_labels(examined: Examined) -> Verdict | None:
    faults = examined.facts.label_faults
    remedy = "export the labels again, or take their images out of the split (--fix OUT does)"
    return verdict("unreadable-label", "error", "labels that can't be read", list(faults), faults.values(), remedy)


def wrong_suffixes(examined: Examined) -> Verdict | None:
    faults = examined.facts.wrong_suffixes
    remedy = "segkit reads them by their content; rename them for other programs"
    return verdict("wrong-suffix", "warning", "files with a wrong suffix", list(faults), faults.values(), remedy)


def spare_labels(examined: Examined) -> Verdict | None:
    lines = [f"{path}: no image of that name" for path in examined.inventory.spare_labels]
    remedy = "they aren't used; add their images, or remove them"
    return verdict("spare-label", "warning", "labels without an image", lines=lines, remedy=remedy)


def unread_formats(examined: Examined) -> Verdict | None:
    lines = [str(path) for path in examined.inventory.unread]
    remedy = "convert them to PNG or JPEG; segkit passes over them"
    return verdict(
        "unread-format", "warning", "pictures in formats that segkit doesn't read", lines=lines, remedy=remedy
    )


def unlisted(examined: Examined) -> Verdict | None:
    lines = [str(path) for path in examined.inventory.unlisted]
    remedy = f"if they should take part: {examined.command('split')}"
    return verdict("unlisted", "note", "labelled pictures in none of the splits", lines=lines, remedy=remedy)


# ---- sizes


def sizes_differ(examined: Examined) -> Verdict | None:
    places, lines = _size_lines(examined, lambda hw, mask_hw, _: hw != mask_hw and hw != mask_hw[::-1])
    remedy = "export the labels at the images' size; or let --fix OUT --resize make them equal (thin objects suffer)"
    return verdict("size", "error", "labels of another size than their image", places, lines, remedy)


def transposed(examined: Examined) -> Verdict | None:
    places, lines = _size_lines(
        examined, lambda hw, mask_hw, turn: hw != mask_hw and hw == mask_hw[::-1] and turn not in (5, 6, 7, 8)
    )
    remedy = "export the labels upright; nothing tells whether they are turned to the left or to the right"
    return verdict("transposed", "error", "labels turned by 90 degrees", places, lines, remedy)


def turned_by_exif(examined: Examined) -> Verdict | None:
    places, lines = _size_lines(
        examined, lambda hw, mask_hw, turn: hw != mask_hw and hw == mask_hw[::-1] and turn in (5, 6, 7, 8)
    )
    remedy = "the label fits the pixels as the camera stored them: --fix OUT turns the labels as EXIF turns the images"
    return verdict("exif", "error", "images turned by EXIF, their labels not", places, lines, remedy)


def maybe_turned(examined: Examined) -> Verdict | None:
    places, lines = _size_lines(examined, lambda hw, mask_hw, turn: hw == mask_hw and _same_size_turned(hw, turn))
    remedy = "their sizes can't tell whether the labels are turned as well: look at the overlays in check.html"
    return verdict("exif-unsure", "warning", "images turned or mirrored by EXIF", places, lines, remedy)


def _same_size_turned(hw: tuple[int, int], orientation: int) -> bool:
    return orientation in (2, 3, 4) or (orientation in (5, 6, 7, 8) and hw[0] == hw[1])


def _size_lines(
    examined: Examined, holds: Callable[[tuple[int, int], tuple[int, int], int], bool]
) -> tuple[list[int], list[str]]:
    facts = examined.facts
    places, lines = [], []
    both = np.flatnonzero(facts.has_image & facts.has_label)
    for place, hw, mask_hw, turn in zip(
        both.tolist(),
        facts.images["hw"][both].tolist(),
        facts.labels["hw"][both].tolist(),
        facts.images["orientation"][both].tolist(),
        strict=True,
    ):
        if holds(tuple(hw), tuple(mask_hw), turn):
            places.append(place)
            turned = f", EXIF orientation {turn}" if turn != 1 else ""
            lines.append(f"{examined.pairs[place].mask}: {mask_hw[1]}x{mask_hw[0]}, its image {hw[1]}x{hw[0]}{turned}")
    return places, lines


# ---- splits


def overlap_by_name(examined: Examined) -> Verdict | None:
    lines = []
    for (first, places), (second, others) in combinations(examined.inventory.splits.items(), 2):
        both = sorted(set(places) & set(others))
        lines += [f"{examined.pairs[place].name}: in '{first}' and in '{second}'" for place in both]
    remedy = "remove each from one of the two; or divide anew: " + examined.command("split", "--force")
    return verdict("overlap", "error", "pictures in two splits", lines=lines, remedy=remedy)


def identical_across(examined: Examined) -> Verdict | None:
    split_of = examined.split_of
    lines, places = [], []
    for group in copies(examined.facts):
        first = group[0]
        for other in group[1:]:
            if split_of[first] and split_of[other] and set(split_of[first]).isdisjoint(split_of[other]):
                places += [first, other]
                lines.append(_two(examined, first, other))
    remedy = "remove one of each two: what was trained on can't be measured on"
    return verdict("identical", "error", "identical files in two splits", places, lines, remedy)


def identical_within(examined: Examined) -> Verdict | None:
    split_of, digests = examined.split_of, examined.facts.labels["digest"]
    lines, places = [], []
    for group in copies(examined.facts):
        for other in group[1:]:
            if split_of[group[0]] == split_of[other]:
                places += [group[0], other]
                contradict = digests[group[0]] != digests[other]
                lines.append(_two(examined, group[0], other) + (", and their labels differ" if contradict else ""))
    remedy = "keep one of each; a picture that is there twice counts twice"
    return verdict("copies", "warning", "identical files within a split", places, lines, remedy)


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
    remedy = (
        "scores will be too good where frames of one sequence stand on both sides; keep them together: "
        + examined.command("split", "--group-by", "'^(.*?)[0-9]+$'", "--force")
    )
    return verdict("sequence", "warning", "sequences that stand in several splits", lines=lines, remedy=remedy)


def _two(examined: Examined, first: int, second: int) -> str:
    words = [
        f"{examined.pairs[place].image}" + (f" ({', '.join(splits)})" if (splits := examined.split_of[place]) else "")
        for place in (first, second)
    ]
    return " and ".join(words)


# ---- what there is to learn and to measure


def nothing_labelled(examined: Examined) -> Verdict | None:
    lines = [
        f"{split}: not one labelled pixel in {len(places)} pictures"
        for split, places in examined.inventory.splits.items()
        if places and examined.readable(places) and not examined.pixels(split).sum()
    ]
    remedy = "check data.ignore_index, data.ignore_values and the labels: every pixel is ignored"
    return verdict("no-label", "error", "splits without a labelled pixel", lines=lines, remedy=remedy)


def all_ignored(examined: Examined) -> Verdict | None:
    places = [place for place in examined.read_places if not examined.presence[place].any()]
    lines = [f"{examined.pairs[place].mask}: every pixel is ignored" for place in places]
    remedy = "nothing is learned from them; label them, or take them out"
    return verdict("all-ignored", "warning", "labels without a labelled pixel", places, lines, remedy)


def background_only(examined: Examined) -> Verdict | None:
    presence = examined.presence
    places = [place for place in examined.read_places if presence[place, 0] and not presence[place, 1:].any()]
    many = len(places) > 0.8 * max(1, len(examined.read_places))
    name = examined.classes.names[0]
    lines = [f"{examined.pairs[place].mask}: '{name}' alone" for place in places]
    remedy = (
        "nearly all are empty: are the labels those of other pictures, or exported wrongly?"
        if many
        else "right where pictures show none of the other classes; look at some in check.html"
    )
    return verdict("empty", "warning" if many else "note", f"labels that hold '{name}' alone", places, lines, remedy)


def absent_classes(examined: Examined) -> Verdict | None:
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
        f"{name}: {100 * count / total:.3f} % of the labelled pixels, in {_count(pictures, 'picture')} of {split}"
        for name, count, pictures in zip(examined.classes.names, pixels.tolist(), shown.tolist(), strict=True)
        if count and (count < RARE_SHARE * total or pictures < FEW_SHOWN)
    ]
    remedy = (
        "label more; or make more of them: data.sampler: repeat_factor, augment.rare_crops: 0.5, "
        "loss.class_weights: log"
    )
    return verdict("rare-class", "warning", "classes that are hardly there", lines=lines, remedy=remedy)


def too_small(examined: Examined) -> Verdict | None:
    val = examined.data.val
    places = examined.inventory.splits.get(val)
    if places is None:
        return None
    lines = []
    if len(places) < FEW_PICTURES:
        lines.append(f"{val}: {_count(len(places), 'picture')}, expected {FEW_PICTURES} or more")
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


VERDICTS: tuple[Callable[[Examined], Verdict | None], ...] = (
    split_files,
    missing_images,
    missing_labels,
    same_names,
    unreadable_images,
    unreadable_labels,
    *label_verdicts.VERDICTS,
    sizes_differ,
    transposed,
    turned_by_exif,
    nothing_labelled,
    overlap_by_name,
    identical_across,
    maybe_turned,
    near_duplicates,
    sequences_across,
    all_ignored,
    background_only,
    absent_classes,
    rare_classes,
    too_small,
    identical_within,
    spare_labels,
    unread_formats,
    wrong_suffixes,
    unlisted,
    grey_images,
)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
