"""Write a repaired copy of a data set, in VOC layout; the source is only read.

What is certain is done: values mapped, the classes' own colours turned into ids, labels turned as EXIF turns their
images, names and split files cleaned. All else is left out. Labels are written as palette PNGs in the classes'
colours; every other change is a row of changes.csv.
"""

import csv
import io
import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segkit.datasets.images import QUARTER_TURNS
from segkit.datasets.masks import COLOR_MODES, read_stored_label
from segkit.datasets.split_folders import voc_root
from segkit.doctor.duplicates import copies
from segkit.doctor.examination import Examined
from segkit.doctor.findings.labels import swapped_palettes
from segkit.doctor.label_maps import Nearest, Remaps, build_remaps
from segkit.errors import DataError, count
from segkit.formats.folders import write_voc
from segkit.formats.options import WriteOptions
from segkit.formats.sample import Sample, SampleSet
from segkit.formats.writing import check_path, describe_use, fresh_folder, refuse_inside, write_plainly
from segkit.imaging.resize import resize_mask

MOST_LOST = 0.2  # share of a label's pixels that may become ignored because they are no class


@dataclass(frozen=True)
class Change:
    """One thing that differs between a data set and its repaired copy."""

    name: str
    file: str
    what: str


@dataclass(frozen=True)
class Fixed:
    """The copy: its images by split, how many were left out, and every change."""

    output: Path
    counts: dict[str, int]
    num_left_out: int
    changes: list[Change]


def fix(examined: Examined, output: Path, *, resize: bool = False) -> Fixed:
    """Write a repaired copy of an examined data set to an empty folder.

    With `resize`, labels of another size, but of the shape of their image, are resized to it, by nearest pixel; else
    those images are left out. An image of two splits stays in the one that measures (the later of train,
    val, test).

    Raises:
        DataError: nothing is left, or a file has changed since it was examined.
        RunFolderError: the folder isn't empty, or can't be written to.
    """
    refuse_inside(Path(examined.data.root), output)
    changes: list[Change] = []
    rules = Rules(build_remaps(examined), swapped_palettes(examined), resize)
    indices = range(len(examined.items))
    whole = {index: kept for index in indices if (kept := _keep(examined, index, rules, changes))}
    splits = {split: [p for p in listed if p in whole] for split, listed in examined.inventory.splits.items()}
    _part(examined, splits, changes)
    changes += _of_the_set(examined)
    named = _names(examined, splits)
    images = {split: [replace(whole[p], name=named[p]) for p in kept] for split, kept in splits.items() if kept}
    if not images:
        raise DataError(f"{examined.data.root}: not one image is left to write; do what the errors above say first")
    with fresh_folder(output) as part:
        write_voc(SampleSet(images, examined.classes), part, WriteOptions())
        _write_changes(part / "changes.csv", changes)
    counts = {split: len(kept) for split, kept in images.items()}
    return Fixed(output, counts, len(indices) - len(whole), changes)


# ---- one image


@dataclass(frozen=True)
class Rules:
    """What holds for every image: how labels are remapped, whose palettes say nothing, whether labels are resized."""

    remaps: Remaps
    swapped: frozenset[int]
    resize: bool


def _keep(examined: Examined, index: int, rules: Rules, changes: list[Change]) -> Sample | None:
    """Return an item as it will be written, or None; note what is changed."""
    item, facts = examined.items[index], examined.facts

    def note(what: str, file: object = item.mask) -> None:
        changes.append(Change(item.name, str(file), what))

    if (why := _why_left_out(examined, index, rules)) or item.image is None or item.mask is None:
        note(f"left out: {why}", item.mask or item.image or "")
        return None
    image_hw, mask_hw, orientation = _sizes(examined, index)
    turned = _placement(image_hw, mask_hw, orientation, rules.resize) == "turned"
    said, remap = rules.remaps[examined.kinds[index] or ""]
    if said:
        note(said)
    for wrong in facts.wrong_suffixes.get(index, ()):
        file, _, found = wrong.partition(": ")
        note(f"written with its right suffix, since it is {found}", file)
    if turned:
        note(f"label turned as EXIF orientation {orientation} turns the image")
    if image_hw not in (mask_hw, mask_hw[::-1]):
        note(f"label resized from {mask_hw[1]}x{mask_hw[0]} to {image_hw[1]}x{image_hw[0]}")
    mask_file = item.mask

    def read_mask() -> np.ndarray:
        mask = remap(read_stored_label(mask_file).values)
        return resize_mask(_turn(mask, orientation) if turned else mask, image_hw)

    return Sample(item.name, item.image, read_mask)


def _why_left_out(examined: Examined, index: int, rules: Rules) -> str:
    """Return why an item can't be repaired; '' if it can."""
    item, facts = examined.items[index], examined.facts
    if item.image is None or item.mask is None:
        return "no image" if item.image is None else "no label"
    if index in facts.image_faults or index in facts.label_faults:
        return "can't be read"
    try:
        check_path(item.name, where=str(item.image))
    except DataError as error:
        return str(error)
    if index in rules.swapped:
        return "its palette gives other ids to the colours of the other labels"
    image_hw, mask_hw, orientation = _sizes(examined, index)
    if _placement(image_hw, mask_hw, orientation, rules.resize) is None:
        return f"the label is {mask_hw[1]}x{mask_hw[0]}, the image {image_hw[1]}x{image_hw[0]}"
    if (kind := examined.kinds[index]) not in rules.remaps:
        return "what its label stores can't be told"
    found, remap = facts.values(index), rules.remaps[kind][1]
    if kind == "unknown":
        lost = ~examined.reader.table.knows(found.values) & (remap(found.values) == examined.classes.ignore_index)
        if found.pixels[lost].sum() > MOST_LOST * found.pixels.sum():
            return "much of what it holds is no class"
    in_color = facts.labels["mode"][index] in COLOR_MODES
    if isinstance(remap, Nearest) and not remap.fits(found, in_color=in_color):
        return "its values are far from those of the classes"
    return ""


