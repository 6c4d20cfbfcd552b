"""Which format a source looks like: a hint for `segkit convert --from`. Nothing is converted by a guess."""

import json
import os
from pathlib import Path

import numpy as np

from segkit.datasets.masks import read_stored_label
from segkit.errors import SegkitError
from segkit.formats.masks.pairing import find_pairs
from segkit.formats.options import ReadOptions

MOST_LABELS = 20  # whose values are looked at
MOST_FILES = 2000  # whose names are looked at
HEAD = 4096  # bytes at the start of a file that are searched
MOST_BYTES = 2**26  # of a JSON file that is read in full


def recognize(source: Path) -> str | None:
    """Return the name of the format that a file or folder looks like; None if it looks like none."""
    files = [source] if source.is_file() else _some_files(source)
    names = {path.name for path in files}
    folders = {part.lower() for path in files for part in path.relative_to(source.parent).parts[:-1]}
    if "objectInfo150.txt" in names or "adechallengedata2016" in folders:
        return "ade20k"
    if "gtfine" in folders or "gtcoarse" in folders:
        return "cityscapes"
    if "label_colors.txt" in names or "labeledapproved_full" in folders:
        return "camvid"
    if "meta.json" in names and "ann" in folders:
        return "supervisely"
    if names & {"data.yaml", "data.yml", "dataset.yaml"} and "labels" in folders:
        return "yolo"
    if "labelmap.txt" in names or any(path.suffix == ".xml" and b"<annotations" in _head(path) for path in files):
        return "cvat"
    for path in files:
        if path.suffix == ".csv" and any(word in _head(path).lower() for word in (b"encodedpixels", b"rle")):
            return "rle-csv"
        if path.suffix == ".json" and (found := _recognize_json(path)):
            return found
    return _recognize_masks(source) if source.is_dir() else None


def _some_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        found += [Path(parent, name) for name in sorted(files)]
        if len(found) > MOST_FILES:
            break
    return found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _recognize_json(path: Path) -> str | None:
    head = _head(path)
    if b'"segments_info"' in head or ("panoptic" in path.name and b'"images"' in head):
        return "coco-panoptic"
    if b'"lineColor"' in head:
        return "labelme"
    try:
        if path.stat().st_size > MOST_BYTES:
            return "coco" if b'"images"' in head or b'"info"' in head else None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(content, dict):
        if {"shapes", "imagePath"} <= content.keys():
            return "labelme"
        if {"images", "annotations"} <= content.keys():
            return "coco"
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return "labelstudio" if {"annotations", "completions"} & content[0].keys() else None
    return None


def _recognize_masks(folder: Path) -> str | None:
    """Return which kind of masks a folder holds, by the values of the first labels."""
    try:
        labels = find_pairs(folder, ReadOptions()).labels[:MOST_LABELS]
        stored = [read_stored_label(path).values for path in labels]
    except SegkitError:
        return None
    if not stored or any(values.ndim == 3 for values in stored):
        return "color-masks" if stored else None
    held = set().union(*(np.unique(values).tolist() for values in stored))
    return "binary-masks" if held <= {0, max(held)} else "id-masks"
