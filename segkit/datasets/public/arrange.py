"""What a published archive holds becomes a data set in VOC layout, whose masks need no mapping.

Each arrangement `(source, root)` takes what was unpacked below `source`: pictures are moved, labels written anew as
palette PNGs of class ids, with 255 for "no label". Both folders are on one disk. What isn't there, or isn't as its
authors describe it, is a DataError. Not here: which sets there are (public_sets).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from segkit.classes import VOC_NAMES, Classes
from segkit.datasets.masks import MaskReader, write_mask
from segkit.errors import ConfigError, DataError, RunFolderError, first_line
from segkit.runtime.files import write_bytes_durably
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch

Names = list[str]
CAMVID_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip


def arrange_voc(source: Path, root: Path) -> None:
    """PASCAL VOC is in VOC layout."""
    _move(source / "VOCdevkit", root / "VOCdevkit")


def arrange_voc_aug(source: Path, root: Path) -> None:
    """Add to VOC2012 the split `trainaug`: VOC's train and all of SBD, without the pictures of VOC's val.

    A picture that VOC has labelled keeps that mask; SBD's are outlines drawn by more hands, without the ignored border
    (Hariharan et al., Semantic contours from inverse detectors, ICCV 2011). 10,582 pictures, as the papers since
    DeepLab have them (mmsegmentation, tools/dataset_converters/voc_aug.py).
    """
    arrange_voc(source, root)
    voc, sbd = root / "VOCdevkit" / "VOC2012", source / "benchmark_RELEASE" / "dataset"
    lists = voc / "ImageSets" / "Segmentation"
    train, val = (_read_names(lists / f"{split}.txt") for split in ("train", "val"))
    more = _read_names(sbd / "train.txt") + _read_names(sbd / "val.txt")
    names = sorted({*train, *more} - set(val))
    masks = voc / "SegmentationClass"
    missing = [name for name in names if not (masks / f"{name}.png").is_file()]
    _write_masks(
        ((sbd / "cls" / f"{name}.mat", masks / f"{name}.png") for name in missing), read_sbd_mask,
        Classes.build(VOC_NAMES), len(missing),
    )  # fmt: skip
    _write_lines(lists / "trainaug.txt", names)


def arrange_sbd(source: Path, root: Path) -> None:
    """Semantic Boundaries Dataset: class ids in MATLAB files, img/*.jpg, lists beside them."""
    sbd = source / "benchmark_RELEASE" / "dataset"
    splits = {split: _read_names(sbd / f"{split}.txt") for split in ("train", "val")}
    extra = source / "train_noval.txt"
    if extra.is_file():
        splits["train_noval"] = _read_names(extra)
    names = sorted({name for split in splits.values() for name in split})
    _move(sbd / "img", root / "JPEGImages")
    pairs = ((sbd / "cls" / f"{name}.mat", root / "SegmentationClass" / f"{name}.png") for name in names)
    _write_masks(pairs, read_sbd_mask, Classes.build(VOC_NAMES), len(names))
    _write_set(root, splits, VOC_NAMES)


def arrange_camvid(source: Path, root: Path) -> None:
    """SegNet's CamVid: CamVid/<split>/*.png with CamVid/<split>annot/*.png of 0..10 and 11 for void, which becomes 255;
    a list has the paths of both on a line, as they were on its author's disk."""
    camvid = next(source.glob("*/CamVid"), source / "CamVid")
    reader = _reader(CAMVID_NAMES, values=range(11), ignored=11)
    splits: dict[str, Names] = {}
    pairs = []
    for split in ("train", "val", "test"):
        splits[split] = []
        for name in _read_names(camvid / f"{split}.txt"):
            _move(camvid / split / name, root / "JPEGImages" / name)
            pairs.append((camvid / f"{split}annot" / name, root / "SegmentationClass" / name))
            splits[split].append(name.removesuffix(".png"))
    _write_masks(pairs, reader, reader.classes, len(pairs))
    _write_set(root, splits, CAMVID_NAMES)


def arrange_pet(source: Path, root: Path) -> None:
    """Oxford-IIIT Pet: trimaps of 1 pet, 2 background and 3 for the border between them, which becomes 255; the lists
    have breed numbers behind the names."""
    names = ("background", "pet")
    reader = _reader(names, values=(2, 1), ignored=3)
    lists = source / "annotations"
    splits = {split: _read_names(lists / f"{split}.txt") for split in ("trainval", "test")}
    pictures = splits["trainval"] + splits["test"]
    for name in pictures:
        _move(source / "images" / f"{name}.jpg", root / "JPEGImages" / f"{name}.jpg")
    pairs = ((lists / "trimaps" / f"{name}.png", root / "SegmentationClass" / f"{name}.png") for name in pictures)
    _write_masks(pairs, reader, reader.classes, len(pictures))
    _write_set(root, splits, names)


