"""What a published archive holds becomes a data set in VOC layout, whose masks need no mapping.

Each arrangement `(source, root)` moves the images unpacked below `source`, on the same disk, and rewrites labels as
palette PNGs of class ids, with 255 where there is none. A file that the archive lacks is a FileNotFoundError or a
DataError. Not here: which sets exist (catalog).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from segkit.classes import VOC_NAMES, Classes
from segkit.datasets.masks import MaskReader, write_mask
from segkit.errors import DataError, first_line
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

CAMVID_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip


def arrange_voc(source: Path, root: Path) -> None:
    """PASCAL VOC is in VOC layout."""
    (source / "VOCdevkit").rename(root / "VOCdevkit")


def arrange_voc_aug(source: Path, root: Path) -> None:
    """Add to VOC2012 the split `trainaug`: VOC's train and all of SBD, without the images of VOC's val.

    An image that VOC has labelled keeps that mask; SBD's are outlines drawn by more hands, without the ignored border
    (Hariharan et al., Semantic contours from inverse detectors, ICCV 2011). 10,582 images, as the papers since
    DeepLab have them (mmsegmentation, tools/dataset_converters/voc_aug.py).
    """
    arrange_voc(source, root)
    voc, sbd = root / "VOCdevkit" / "VOC2012", source / "benchmark_RELEASE" / "dataset"
    train, val = (read_names(voc / "ImageSets" / "Segmentation" / f"{split}.txt") for split in ("train", "val"))
    names = sorted({*train, *read_names(sbd / "train.txt"), *read_names(sbd / "val.txt")} - set(val))
    masks = {voc / "SegmentationClass" / f"{name}.png": sbd / "cls" / f"{name}.mat" for name in names}
    _write_masks({mask: mat for mask, mat in masks.items() if not mask.is_file()}, read_sbd_mask, VOC_NAMES)
    _write_lines(voc / "ImageSets" / "Segmentation" / "trainaug.txt", names)


def arrange_sbd(source: Path, root: Path) -> None:
    """Semantic Boundaries Dataset: class ids in MATLAB files, img/*.jpg, lists beside them."""
    sbd = source / "benchmark_RELEASE" / "dataset"
    lists = [sbd / "train.txt", sbd / "val.txt", *source.glob("train_noval.txt")]
    found = {path.stem: read_names(path) for path in lists}
    splits = {s: [(sbd / "img" / f"{n}.jpg", sbd / "cls" / f"{n}.mat") for n in names] for s, names in found.items()}
    _assemble(root, splits, read_sbd_mask, VOC_NAMES)


def arrange_camvid(source: Path, root: Path) -> None:
    """SegNet's CamVid: CamVid/<split>/*.png with CamVid/<split>annot/*.png of 0..10 and 11 for void, which becomes 255;
    a list has the paths of both on a line, as they were on its author's disk."""
    camvid = next(source.glob("*/CamVid"), source / "CamVid")
    splits = {
        split: [(camvid / split / n, camvid / f"{split}annot" / n) for n in read_names(camvid / f"{split}.txt")]
        for split in ("train", "val", "test")
    }
    _assemble(root, splits, _reader(CAMVID_NAMES, values=range(11), ignored=11), CAMVID_NAMES)


def arrange_pet(source: Path, root: Path) -> None:
    """Oxford-IIIT Pet: trimaps of 1 pet, 2 background and 3 for the border between them, which becomes 255; the lists
    have breed numbers after the names."""
    images, labels, names = source / "images", source / "annotations", ("background", "pet")
    splits = {
        split: [(images / f"{n}.jpg", labels / "trimaps" / f"{n}.png") for n in read_names(labels / f"{split}.txt")]
        for split in ("trainval", "test")
    }
    _assemble(root, splits, _reader(names, values=(2, 1), ignored=3), names)


