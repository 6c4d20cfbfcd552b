"""YOLO's segmentation form (docs.ultralytics.com/datasets/segment): a text file per image, a polygon per line.

A line is a class and the points of a polygon, x y x y ..., as fractions of the image's width and height. Later lines
paint over earlier ones. Pixels without a polygon are background, which is class 0 here, so that YOLO's class 0 is class
1, unless one of the names is a background's. An image with an empty text file, or without one, is all background, as
YOLO has it. Labels are on the upright image.

data.yaml is only read: commands in it (download) are skipped, never run.
"""

import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from segkit.classes import read_class_names
from segkit.config.strict_yaml import parse_yaml
from segkit.datasets.images import IMAGE_SUFFIXES, image_size_hw
from segkit.datasets.layouts import list_images
from segkit.errors import ConfigError, DataError, count
from segkit.formats.documents import collect, read_text
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.raster.contours import keyhole, simplify, trace_regions
from segkit.formats.raster.drawing import paint_shapes, polygon
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, arrange
from segkit.formats.splits import is_split, rename_splits
from segkit.formats.vocabulary import Vocabulary, find_background, is_background
from segkit.formats.writing import check_path, copy_image, each_sample, read_mask, write_text

_NO_SPLITS = ("path", "names", "nc", "download", "yaml_file", "channels", "kpt_shape", "flip_idx", "roboflow")


# ---- reading


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a data.yaml, a folder that holds one (or another single .yaml), or a folder of images/ and labels/.

    Without a .yaml, the classes are those of classes.txt, or options.classes without its background. The label of
    images/train/a.jpg is labels/train/a.txt, and in any other folder a.txt beside the image.

    Raises:
        ConfigError: fewer than two classes, or too many; options.images, since data.yaml says where the images are.
        DataError: files that are missing or broken, lines that are no polygon, boxes; the first ten, with their number.
    """
    if options.images is not None:
        raise ConfigError("--images: data.yaml says where the images are; leave it out")
    described = _find_yaml(source)
    names, folders = _read_yaml(described) if described else _look_around(source, options)
    samples = {split: _name_images(_list_images(origins)) for split, origins in rename_splits(folders).items()}
    every = [(image, _label_path(image)) for listed in samples.values() for image in listed.values()]
    if not every:
        raise DataError(f"{source}: no images, expected some below images/, or where data.yaml says; fix it")
    polygons = [lines for _, lines in collect(lambda pair: _parse(pair[1], len(names)), every)]
    vocabulary = Vocabulary.build(source, names, options)
    without = sum(not lines for lines in polygons)
    several = len(every) - len({image.resolve() for image, _ in every})
    notes = [
        *vocabulary.notes,
        f"{count(without, 'image')} without polygons: all background" if without else "",
        f"{count(several, 'image')} in more than one split" if several else "",
    ]
    ids = [vocabulary.ids[name] for name in names]
    splits = {
        split: [
            Sample(
                name,
                image,
                functools.partial(_draw, image, _label_path(image), ids, vocabulary.rest),
                is_sized=True,
            )
            for name, image in listed.items()
        ]
        for split, listed in samples.items()
    }
    return SampleSet(arrange(splits), vocabulary.classes, tuple(filter(None, notes)))


def _find_yaml(source: Path) -> Path | None:
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder, expected a data.yaml or the folder that holds it")
    found = sorted(path for path in source.iterdir() if path.suffix in (".yaml", ".yml"))
    preferred = [path for path in found if path.stem == "data"]
    if len(preferred or found) > 1:
        raise DataError(
            f"{source}: found {', '.join(path.name for path in found)}, expected one; give the one you mean"
        )
    return next(iter(preferred or found), None)


def _read_yaml(path: Path) -> tuple[list[str], dict[str, list[Path]]]:
    """Return the names of YOLO's classes, and the folders and lists of each split."""
    try:
        plain = parse_yaml(read_text(path, expected="a data.yaml"), where=str(path), number_keys=True)
    except ConfigError as error:
        raise DataError(str(error)) from error
    if not isinstance(plain, dict) or not isinstance(plain.get("names"), (list, dict)):
        raise DataError(f"{path}: names: found none, expected the classes, as in names: {{0: cat, 1: dog}}; add them")
    names = plain["names"]
    if isinstance(names, dict):
        if {str(key) for key in names} != {str(number) for number in range(len(names))}:
            raise DataError(f"{path}: names: found the numbers {list(names)[:10]}, expected 0, 1, 2, ...; fix them")
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    if any(isinstance(name, (dict, list)) or name is None for name in names):
        raise DataError(
            f"{path}: names: found a list or nothing instead of a word, expected a word per class; fix them"
        )
    root = plain.get("path", "")
    splits: dict[str, list[Path]] = {}
    for key, value in ((str(key), value) for key, value in plain.items()):
        entries = value if isinstance(value, list) else [value]
        if key in _NO_SPLITS or not entries or not all(isinstance(entry, str) for entry in entries):
            continue
        if is_split(key) or key == NO_SPLIT or all(_resolve(path.parent, root, entry) for entry in entries):
            splits[key] = [_need(_resolve(path.parent, root, entry), f"{path}: {key}", entry) for entry in entries]
    if not splits:
        raise DataError(f"{path}: found no split, expected train and val, as in train: images/train; add them")
    return [str(name).strip() for name in names], splits