def arrange_ade20k(source: Path, root: Path) -> None:
    """ADE20K's scene parsing benchmark: ids 1..150, which become 0..149, and 0 for "other", which becomes 255; names
    from its objectInfo150.txt."""
    ade = source / "ADEChallengeData2016"
    names = read_ade_names(ade / "objectInfo150.txt")
    reader = _reader(names, values=range(1, len(names) + 1), ignored=0)
    splits, pairs = {}, []
    for split, folder in (("train", "training"), ("val", "validation")):
        splits[split] = sorted(path.stem for path in (ade / "images" / folder).glob("*.jpg"))
        for name in splits[split]:
            _move(ade / "images" / folder / f"{name}.jpg", root / "JPEGImages" / f"{name}.jpg")
            pairs.append((ade / "annotations" / folder / f"{name}.png", root / "SegmentationClass" / f"{name}.png"))
    _write_masks(pairs, reader, reader.classes, len(pairs))
    _write_set(root, splits, names)


# ---- files


def need_scipy(for_what: str) -> Any:
    """Return scipy.io, which reads MATLAB files.

    Raises:
        ConfigError: scipy isn't installed.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise ConfigError(
            f"{for_what}: needs the package scipy for its MATLAB files, which isn't installed; install it with "
            "pip install 'segkit[sbd]'"
        ) from error
    return scipy.io


def read_sbd_mask(path: Path) -> np.ndarray:
    """Return the class ids of one of SBD's MATLAB files, uint8 [h, w] with 0..20: GTcls.Segmentation.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    scipy_io = need_scipy("SBD")
    try:
        found = np.asarray(scipy_io.loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # a damaged file raises a dozen kinds, from TypeError to zlib.error
        raise DataError(
            f"{path}: can't be read as a MATLAB file with GTcls.Segmentation ({first_line(error)})"
        ) from error
    if found.ndim != 2 or found.dtype != np.uint8 or found.max(initial=0) >= len(VOC_NAMES):
        raise DataError(
            f"{path}: found {found.dtype} {list(found.shape)} up to {found.max(initial=0)}, expected class ids 0..20, "
            "uint8 [h, w]"
        )
    return found


def read_ade_names(path: Path) -> tuple[str, ...]:
    """Return the class names of objectInfo150.txt by id, which has columns Idx Ratio Train Val Stuff Name; of several
    names for a class the first, where no other class has it too."""
    found = re.findall(r"^\s*(\d+)\s+[\d.]+\s+\d+\s+\d+\s+\d+\s+(\S.*?)\s*$", _read_text(path), re.MULTILINE)
    if [int(number) for number, _ in found] != list(range(1, len(found) + 1)) or not found:
        raise DataError(
            f"{path}: found {len(found)} classes, expected them numbered from 1, with a name behind 5 columns"
        )
    full = [name for _, name in found]
    short = [name.split(",")[0].strip() for name in full]
    return tuple(one if short.count(one) == 1 else all_of_it for one, all_of_it in zip(short, full, strict=True))


def _reader(names: Sequence[str], *, values: Iterable[int], ignored: int) -> MaskReader:
    return MaskReader.build(Classes.build(names), mask_values=tuple(values), ignore_values=(ignored,))


def _write_masks(
    pairs: Iterable[tuple[Path, Path]], read: Callable[[Path], np.ndarray], classes: Classes, count: int
) -> None:
    """Read label files and write each as a palette PNG of class ids."""

    def convert(pair: tuple[Path, Path]) -> None:
        source, target = pair
        mask = read(source)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_mask(target, mask, classes)
        except OSError as error:
            raise _explain(target, error) from error

    done = prefetch(convert, pairs, threads=count_threads(), ahead=32)
    for _ in tqdm(done, total=count, desc="writing masks", disable=None, leave=False, unit="files"):
        pass


def _write_set(root: Path, splits: dict[str, Names], names: Sequence[str]) -> None:
    for split, pictures in splits.items():
        _write_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt", pictures)
    _write_lines(root / "classes.txt", names)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_bytes_durably(path, "".join(f"{line}\n" for line in lines).encode(), elsewhere="--output DIR")


def _read_names(path: Path) -> Names:
    """Read a list of pictures: of each line the first word, and of that what stands behind its folders."""
    names = [line.split()[0].rpartition("/")[2] for line in _read_text(path).splitlines() if line.strip()]
    wrong = [name for name in names if not re.fullmatch(r"\w[\w.-]*", name)]
    if wrong or not names:
        raise DataError(f"{path}: found {wrong[0] if wrong else 'no line'!r}, expected names of pictures, one per line")
    return names


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({first_line(error)}), expected it in the archive") from error


def _move(source: Path, target: Path) -> None:
    if target.exists():
        raise DataError(f"{source}: found a second {target.name}, expected every name once; is it another version?")
    if not source.exists():
        raise DataError(f"{source}: isn't in the archive, expected it there; is it another version?")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise _explain(target, error) from error


def _explain(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: can't be written ({error.strerror or error}); free some space, or choose another disk with "
        "--output DIR"
    )
