"""CVAT's two exports of segmentation.

"Segmentation mask 1.1": SegmentationClass/ with labelmap.txt, read as VOC is (see `voc`); the export holds no images
unless they were asked for, so options.images may have to name them.

"CVAT for images 1.1" (annotations.xml): polygons, boxes, ellipses (both may be rotated, clockwise in degrees, about
their centres) and masks (run lengths along the rows of a box, the first of them of pixels outside) are drawn by z_order
and then in the order of the file: later shapes cover earlier ones, and pixels of no shape become background. Polylines,
points, cuboids, skeletons and tags have no area and are skipped, which is noted. Splits are CVAT's subsets.
"""

import math
import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from segkit.classes import RGB
from segkit.errors import DataError, count, first_line, summarize
from segkit.formats.annotations.image_folder import ImageFolder
from segkit.formats.documents import FAR
from segkit.formats.masks import voc
from segkit.formats.options import ReadOptions
from segkit.formats.raster.drawing import Draw, bitmap, box, draw_shapes, ellipse, polygon
from segkit.formats.raster.runs import check_runs, run_pixels
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, arrange
from segkit.formats.splits import rename_splits
from segkit.formats.values import hex_color
from segkit.formats.vocabulary import Vocabulary


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read an export: a folder with labelmap.txt, or annotations.xml, or the folder that holds it.

    Raises:
        DataError: the export can't be read, or lacks images.
        ConfigError: the options' classes can't be.
    """
    if (source / "labelmap.txt").is_file():
        return voc.read(source, options)
    path = source / "annotations.xml" if source.is_dir() else source
    if not path.is_file():
        raise DataError(
            f"{source}: found neither labelmap.txt (Segmentation mask 1.1) nor annotations.xml (CVAT for images 1.1), "
            "expected an unpacked export of CVAT; check the path"
        )
    return _read_xml(path, options)


# ---- CVAT for images


def _read_xml(path: Path, options: ReadOptions) -> SampleSet:
    root = parse_xml(path)
    if root.tag != "annotations" or root.find("track") is not None:
        found = "'CVAT for video' (tracks)" if root.tag == "annotations" else f"<{root.tag}>"
        raise DataError(f"{path}: found {found}, expected CVAT's <annotations>; export as 'CVAT for images 1.1'")
    colors = _labels(root)
    drawn = [element.get("label", "") for image in root.iterfind("image") for element in image if element.tag in SHAPES]
    vocabulary = Vocabulary.build(path, [*colors, *sorted({*drawn} - {*colors, ""})], options, colors=_known(colors))
    inner = path.parent / "images"
    folder = ImageFolder.scan(options.images or (inner if inner.is_dir() else path.parent))
    splits: dict[str, list[Sample]] = defaultdict(list)
    problems, skipped, num_empty, seen = [], Counter[str](), 0, set()
    for image in root.iterfind("image"):
        name = image.get("name", "")
        where = f"{path} image '{name}'"
        try:
            file = folder.find(name, where=str(path))
            if file in seen:
                raise DataError(f"{where}: {file} is listed twice, expected each image once; remove one")
            seen.add(file)
            shapes = [_read_shape(element, where, vocabulary) for element in image if element.tag in SHAPES]
            size_hw = (_whole(image, "height", where), _whole(image, "width", where))
        except DataError as error:
            problems.append(str(error))
            continue
        skipped.update(element.tag for element in image if element.tag not in SHAPES)
        num_empty += not shapes
        ordered = [(class_id, draw) for _, class_id, draw in sorted(shapes, key=lambda shape: shape[0])]
        splits[image.get("subset") or NO_SPLIT].append(
            Sample(
                folder.name(file),
                file,
                partial(draw_shapes, file, size_hw, where, ordered, vocabulary.rest),
                is_sized=True,
            )
        )
    if problems:
        raise DataError(summarize(problems))
    if not splits:
        raise DataError(f"{path}: found no <image>, expected one per image; export the task again")
    notes = list(vocabulary.notes)
    if skipped:
        kinds = ", ".join(f"{number} {tag}" for tag, number in sorted(skipped.items()))
        notes.append(f"skipped, since they have no area: {kinds}")
    if num_empty:
        notes.append(f"{count(num_empty, 'image')} without a shape: all pixels are taken as unlabelled")
    return SampleSet(arrange(rename_splits(splits)), vocabulary.classes, tuple(notes))


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuse a DOCTYPE, which could define entities that grow without end, or that name files and addresses."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError(f"found a DOCTYPE ({name}), expected none, as CVAT writes it; export it again")


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file without a DOCTYPE; nothing is expanded or fetched.

    Raises:
        DataError: the file can't be read, is no XML, or has a DOCTYPE.
    """
    try:
        return ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the path") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(
            f"{path}: no XML ({first_line(error)}), expected CVAT's annotations.xml; export it again"
        ) from error


