"""Which label belongs to which image, in folders as people have them. Small rules, and no guesses (1 and 3: `roles`):

1. Roles. A folder is one of labels if a word of its name is in LABEL_WORDS (`masks`, `ann_dir`, `train_annot`), one of
   images if a word is in IMAGE_WORDS; the deepest such folder decides. Where there are folders of labels but none of
   images, all other files are images; where there are folders of images but none of labels, all other files are
   labels; both with a note. `options.images` and `options.labels` name folders instead.
2. Names. A label belongs to an image if their names without suffix are equal, as they are or without their words of
   role: 0007_img and 0007_gt, 0007 and mask_0007.
3. One folder. Where no folder has a role, the file is a label whose name is another's with a word of LABEL_WORDS more,
   or that is not a JPEG beside a JPEG of the same name.
4. Splits. A word of a folder's name in SPLIT_WORDS (train/, masks/val/, train_images/); if no folder has one,
   lists: train.txt, val.txt, test.txt in SRC, splits/, ImageSets/Segmentation/ or ImageSets/. A label outside the
   splits fits an image of any.
5. Sub-folders. What remains of the paths must be equal too, unless the label's sub-folder holds no images and only one
   image and one label have that name.

Two labels for an image, or two images for a label, are an error, and so is a label without an image: its work would
be lost. Images without a label are left out, with a note.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segkit.datasets.split_files import read_split
from segkit.errors import DataError, count, listed, summarize
from segkit.formats.masks.roles import NamedFile, assign_roles, describe_assumptions
from segkit.formats.options import ReadOptions
from segkit.formats.sample import NO_SPLIT, Sample, arrange
from segkit.formats.splits import SPLIT_WORDS, is_split

LIST_FOLDERS = (".", "splits", "ImageSets/Segmentation", "ImageSets")


@dataclass(frozen=True)
class LabelledImage:
    """An image and its label file, whose stored values are not class ids yet (an `Item` has a mask, or none).

    `name`: the image's path without suffix, and without folders that name a split or a role.
    """

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Pairing:
    """The pairs of each split, sorted by name, and the images that have no label."""

    splits: dict[str, list[LabelledImage]]
    unlabelled: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[Path]:
        """Every label file, in order."""
        return [pair.label for pairs in self.splits.values() for pair in pairs]

    def samples(self, read: Callable[[Path], np.ndarray]) -> dict[str, list[Sample]]:
        """Return the samples by split; `read` turns a label file into class ids uint8 [h, w]."""
        return arrange(
            {
                split: [Sample(pair.name, pair.image, partial(read, pair.label)) for pair in pairs]
                for split, pairs in self.splits.items()
            }
        )


def find_pairs(root: Path, options: ReadOptions) -> Pairing:
    """LabelledImage the images and labels below `root` by the rules above.

    Raises:
        DataError: no folder, no pair at all, or ambiguous names: the first ten and how many there are.
    """
    for folder in (root, options.images, options.labels):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder}: no such folder, expected one with images or labels; check the path")
    images, labels = assign_roles(root, options)
    pairs, orphans, problems = _match(images, labels)
    if problems:
        raise DataError(summarize(problems))
    if not pairs:
        raise DataError(
            f"{root}: found no image with a label ({len(images)} images, {len(labels)} labels by their folders), "
            "expected folders like images/ and masks/ with equal names, or names like 0007.jpg and 0007_mask.png; say "
            "which folders you mean: --images DIR --labels DIR"
        )
    if orphans:
        raise DataError(
            summarize(
                [f"{file.path}: found no image for this label; add it, or take the label out" for file in orphans]
            )
        )
    paired = {image.path for image, _ in pairs}
    unlabelled = tuple(image.path for image in images if image.path not in paired)
    splits, notes = _split(root, pairs, unlabelled)
    notes += describe_assumptions(root, pairs, options)
    if unlabelled:
        notes.append(f"{count(len(unlabelled), 'image')} without a label left out: {listed(unlabelled)}")
    return Pairing(splits, unlabelled, tuple(notes))


# ---- 2 and 5: names


def _match(
    images: Sequence[NamedFile], labels: Sequence[NamedFile]
) -> tuple[list[tuple[NamedFile, NamedFile]], list[NamedFile], list[str]]:
    """Return the pairs, the labels without an image, and messages on what is ambiguous."""
    by_core = defaultdict(list)
    for image in images:
        for core in image.cores:
            by_core[core].append(image)
    image_folders = {image.rest for image in images}
    of_label: dict[Path, dict[Path, tuple[NamedFile, tuple[bool, bool]]]] = {}
    of_image: dict[Path, dict[Path, tuple[NamedFile, tuple[bool, bool]]]] = defaultdict(dict)
    for label in labels:
        of_label[label.path] = {}
        for image in (image for core in label.cores for image in by_core.get(core, ())):
            same_folder = image.rest == label.rest
            fits = same_folder or label.rest not in image_folders
            if fits and (None in (image.split, label.split) or image.split == label.split):
                rank = (same_folder, image.stem == label.stem)
                of_label[label.path][image.path] = (image, rank)
                of_image[image.path][label.path] = (label, rank)
    pairs, orphans, problems = [], [], []
    for label in labels:
        best = _best(of_label[label.path])
        if len(best) > 1:
            problems.append(
                f"{label.path}: {len(best)} images could be its image: {_paths(best)}; {_choice(best, '--images')}"
            )
        elif best and any(other.path == label.path for other in _best(of_image[best[0].path])):
            pairs.append((best[0], label))
        else:
            orphans.append(label)
    for image in images:
        best = _best(of_image.get(image.path, {}))
        if len(best) > 1:
            problems.append(
                f"{image.path}: {len(best)} labels could be its label: {_paths(best)}; {_choice(best, '--labels')}"
            )
    return pairs, orphans, problems


def _best(candidates: dict[Path, tuple[NamedFile, tuple[bool, bool]]]) -> list[NamedFile]:
    highest = max((rank for _, rank in candidates.values()), default=None)
    return [file for file, rank in candidates.values() if rank == highest]


def _paths(files: Sequence[NamedFile]) -> str:
    return listed(file.path for file in files)


def _choice(files: Sequence[NamedFile], option: str) -> str:
    """Say what to type: the folders in which the files differ, if they do."""
    common = Path(os.path.commonpath([file.path.parent for file in files]))
    folders = sorted({common.joinpath(*file.path.parent.relative_to(common).parts[:1]) for file in files})
    if len(folders) < len(files):
        return "move the others elsewhere"
    return "say which folder you mean: " + " or ".join(f"{option} {folder}" for folder in folders[:4])


# ---- 4: splits


def _split(
    root: Path, pairs: Sequence[tuple[NamedFile, NamedFile]], unlabelled: Sequence[Path]
) -> tuple[dict[str, list[LabelledImage]], list[str]]:
    found = [("/".join((*image.rest, image.stem)), image, label) for image, label in pairs]
    by_folder = {image.path: image.split or label.split for image, label in pairs}
    if any(by_folder.values()):
        splits: dict[str, list[LabelledImage]] = defaultdict(list)
        for name, image, label in sorted(found, key=lambda entry: entry[0]):
            splits[by_folder[image.path] or NO_SPLIT].append(LabelledImage(name, image.path, label.path))
        return dict(splits), []
    everything = sorted(
        (LabelledImage(name, image.path, label.path) for name, image, label in found), key=lambda p: p.name
    )
    lists = _lists(root)
    if not lists:
        return {NO_SPLIT: everything}, []
    known = {}
    for (name, image, label), folder in ((entry, "/".join(entry[1].rest)) for entry in found):
        pair = LabelledImage(name, image.path, label.path)
        for core in {*image.cores, *label.cores}:
            known[f"{folder}/{core}" if folder else core] = pair
    return _by_lists(lists, known, everything, {path.name.rpartition(".")[0] for path in unlabelled})


def _lists(root: Path) -> list[Path]:
    for folder in LIST_FOLDERS:
        lists = [path for path in sorted((root / folder).glob("*.txt")) if is_split(path.stem)]
        if lists:
            return lists
    return []


def _by_lists(
    lists: Sequence[Path], known: dict[str, LabelledImage], everything: Sequence[LabelledImage], unlabelled: set[str]
) -> tuple[dict[str, list[LabelledImage]], list[str]]:
    splits, notes, problems = {}, [], []
    for path in lists:
        names = read_split(path, known)
        if all(name in unlabelled for name in names):
            notes.append(f"{path} is left out: none of its {len(names)} images has a label")
            continue
        problems += [
            f"{path}: '{name}' has no label; add it, or take the name out"
            if name in unlabelled
            else f"{path}: found no image '{name}'; add it, or take the name out"
            for name in names
            if name not in known
        ]
        splits[SPLIT_WORDS[path.stem.lower()]] = sorted(
            (known[name] for name in names if name in known), key=lambda pair: pair.name
        )
    if problems:
        raise DataError(summarize(problems))
    named = [pair.name for pairs in splits.values() for pair in pairs]
    if several := len(named) - len(set(named)):
        notes.append(f"{count(several, 'image')} in more than one of {', '.join(splits)}")
    outside = sorted({pair.name for pair in everything} - set(named))
    if outside:
        notes.append(f"{count(len(outside), 'image')} in no list left out: {listed(outside)}")
    return splits, notes
