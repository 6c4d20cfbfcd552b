"""Write a mended copy of a data set, in VOC layout; the source is only read.

What can be mended for certain is: values mapped, colours turned into ids, palettes attached, labels turned as EXIF
turns their images, names and split files cleaned. What can't be is left out. Every change is a row of changes.csv.
"""

import csv
import io
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from segkit.data.duplicates import copies
from segkit.data.examined import Examined, Kind
from segkit.data.facts import Values, snap
from segkit.data.label_verdicts import color_table, looks_like_instances, off_by_one, two_levels, values_of
from segkit.data.masks import COLOR_MODES, color_codes, read_stored_label
from segkit.errors import DataError
from segkit.formats.folders import write_voc
from segkit.formats.pictures import Picture, PictureSet
from segkit.formats.writing import fresh_folder, write_plainly
from segkit.geometry import resize_mask

GREY_LEVELS = 12  # by which the channels of a grey JPEG may differ
FAR_SHARE = 0.05  # of a label's pixels that may be far from every class's value


@dataclass(frozen=True)
class Change:
    """One thing that differs between a data set and its mended copy."""

    name: str
    file: str
    what: str


@dataclass(frozen=True)
class Mended:
    """The copy: its pictures by split, how many were left out, and every change."""

    output: Path
    counts: dict[str, int]
    num_left_out: int
    changes: list[Change]


def mend(examined: Examined, output: Path, *, resize: bool = False) -> Mended:
    """Write a mended copy of an examined data set to an empty folder.

    With `resize`, labels of another size than their image are resized to it, by nearest pixel; else those pictures are
    left out. A picture that stands in two splits stays in the one that measures (the later of train, val, test).

    Raises:
        DataError: nothing is left, or a file has changed since it was examined.
        RunFolderError: the folder isn't empty, or can't be written to.
    """
    changes: list[Change] = []
    remaps = _remaps(examined)
    places = range(len(examined.pairs))
    whole = {place: kept for place in places if (kept := _keep(examined, place, resize, remaps, changes))}
    splits = {split: [p for p in listed if p in whole] for split, listed in examined.inventory.splits.items()}
    _part(examined, splits, changes)
    changes += [Change("", line.partition(":")[0], line.partition(": ")[2]) for line in examined.inventory.problems]
    named = _names(examined, splits)
    pictures = {split: [replace(whole[p], name=named[p]) for p in kept] for split, kept in splits.items() if kept}
    if not pictures:
        raise DataError(f"{examined.data.root}: not one picture is left to write; see what was found above")
    with fresh_folder(output) as part:
        write_voc(PictureSet(pictures, examined.classes), part)
        _write_changes(part / "changes.csv", changes)
    counts = {split: len(kept) for split, kept in pictures.items()}
    return Mended(output, counts, len(places) - len(whole), changes)


# ---- one picture


Remap = Callable[[np.ndarray], np.ndarray]  # what a label stores -> class ids uint8 [h, w]
Remaps = dict[str, tuple[str, Remap]]  # by kind of label: what to log ('': nothing), and what to do


def _keep(examined: Examined, place: int, resize: bool, remaps: Remaps, changes: list[Change]) -> Picture | None:
    """Return a pair as it will be written, or None; note what is changed."""
    pair, facts = examined.pairs[place], examined.facts

    def note(what: str, file: object = pair.mask) -> None:
        changes.append(Change(pair.name, str(file), what))

    if (why := _why_left_out(examined, place, resize, remaps)) or pair.image is None or pair.mask is None:
        note(f"left out: {why}", pair.mask or pair.image or "")
        return None
    height, width = facts.images["hw"][place].tolist()
    mask_height, mask_width = facts.labels["hw"][place].tolist()
    turn = int(facts.images["orientation"][place])
    turned = height != width and (height, width) == (mask_width, mask_height)
    said, remap = remaps[examined.kinds[place] or ""]
    if said:
        note(said)
    if wrong := facts.wrong_suffixes.get(place):
        file, _, found = wrong.partition(": ")
        note(f"written with its right suffix, since it is {found}", file)
    if turned:
        note(f"label turned as EXIF orientation {turn} turns the image")
    elif (height, width) != (mask_height, mask_width):
        note(f"label resized from {mask_width}x{mask_height} to {width}x{height}")
    mask_file = pair.mask

    def read_mask() -> np.ndarray:
        mask = remap(read_stored_label(mask_file).values)
        return resize_mask(_turn(mask, turn) if turned else mask, (height, width))

    return Picture(pair.name, pair.image, read_mask)


