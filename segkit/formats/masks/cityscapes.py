"""Cityscapes: leftImg8bit/<split>/<city>/*_leftImg8bit.png beside gtFine/<split>/<city>/*_gtFine_labelIds.png.

The 34 ids of labelIds become the 19 train ids by the official table (labels.py of cityscapesScripts, M. Cordts et al.,
CVPR 2016). Where there are no labelIds, labelTrainIds are taken as they are. Pixels of all other ids (255 of train ids,
classes that options.classes don't name) are ignored, or become background if options.unlabeled says so. gtCoarse is
read where there is no gtFine. A split is a folder; test, whose published labels hold no class, is left out.
"""

from functools import partial
from pathlib import Path

import numpy as np

from segkit.classes import RGB
from segkit.datasets.masks import read_label_values
from segkit.errors import DataError, summarize
from segkit.formats.options import ReadOptions
from segkit.formats.sample import Sample, SampleSet, arrange
from segkit.formats.values import LabelTable
from segkit.formats.vocabulary import Vocabulary

# name, id, colour; the order is that of the train ids
LABELS: tuple[tuple[str, int, RGB], ...] = (
    ("road", 7, (128, 64, 128)), ("sidewalk", 8, (244, 35, 232)), ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)), ("fence", 13, (190, 153, 153)), ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)), ("traffic sign", 20, (220, 220, 0)), ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)), ("sky", 23, (70, 130, 180)), ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)), ("car", 26, (0, 0, 142)), ("truck", 27, (0, 0, 70)), ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)), ("motorcycle", 32, (0, 0, 230)), ("bicycle", 33, (119, 11, 32)),
)  # fmt: skip
ENDING = "_leftImg8bit.png"


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a Cityscapes root.

    Raises:
        DataError: a folder is missing, there is no label, or an image of a labelled split has none.
        ConfigError: the options' classes can't be.
    """
    truth = next((source / name for name in ("gtFine", "gtCoarse") if (source / name).is_dir()), None)
    images = options.images or source / "leftImg8bit"
    if truth is None or not images.is_dir():
        raise DataError(
            f"{source}: found no {'gtFine/' if truth is None else 'leftImg8bit/'}, expected the root of Cityscapes "
            "with leftImg8bit/ and gtFine/; check the path"
        )
    kind = next((k for k in ("labelIds", "labelTrainIds") if any(truth.rglob(f"*_{k}.png"))), None)
    if kind is None:
        raise DataError(
            f"{truth}: found no *_{truth.name}_labelIds.png and no *_labelTrainIds.png below it, expected one per image"
        )
    vocabulary = Vocabulary.build(
        source,
        [name for name, _, _ in LABELS],
        options,
        unlabeled="ignore",
        colors={name: color for name, _, color in LABELS},
    )
    table = _table(kind, vocabulary)
    splits, notes, problems = {}, [*vocabulary.notes], []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        found = [(image, _label_of(image, folder.name, truth, kind)) for image in sorted(folder.glob(f"*/*{ENDING}"))]
        labels = [label for _, label in found if label.is_file()]
        if found and folder.name == "test" and not (labels and _has_classes(labels[0], kind)):
            notes.append(f"{folder} is left out: its published labels hold no class")
        elif found:
            splits[folder.name] = [Sample(_name(image), image, partial(table, label)) for image, label in found]
            problems += [
                f"{image}: no label for this image, expected {label}; add it, or take the image out"
                for image, label in found
                if label not in labels
            ]
    if problems:
        raise DataError(summarize(problems))
    if not splits:
        raise DataError(f"{images}: found no *{ENDING} in folders like train/aachen/; check the path")
    return SampleSet(arrange(splits), vocabulary.classes, tuple(notes))


def _table(kind: str, vocabulary: Vocabulary) -> LabelTable:
    if kind == "labelIds":
        ids = {
            **dict.fromkeys(range(-1, 34), vocabulary.rest),
            **{id_: vocabulary.ids[name] for name, id_, _ in LABELS},
        }
    else:
        ids = {
            -1: vocabulary.rest,
            255: vocabulary.rest,
            **{k: vocabulary.ids[name] for k, (name, _, _) in enumerate(LABELS)},
        }
    return LabelTable(ids, remedy=f"these are no {kind} of Cityscapes; make them again with cityscapesScripts")


def _label_of(image: Path, split: str, truth: Path, kind: str) -> Path:
    return truth / split / image.parent.name / f"{image.name.removesuffix(ENDING)}_{truth.name}_{kind}.png"


def _name(image: Path) -> str:
    return f"{image.parent.name}/{image.name.removesuffix(ENDING)}"


def _has_classes(label: Path, kind: str) -> bool:
    ids = [id_ for _, id_, _ in LABELS] if kind == "labelIds" else range(len(LABELS))
    return bool(np.isin(read_label_values(label), list(ids)).any())
