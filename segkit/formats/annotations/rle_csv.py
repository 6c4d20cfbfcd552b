"""Kaggle's run-length CSV: pairs of start and length, counted from 1, down the columns from left to right.

Columns (in any case, `_` or not): ImageId (or image, filename, id, img), EncodedPixels (or rle, encoded,
segmentation), and, if there is one, ClassId (or class, label, category). Where an id and a class share a column
(Image_Label, ImageId_ClassId), the class is what follows the image's suffix and a `_`. Numbers become class_N;
without classes everything is `object`. Columns height and width, if there, are compared with the image.

An image may have many rows; later rows cover earlier ones. Pixels of no run become background. A run that is empty,
-1 or NaN holds nothing. Images without any row are left out, with a note. Runs that count along the rows, as some
competitions had them, can't be distinguished from these and come out wrong: look at an overlay.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segkit.errors import DataError, count, summarize
from segkit.formats.annotations.image_folder import ImageFolder
from segkit.formats.documents import find_one
from segkit.formats.options import ReadOptions
from segkit.formats.raster.drawing import draw_shapes
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, arrange
from segkit.formats.vocabulary import Vocabulary

COLUMNS = {
    "image": ("imageid", "image", "imagename", "filename", "file", "img", "id"),
    "runs": ("encodedpixels", "rle", "encoded", "segmentation", "rlemask", "mask"),
    "class": ("classid", "class", "classname", "label", "category"),
    "height": ("height", "imgheight"),
    "width": ("width", "imgwidth"),
}
BOTH = ("imagelabel", "imageidclassid")
NOTHING = {"", "-1", "nan", "none"}


@dataclass(frozen=True)
class _Row:
    where: str
    image: str
    label: str
    runs: str
    size_hw: tuple[int, int] | None


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a CSV, or the one CSV in a folder; the images lie below options.images, or below the CSV's folder.

    Raises:
        DataError: no CSV or several, no column of runs, a missing image. Runs are checked on reading.
        ConfigError: the options' classes can't be.
    """
    path = find_one(source, ".csv", expected="of runs")
    rows = _read_rows(path)
    folder = ImageFolder.scan(options.images or path.parent)
    labels = sorted({row.label for row in rows if row.label}, key=_natural)
    vocabulary = Vocabulary.build(path, labels, options)
    by_image: dict[Path, list[_Row]] = defaultdict(list)
    known: dict[str, Path] = {}
    problems = []
    for row in rows:
        try:
            image = known[row.image] = known.get(row.image) or folder.find(row.image, where=row.where)
        except DataError as error:
            problems.append(str(error))
        else:
            by_image[image].append(row)
    if problems:
        raise DataError(summarize(problems))
    samples = [
        Sample(folder.name(image), image, partial(_read_mask, image, own, vocabulary), is_sized=True)
        for image, own in sorted(by_image.items())
    ]
    rest = len({found for paths in folder.by_name.values() for found in paths}) - len(samples)
    notes = (f"{count(rest, 'image')} without a row left out",) if rest else ()
    return SampleSet(arrange({NO_SPLIT: samples}), vocabulary.classes, (*vocabulary.notes, *notes))


def decode(runs: str, size_hw: tuple[int, int], *, where: str) -> np.ndarray:
    """Return the pixels of runs, bool [h, w].

    Raises:
        DataError: not pairs of whole numbers, a run that is empty, leaves the image or overlaps another.
    """
    height, width = size_hw
    if runs.strip().lower() in NOTHING:
        return np.zeros(size_hw, bool)
    words = runs.replace(",", " ").split()
    if len(words) % 2 or not all(re.fullmatch(r"[0-9]{1,12}", word) for word in words):
        odd = f"an odd count of numbers ({len(words)})" if len(words) % 2 else "something else than whole numbers"
        raise DataError(f"{where}: found {odd} in its runs, expected pairs of start and length; export the row again")
    starts, lengths = np.array(words, np.int64).reshape(-1, 2)[np.argsort(np.array(words[::2], np.int64))].T
    ends = starts + lengths
    if starts[0] < 1 or ends.max() > height * width + 1 or lengths.min() < 1:
        raise DataError(
            f"{where}: found runs from {starts[0]} to {ends.max() - 1}, the shortest of {lengths.min()} pixels, "
            f"expected 1..{height * width} for an image of {width}x{height} pixels; is it the right image, in its "
            "original size?"
        )
    over = starts[1:] < ends[:-1]
    if over.any():
        raise DataError(f"{where}: the runs at {starts[:-1][over][0]} and {starts[1:][over][0]} overlap; fix the row")
    steps = np.zeros(height * width + 1, np.int8)
    steps[starts - 1] += 1
    np.subtract.at(steps, ends - 1, 1)
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(width, height).T