def _why_left_out(examined: Examined, place: int, resize: bool, remaps: Remaps) -> str:
    """Return why a pair can't be mended; '' if it can."""
    pair, facts = examined.pairs[place], examined.facts
    if pair.image is None or pair.mask is None:
        return "no image" if pair.image is None else "no label"
    if place in facts.image_faults or place in facts.label_faults:
        return "can't be read"
    image_hw, mask_hw = (table["hw"][place].tolist() for table in (facts.images, facts.labels))
    if image_hw != mask_hw:
        transposed = image_hw == mask_hw[::-1]
        turned = transposed and facts.images["orientation"][place] in (5, 6, 7, 8)
        if not turned and (transposed or not resize):
            return f"the label is {mask_hw[1]}x{mask_hw[0]}, the image {image_hw[1]}x{image_hw[0]}"
    if (kind := examined.kinds[place]) not in remaps:
        return "what its label stores can't be told"
    remap = remaps[kind][1]
    in_color = facts.labels["mode"][place] in COLOR_MODES
    if isinstance(remap, Nearest) and not remap.fits(facts.values(place), in_color=in_color):
        return "its values are far from those of the classes"
    return ""


def _turn(mask: np.ndarray, orientation: int) -> np.ndarray:
    """Turn ids [h, w] upright as EXIF orientations 5 to 8 say."""
    if orientation in (5, 7):
        mask = cv2.transpose(mask)
        return mask if orientation == 5 else cv2.rotate(mask, cv2.ROTATE_180)
    return cv2.rotate(mask, cv2.ROTATE_90_CLOCKWISE if orientation == 6 else cv2.ROTATE_90_COUNTERCLOCKWISE)


# ---- values


def _remaps(examined: Examined) -> Remaps:
    """Return, for each kind of label that can be mended, what to log ('': nothing) and how its values become ids."""
    classes, reader = examined.classes, examined.reader
    ignored = classes.ignore_index
    known = reader.table.copy()
    known[known == reader.unknown] = ignored
    remaps: Remaps = {"right": ("", lambda stored: known[_codes(stored)])}
    if not looks_like_instances(examined):
        remaps["unknown"] = ("values that are no class became ignored", remaps["right"][1])
    levels = two_levels(examined)
    if levels is not None:
        shades = np.full(2**16, ignored, np.uint8)
        shades[list(levels)] = 0, 1
        said = "{} and {} became 0 and 1".format(*levels)
        remaps["right"] = remaps["unknown"] = (said, lambda stored: shades[_codes(stored)])
    elif off_by_one(examined):
        shifted = np.full(2**16, ignored, np.uint8)
        shifted[1 : len(classes) + 1] = np.arange(len(classes))
        said = f"1 to {len(classes)} became 0 to {len(classes) - 1}, 0 became ignored"
        remaps["right"] = remaps["unknown"] = (said, lambda stored: shifted[_codes(stored)])
    for kind in ("soft", "jpeg"):
        remaps[kind] = ("each pixel got the nearest value of a class", Nearest.build(examined, kind))
    colors = color_table(examined)
    if colors and len(colors) <= len(classes):
        by_color = np.full(2**24, ignored, np.uint8)
        by_color[colors] = np.arange(len(colors))
        remaps["colors"] = ("colours became ids, others ignored", lambda stored: by_color[_codes(stored)])
    return remaps