def _resolve(folder: Path, root: object, entry: str) -> Path | None:
    """Return the folder or list that an entry names: below the path that the file gives, or else below its folder.

    An entry ../train/images that means train/images, as in exports of Roboflow, is found too.
    """
    bases = [folder / root, folder] if isinstance(root, str) else [folder]
    for base in bases:
        for path in (base / entry, base / entry.removeprefix("../")):
            if os.path.isdir(path) or (path.suffix == ".txt" and os.path.isfile(path)):
                return path
    return None


def _need(path: Path | None, where: str, entry: str) -> Path:
    if path is None:
        raise DataError(
            f"{where}: found {entry!r}, which does not exist, expected a folder or a .txt list; fix the path"
        )
    return path


def _look_around(source: Path, options: ReadOptions) -> tuple[list[str], dict[str, list[Path]]]:
    """Return names and folders of a source without a .yaml."""
    images = source / "images"
    if not images.is_dir():
        raise DataError(
            f"{source}: found neither data.yaml nor images/, expected one of them; give the data set's folder"
        )
    if (source / "classes.txt").is_file():
        names = read_class_names(source / "classes.txt")
    elif options.classes:
        names = [name for name in options.classes if not is_background(name)]
    else:
        raise DataError(
            f"{source}: found no names of classes, expected a data.yaml or classes.txt; or name "
            "them: --classes background,..."
        )
    folders = [path for path in sorted(images.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if folders and all(is_split(path.name) for path in folders):
        return names, {path.name: [path] for path in folders}
    return names, {NO_SPLIT: [images]}


def _list_images(origins: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return (folder, image) of all images in folders and lists."""
    found = []
    for origin in origins:
        if origin.is_dir():
            found += [(origin, path) for path in list_images(origin)]
            continue
        for line in filter(None, map(str.strip, read_text(origin, expected="an image per line").splitlines())):
            path = origin.parent / line
            if path.suffix.lower() not in IMAGE_SUFFIXES or not os.path.isfile(path):
                raise DataError(f"{origin}: found {line!r}, which is no image file, expected one per line; fix it")
            found.append((origin.parent, path))
    return found


def _name_images(found: Iterable[tuple[Path, Path]]) -> dict[str, Path]:
    samples: dict[str, Path] = {}
    for folder, path in found:
        below = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
        parts = [part for part in below.parts if part not in ("..", ".")]
        name = PurePosixPath(*parts).with_suffix("").as_posix()
        if other := samples.get(name):
            raise DataError(
                f"{other} and {path} have the same label file or name, expected one image of a name; rename one"
            )
        samples[name] = path
    return samples


def _label_path(image: Path) -> Path:
    parts = list(image.parts)
    indices = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if indices:
        parts[indices[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _parse(path: Path, num_classes: int) -> list[tuple[int, np.ndarray]]:
    """Return the polygons of a label file: YOLO's class, and float64 [n, 2] of x, y as fractions."""
    lines = read_text(path, expected="a polygon per line").splitlines() if path.exists() else []
    return [_parse_line(line, num_classes, f"{path} line {n}") for n, line in enumerate(lines, start=1) if line.strip()]


def _parse_line(line: str, num_classes: int, where: str) -> tuple[int, np.ndarray]:
    try:
        numbers = np.array([float(word) for word in line.split()])
    except ValueError as error:
        raise DataError(f"{where}: found {line[:60]!r}, expected numbers: class x y x y ...; fix it") from error
    if len(numbers) == 5:
        raise DataError(
            f"{where}: found 5 numbers, which is a box (class x y width height), expected polygons: class x y x y x y "
            "...; this is a data set for detection, which has no segments"
        )
    if len(numbers) < 7 or len(numbers) % 2 == 0:
        raise DataError(
            f"{where}: found {len(numbers)} numbers, expected a class and 3 or more points: class x y x y x y ...; "
            "fix it"
        )
    if numbers[0] not in range(num_classes):
        raise DataError(
            f"{where}: found class {numbers[0]:g}, expected 0..{num_classes - 1}; add it to names, or fix it"
        )
    if not (np.abs(numbers[1:] - 0.5) <= 1.5).all():  # not a number included
        raise DataError(
            f"{where}: found coordinates up to {np.abs(numbers[1:]).max():g}, expected fractions 0..1; divide x by the "
            "image's width, y by its height"
        )
    return int(numbers[0]), numbers[1:].reshape(-1, 2)


def _draw(image: Path, label: Path, ids: Sequence[int], rest: int) -> np.ndarray:
    height, width = size_hw = image_size_hw(image)
    shapes = [(ids[number], polygon([points * (width, height)])) for number, points in _parse(label, len(ids))]
    return paint_shapes(size_hw, shapes, rest)


# ---- writing


def write(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]:
    """Write data.yaml, images/<split>/ and labels/<split>/, a polygon per region, holes joined to it by double edges.

    The background is no class of YOLO's. Ignored pixels, which YOLO lacks, become background and are counted. With a
    tolerance in pixels, polygons have fewer points, and differ from the mask by about as much.

    Raises:
        DataError: a label or image is broken, or a name leaves OUT.
        RunFolderError: a file can't be written.
    """
    classes, tolerance = samples.classes, options.tolerance
    background = find_background(classes.names)
    written = [class_id for class_id in range(len(classes)) if class_id != background]
    notes, num_ignored, num_affected = [], 0, 0
    for split, listed in samples.splits.items():
        check_path(split, where="split")

        def work(sample: Sample, split: str = split) -> int:
            mask = read_mask(sample)
            copy_image(sample, output / "images" / split)
            lines = [
                _line(
                    written.index(region.class_id),
                    keyhole(simplify(region.outer, tolerance), holes),
                    mask.shape,
                )
                for region in trace_regions(mask)
                if region.class_id in written
                for holes in [tuple(simplify(hole, tolerance) for hole in region.holes)]
            ]
            write_text(output / "labels" / split / f"{sample.name}.txt", "".join(lines))
            return int((mask == classes.ignore_index).sum())

        for ignored in each_sample(work, listed, title=f"writing {split}"):
            num_ignored += ignored
            num_affected += ignored > 0
    names = [f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(classes.names[id_] for id_ in written)]
    splits = [f"{json.dumps(split)}: {json.dumps(f'images/{split}')}\n" for split in samples.splits]
    write_text(output / "data.yaml", "".join([*splits, "names:\n", *names]))
    if num_ignored:
        notes.append(
            f"{num_ignored} ignored pixels of {count(num_affected, 'image')} became background: YOLO's form has "
            "no ignored pixels"
        )
    if not {"train", "val"} <= set(samples.splits):
        notes.append(
            f"the splits are {', '.join(samples.splits)}, but YOLO trains on train and val: name them so in data.yaml"
        )
    return notes


def _line(number: int, ring: np.ndarray, shape_hw: tuple[int, ...]) -> str:
    """Return a line; 6 decimals distinguish tenths of a pixel in images of up to 100000."""
    points = ring / (shape_hw[1], shape_hw[0])
    return " ".join([str(number), *(f"{value:.6f}" for value in points.ravel().tolist())]) + "\n"