def _labels(root: ElementTree.Element) -> dict[str, str]:
    """Return the colour of each label as the file has it; parts of skeletons are no labels."""
    found = [label for labels in root.iterfind("meta//labels") for label in labels.iterfind("label")]
    return {
        (label.findtext("name") or "").strip(): (label.findtext("color") or "").strip()
        for label in found
        if label.find("parent") is None and (label.findtext("name") or "").strip()
    }


def _known(colors: dict[str, str]) -> dict[str, RGB]:
    return {name: hex_color(color) for name, color in colors.items() if re.fullmatch("#[0-9a-fA-F]{6}", color)}


def _read_shape(element: ElementTree.Element, where: str, vocabulary: Vocabulary) -> tuple[int, int, Draw]:
    """Return z_order, class id, and what draws the shape."""
    label = element.get("label", "")
    where = f"{where} <{element.tag} label='{label}'>"
    if label not in vocabulary.ids:
        raise DataError(f"{where}: found no label, expected one; fix the shape in CVAT")
    order = _whole(element, "z_order", where) if "z_order" in element.attrib else 0
    return order, vocabulary.ids[label], SHAPES[element.tag](element, where)


def _polygon(element: ElementTree.Element, where: str) -> Draw:
    text = element.get("points", "")
    try:
        points = np.array([[float(number) for number in point.split(",")] for point in text.split(";")])
    except ValueError:
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not (np.abs(points) <= FAR).all():
        raise DataError(f"{where}: found points='{text[:60]}', expected three or more of x,y separated by ';'")
    return polygon([points])


def _box(element: ElementTree.Element, where: str) -> Draw:
    left, top, right, bottom = (_number(element, name, where) for name in ("xtl", "ytl", "xbr", "ybr"))
    center = ((left + right) / 2, (top + bottom) / 2)
    return box(left, top, right, bottom, degrees=_number(element, "rotation", where, 0), about=center)


def _ellipse(element: ElementTree.Element, where: str) -> Draw:
    x, y, rx, ry = (_number(element, name, where) for name in ("cx", "cy", "rx", "ry"))
    return ellipse((x, y), (rx, ry), degrees=_number(element, "rotation", where, 0))


def _mask(element: ElementTree.Element, where: str) -> Draw:
    left, top, width, height = (_whole(element, name, where) for name in ("left", "top", "width", "height"))
    text = element.get("rle", "")
    words = re.split(r"\s*,\s*", text.strip())
    if not all(re.fullmatch(r"[0-9]{1,10}", word) for word in words) or min(width, height) < 1:
        raise DataError(
            f"{where}: found run lengths '{text[:60]}' of {width}x{height} pixels, expected whole numbers separated by "
            "','; export the task again"
        )
    runs = check_runs(np.array(words, np.int64), (height, width), where=where)

    def draw(mask: np.ndarray, class_id: int) -> None:  # decoded only now: all masks of an export would be too much
        if min(left, top) < 0 or left + width > mask.shape[1] or top + height > mask.shape[0]:
            raise DataError(f"{where}: found a box that leaves the image, expected one inside; export the task again")
        bits = np.zeros(height * width, bool)
        bits[run_pixels(runs)] = True
        bitmap(bits.reshape(height, width), left, top)(mask, class_id)

    return draw


SHAPES = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}


def _number(element: ElementTree.Element, name: str, where: str, default: float | None = None) -> float:
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= FAR:
        raise DataError(f"{where}: found {name}='{text}', expected a number; export the task again")
    return value


def _whole(element: ElementTree.Element, name: str, where: str) -> int:
    value = _number(element, name, where)
    if value != int(value):
        raise DataError(f"{where}: found {name}='{value}', expected a whole number; export the task again")
    return int(value)