Size = tuple[int, int]  # (height, width)


def _sizes(examined: Examined, index: int) -> tuple[Size, Size, int]:
    """Return the sizes of an item's image and label, and the image's EXIF orientation."""
    facts = examined.facts
    height, width = facts.images["hw"][index].tolist()
    mask_height, mask_width = facts.labels["hw"][index].tolist()
    return (height, width), (mask_height, mask_width), int(facts.images["orientation"][index])


def _placement(image_hw: Size, mask_hw: Size, orientation: int, resize: bool) -> Literal["straight", "turned"] | None:
    """Return how a label lies on its image: as it is, turned as EXIF turns the image, or in a way that can't be told.

    With `resize`, a label of another size does if it has the image's shape, within a pixel.
    """
    if mask_hw == image_hw:
        return "straight"
    is_turned = orientation in QUARTER_TURNS
    if mask_hw == image_hw[::-1]:
        return "turned" if is_turned else None
    straight, turned = _same_shape(image_hw, mask_hw), is_turned and _same_shape(image_hw, mask_hw[::-1])
    if not resize or straight == turned:
        return None
    return "turned" if turned else "straight"


def _same_shape(first: Size, second: Size) -> bool:
    return abs(first[0] * second[1] - first[1] * second[0]) <= max(*first, *second)


def _turn(mask: np.ndarray, orientation: int) -> np.ndarray:
    """Turn ids [h, w] upright as EXIF orientations 5 to 8 say."""
    if orientation in (5, 7):
        mask = cv2.transpose(mask)
        return mask if orientation == 5 else cv2.rotate(mask, cv2.ROTATE_180)
    return cv2.rotate(mask, cv2.ROTATE_90_CLOCKWISE if orientation == 6 else cv2.ROTATE_90_COUNTERCLOCKWISE)


# ---- splits and names


def _part(examined: Examined, splits: dict[str, list[int]], changes: list[Change]) -> None:
    """Leave each image, and each of its copies, in one split alone: the one that measures."""
    data = examined.data
    order = sorted(splits, key=lambda split: (split != data.train, split != data.val))
    group_of = {index: group[0] for group in copies(examined.facts) for index in group}
    taken: dict[int, str] = {}
    for split in reversed(order):
        kept = []
        for index in splits[split]:
            other = taken.get(group_of.get(index, index), split)
            if other == split:
                kept.append(index)
            else:
                item = examined.items[index]
                changes.append(Change(item.name, str(item.image), f"taken out of {split}: it is in {other} too"))
        for index in kept:
            taken[group_of.get(index, index)] = split
        splits[split] = kept


def _of_the_set(examined: Examined) -> list[Change]:
    """Return what isn't about an image that was looked at."""
    inventory, data = examined.inventory, examined.data
    changes = [Change("", line.partition(":")[0], line.partition(": ")[2]) for line in inventory.problems]
    if data.mask_values is not None:
        changes.append(Change("", "", f"the values {list(data.mask_values)} became 0 to {len(data.mask_values) - 1}"))
    changes += [Change(path.stem, str(path), "left out: in none of the splits") for path in inventory.unlisted]
    root = Path(data.root)
    splits = voc_root(root) / "ImageSets" / "Segmentation" if data.layout == "voc" else root / "splits"
    others = sorted(path for path in splits.glob("*.txt") if path.stem not in inventory.splits)
    return [*changes, *(Change("", str(path), "split file not copied") for path in others)]


def _names(examined: Examined, splits: dict[str, list[int]]) -> dict[int, str]:
    """Return a name for each image: its own, behind its split's where images of two splits share one."""
    split_of = {index: split for split, indices in splits.items() for index in indices}
    counts = Counter(examined.items[index].name for index in split_of)
    return {
        index: name if counts[name := examined.items[index].name] == 1 else f"{split}/{name}"
        for index, split in split_of.items()
    }


def _write_changes(path: Path, changes: list[Change]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "file", "change"])
    writer.writerows((change.name, change.file, change.what) for change in changes)
    write_plainly(path, text.getvalue().encode())


def describe_fixed(fixed: Fixed) -> str:
    """Return what a user reads."""
    counts = ", ".join(f"{split} {count}" for split, count in fixed.counts.items())
    left_out = f"{count(fixed.num_left_out, 'image')} left out"
    return "\n".join(
        [
            f"written: {fixed.output} ({counts}); {left_out}, {len(fixed.changes)} changes: "
            f"{fixed.output / 'changes.csv'}",
            *describe_use("voc", fixed.output, list(fixed.counts)),
            f"check it: segkit check {shlex.quote(str(fixed.output))}",
        ]
    )