def arrange_ade20k(source: Path, root: Path) -> None:
    """ADE20K's scene parsing benchmark: ids 1..150, which become 0..149, and 0 for "other", which becomes 255."""
    ade, splits = source / "ADEChallengeData2016", {}
    for split, folder in (("train", "training"), ("val", "validation")):
        images, labels = sorted((ade / "images" / folder).glob("*.jpg")), ade / "annotations" / folder
        splits[split] = [(image, labels / f"{image.stem}.png") for image in images]
    names = read_ade_names(ade / "objectInfo150.txt")
    _assemble(root, splits, _reader(names, values=range(1, len(names) + 1), ignored=0), names)


# ---- files


def read_sbd_mask(path: Path) -> np.ndarray:
    """Return the class ids of one of SBD's MATLAB files, uint8 [h, w] with 0..20: GTcls.Segmentation.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    import scipy.io

    try:
        found = np.asarray(scipy.io.loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
        if found.ndim != 2 or found.dtype != np.uint8 or found.max(initial=0) >= len(VOC_NAMES):
            raise ValueError(f"found {found.dtype} {list(found.shape)} up to {found.max(initial=0)}")
    except Exception as error:  # a damaged file raises a dozen kinds, from TypeError to zlib.error
        raise DataError(
            f"{path}: can't be read ({first_line(error)}), expected class ids 0..20 in GTcls.Segmentation, uint8 [h, w]"
        ) from error
    return found


def read_ade_names(path: Path) -> tuple[str, ...]:
    """Return the class names of objectInfo150.txt by id, which has columns Idx Ratio Train Val Stuff Name; of several
    names for a class the first, unless another class has it too."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    found = re.findall(r"^\s*(\d+)\s+[\d.]+\s+\d+\s+\d+\s+\d+\s+(\S.*?)\s*$", text, re.MULTILINE)
    if not found or [int(number) for number, _ in found] != list(range(1, len(found) + 1)):
        raise DataError(f"{path}: found {len(found)} classes, expected them numbered from 1, a name after 5 columns")
    short = [name.split(",")[0].strip() for _, name in found]
    return tuple(one if short.count(one) == 1 else full for one, (_, full) in zip(short, found, strict=True))


def read_names(path: Path) -> list[str]:
    """Read a list of images: of each line the first word, without its folders."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    names = [line.split()[0].rpartition("/")[2] for line in text.splitlines() if line.strip()]
    wrong = [name for name in names if not re.fullmatch(r"\w[\w.-]*", name)]
    if wrong or not names:
        raise DataError(f"{path}: found {wrong[0] if wrong else 'no line'!r}, expected names of images, one per line")
    return names


def _reader(names: Sequence[str], *, values: Iterable[int], ignored: int) -> MaskReader:
    return MaskReader.build(Classes.build(names), mask_values=tuple(values), ignore_values=(ignored,))


def _assemble(
    root: Path, splits: dict[str, list[tuple[Path, Path]]], read: Callable[[Path], np.ndarray], names: Sequence[str]
) -> None:
    """Write a set in VOC layout from each split's images and labels."""
    images = root / "JPEGImages"
    images.mkdir()
    masks: dict[Path, Path] = {}
    for split, pairs in splits.items():
        for image, label in pairs:
            mask = root / "SegmentationClass" / f"{image.stem}.png"
            if masks.setdefault(mask, label) != label:
                raise DataError(f"{image}: found a second {image.name}, expected every name once")
            if not (images / image.name).exists():  # it does where two splits share an image
                image.rename(images / image.name)
        _write_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt", [image.stem for image, _ in pairs])
    _write_masks(masks, read, names)
    _write_lines(root / "classes.txt", names)


def _write_masks(labels: dict[Path, Path], read: Callable[[Path], np.ndarray], names: Sequence[str]) -> None:
    """Read label files, by target, and write each as a palette PNG of class ids."""
    classes = Classes.build(names)

    def convert(pair: tuple[Path, Path]) -> None:
        pair[0].parent.mkdir(exist_ok=True)
        write_mask(pair[0], read(pair[1]), classes)

    done = prefetch(convert, labels.items(), threads=count_threads(), ahead=32)
    for _ in progress(done, title="writing masks", unit=" files", total=len(labels)):
        pass


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