def _read_mask(image: Path, rows: Sequence[_Row], vocabulary: Vocabulary) -> np.ndarray:
    mask = draw_shapes(
        image, next((row.size_hw for row in rows if row.size_hw), None), rows[0].where, [], vocabulary.rest
    )
    for row in rows:
        if row.label:
            mask[decode(row.runs, (mask.shape[0], mask.shape[1]), where=row.where)] = vocabulary.ids[row.label]
    return mask


def _read_rows(path: Path) -> list[_Row]:
    csv.field_size_limit(2**31 - 1)  # runs of a large image are longer than the default's 128 KiB
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read as CSV in UTF-8 ({error}); export it again") from error
    header = [re.sub(r"[^a-z]", "", name.lower()) for name in table[0]] if table else []
    columns = {
        role: next((header.index(name) for name in names if name in header), None) for role, names in COLUMNS.items()
    }
    both = next((header.index(name) for name in BOTH if name in header), None)
    image, runs = columns["image"] if both is None else both, columns["runs"]
    if image is None or runs is None:
        raise DataError(
            f"{path}: found the columns {', '.join(table[0]) if table else '(none)'}, expected ImageId and "
            "EncodedPixels (and ClassId, if there are classes); name them so in the first line"
        )
    rows, problems = [], []
    for number, cells in enumerate(table[1:], start=2):
        where = f"{path} row {number}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            problems.append(f"{where}: found {len(cells)} cells, expected {len(header)} as in the first line")
            continue
        name, label = cells[image].strip(), "object"
        if both is not None:
            name, label = _part(name)
        elif columns["class"] is not None:
            label = cells[columns["class"]].strip()
        empty = cells[runs].strip().lower() in NOTHING
        if not name or (not label and not empty):
            problems.append(f"{where}: found no {'class' if name else 'image'}, expected one; fix the row")
            continue
        size = [cells[column].strip() for column in (columns["height"], columns["width"]) if column is not None]
        if not all(re.fullmatch(r"[0-9]{1,6}", length) for length in size):
            problems.append(f"{where}: found the size {' x '.join(size)}, expected whole numbers")
            continue
        size_hw = (int(size[0]), int(size[1])) if len(size) == 2 else None
        rows.append(_Row(where, name, _name(label), cells[runs], size_hw))
    if problems:
        raise DataError(summarize(problems))
    if not rows:
        raise DataError(f"{path}: found no row, expected one per image and class")
    return rows


def _part(cell: str) -> tuple[str, str]:
    """name.jpg_class -> name.jpg, class; without a suffix, the last `_` parts them."""
    found = re.fullmatch(r"(.+\.(?:jpe?g|png|bmp|tiff?|webp))_(.+)", cell, re.IGNORECASE)
    if found:
        return found[1], found[2]
    name, _, label = cell.rpartition("_")
    return name, label


def _name(label: str) -> str:
    if label.lower() in NOTHING - {"none"}:
        return ""
    number = re.fullmatch(r"([0-9]{1,9})(\.0*)?", label)  # 1.0: a column of numbers with gaps, as pandas writes it
    return f"class_{int(number[1])}" if number else label


def _natural(label: str) -> list[tuple[int, str]]:
    """Sort class_2 before class_10: shorter numbers first."""
    parts = re.split(r"([0-9]+)", label)  # numbers at odd positions
    return [(len(part) if index % 2 else 0, part) for index, part in enumerate(parts)]