@dataclass(frozen=True)
class Nearest:
    """Gives each pixel the class whose value is nearest: for labels that were smoothed or compressed.

    `values` are those of classes and of ignored pixels, sorted; `ids` what each becomes.
    """

    values: np.ndarray
    ids: np.ndarray
    by_color: bool

    @classmethod
    def build(cls, examined: Examined, kind: Kind) -> "Nearest":
        """Take the values that labels should hold; of two classes, dark and bright, those that they do hold."""
        reader = examined.reader
        ids = {int(value): int(reader.table[value]) for value in np.flatnonzero(reader.table != reader.unknown)}
        bright = max((value & 255 for value in values_of(examined, kind)), default=0)  # of grey pixels, any channel
        if len(examined.classes) == 2 and not reader.mapped and bright > 16:
            ids = {0: 0, bright: 1}
        values = sorted(ids)
        return cls(np.array(values, np.int64), np.array([ids[v] for v in values], np.uint8), reader.by_color)

    def fits(self, found: Values, *, in_color: bool) -> bool:
        """True if nearly every pixel is near a value, measured by the gap between values: else it says nothing."""
        values = found.values
        if in_color and not self.by_color:
            channels = np.stack([values >> 16, values >> 8 & 255, values & 255])
            if found.pixels[np.ptp(channels, axis=0) > GREY_LEVELS].sum() > FAR_SHARE * found.pixels.sum():
                return False  # colours, where ids are expected
            values = channels.max(axis=0)
        near = snap(values, self.values)
        gap = 64 if self.by_color else int(np.diff(self.values[self.values < 255]).min(initial=255))
        far = np.abs(values - near) > max(1, gap // 4)
        if self.by_color:
            far = sum(np.abs((values >> bits & 255) - (near >> bits & 255)) for bits in (16, 8, 0)) > gap
        return bool(found.pixels[far].sum() <= FAR_SHARE * found.pixels.sum())

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        codes = stored.max(axis=2) if stored.ndim == 3 and not self.by_color else _codes(stored)
        values = np.unique(codes)
        near = self.ids[np.searchsorted(self.values, snap(values.astype(np.int64), self.values))]
        return near[np.searchsorted(values, codes)]


def _codes(stored: np.ndarray) -> np.ndarray:
    return color_codes(stored) if stored.ndim == 3 else stored


# ---- splits and names


def _part(examined: Examined, splits: dict[str, list[int]], changes: list[Change]) -> None:
    """Leave each picture, and each of its copies, in one split alone: the one that measures."""
    data = examined.data
    order = sorted(splits, key=lambda split: (split != data.train, split != data.val))
    group_of = {place: group[0] for group in copies(examined.facts) for place in group}
    taken: dict[int, str] = {}
    for split in reversed(order):
        kept = []
        for place in splits[split]:
            other = taken.get(group_of.get(place, place), split)
            if other == split:
                kept.append(place)
            else:
                pair = examined.pairs[place]
                changes.append(Change(pair.name, str(pair.image), f"taken out of {split}: it is in {other} too"))
        for place in kept:
            taken[group_of.get(place, place)] = split
        splits[split] = kept


def _names(examined: Examined, splits: dict[str, list[int]]) -> dict[int, str]:
    """Return a name for each picture: its own, behind its split's where pictures of two splits share one."""
    split_of = {place: split for split, places in splits.items() for place in places}
    counts = Counter(examined.pairs[place].name for place in split_of)
    return {
        place: name if counts[name := examined.pairs[place].name] == 1 else f"{split}/{name}"
        for place, split in split_of.items()
    }


def _write_changes(path: Path, changes: list[Change]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "file", "change"])
    writer.writerows((change.name, change.file, change.what) for change in changes)
    write_plainly(path, text.getvalue().encode())


def describe_mended(mended: Mended) -> str:
    """Return what a user reads."""
    counts = ", ".join(f"{split} {count}" for split, count in mended.counts.items())
    root = shlex.quote(str(mended.output))
    splits = list(mended.counts)
    use = f"data.root={root} data.layout=voc" + "".join(
        f" data.{key}={split}" for key, split in zip(("train", "val"), splits, strict=False) if split != key
    )
    return (
        f"written: {mended.output} ({counts}); {mended.num_left_out} pictures left out, {len(mended.changes)} changes "
        f"in {mended.output / 'changes.csv'}\n"
        f"train on it: {use}, without data.mask_values; check it: segkit check {root}"
    )
