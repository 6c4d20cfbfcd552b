"""How a picture finds its label in folders as people have them. Small rules, and nothing that is guessed:

1. Roles. A folder is one of labels if a word of its name is in LABEL_WORDS (`masks`, `ann_dir`, `train_annot`), one of
   pictures if a word is in IMAGE_WORDS; the deepest such folder decides. Where there are folders of labels but none of
   pictures, all other files are pictures; where there are folders of pictures but none of labels, all other files are
   labels; both with a note. `options.images` and `options.labels` name folders instead.
2. Names. A label belongs to a picture if their names without suffix are equal, as they are or without their words of
   role: 0007_img and 0007_gt, 0007 and mask_0007.
3. One folder. Where no folder has a role, the file is a label whose name is another's with a word of LABEL_WORDS more,
   or that is not a JPEG beside a JPEG of the same name.
4. Splits. The first word of a folder's name in SPLIT_WORDS (train/, masks/val/, train_images/); if no folder tells,
   lists: train.txt, val.txt, test.txt in SRC, splits/, ImageSets/Segmentation/ or ImageSets/. A label outside the
   splits serves a picture in any.
5. Sub-folders. What remains of the path must be equal too, unless the label's isn't a folder of pictures and one
   picture and one label alone have that name.

Two labels for a picture, or two pictures for a label, are an error, and so is a label without a picture: its work would
be lost. Pictures without a label are left out, with a note.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.masks import MASK_SUFFIXES
from segkit.datasets.split_files import read_split
from segkit.errors import DataError, count, listed, summarize
from segkit.formats.sample import NO_SPLIT, Picture, ReadOptions, arrange
from segkit.formats.splits import SPLIT_WORDS, is_split

IMAGE_WORDS = {
    "image", "images", "img", "imgs", "jpegimages", "leftimg8bit", "photo", "photos", "pic", "pics", "picture",
    "pictures", "rgb", "sat", "stillsraw",
}  # fmt: skip
LABEL_WORDS = {
    "ann", "anns", "annot", "annotation", "annotations", "annots", "groundtruth", "gt", "gtcoarse", "gtfine", "gts",
    "label", "labeledapproved", "labels", "manual", "mask", "masks", "seg", "segmentation", "segmentationclass",
    "segmentationclassraw", "segmentations", "segs", "target", "targets", "truth",
}  # fmt: skip
LABEL_ENDINGS = {"color", "colors", "instanceids", "l", "labelids", "labeltrainids", "manual1", "manual2"}  # of files
LIST_FOLDERS = (".", "splits", "ImageSets/Segmentation", "ImageSets")


@dataclass(frozen=True)
class Pair:
    """A picture and its label. `name`: the picture's path without suffix, split and folders of a role."""

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Pairing:
    """The pairs of each split, sorted by name, and the pictures that have no label."""

    splits: dict[str, list[Pair]]
    unlabelled: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[Path]:
        """Every label, in order."""
        return [pair.label for pairs in self.splits.values() for pair in pairs]

    def pictures(self, read: Callable[[Path], np.ndarray]) -> dict[str, list[Picture]]:
        """Return the pictures by split; `read` turns a label file into class ids uint8 [h, w]."""
        return arrange(
            {
                split: [Picture(pair.name, pair.image, partial(read, pair.label)) for pair in pairs]
                for split, pairs in self.splits.items()
            }
        )


def find_pairs(root: Path, options: ReadOptions) -> Pairing:
    """Pair the pictures and labels below `root` by the rules above.

    Raises:
        DataError: no folder, no pair at all, or something that can't be told: the first ten and how many there are.
    """
    for folder in (root, options.images, options.labels):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder}: no such folder, expected one with pictures or labels; check the path")
    images, labels = _roles(root, options)
    pairs, orphans, problems = _match(images, labels)
    if problems:
        raise DataError(summarize(problems))
    if not pairs:
        raise DataError(
            f"{root}: found no picture with a label ({len(images)} pictures, {len(labels)} labels by their folders), "
            "expected folders like images/ and masks/ with equal names, or names like 0007.jpg and 0007_mask.png; say "
            "which folders you mean: --images DIR --labels DIR"
        )
    if orphans:
        raise DataError(
            summarize(
                [f"{file.path}: found no picture for this label; add it, or take the label out" for file in orphans]
            )
        )
    paired = {image.path for image, _ in pairs}
    unlabelled = tuple(image.path for image in images if image.path not in paired)
    splits, notes = _split(root, pairs, unlabelled)
    notes += _assumed(root, pairs, options)
    if unlabelled:
        notes.append(f"{count(len(unlabelled), 'picture')} without a label left out: {listed(unlabelled)}")
    return Pairing(splits, unlabelled, tuple(notes))


# ---- 1 and 3: roles


@dataclass(frozen=True)
class _File:
    """`role`: that of its folder. `rest`: the path without folders that tell a role or a split. `cores`: its name
    without suffix, as it is and without words of its role."""

    path: Path
    role: str | None
    split: str | None
    rest: tuple[str, ...]
    cores: frozenset[str]

    @property
    def stem(self) -> str:
        return self.path.name.rpartition(".")[0]


def _roles(root: Path, options: ReadOptions) -> tuple[list[_File], list[_File]]:
    files = _scan(root, root)
    images = _scan(options.images, options.images) if options.images else [f for f in files if f.role == "image"]
    labels = _scan(options.labels, options.labels) if options.labels else [f for f in files if f.role == "label"]
    if options.images and not labels:
        labels = _without(files, images)
    elif options.labels and not images:
        images = [file for file in _without(files, labels) if file.role is None]
    elif not images and not labels:
        images, labels = _tell_apart(files)
    elif not images:
        images = _without(files, labels)
    elif not labels:
        labels = _without(files, images)
    if options.labels:
        images = _without(images, labels)
    elif options.images:
        labels = _without(labels, images)
    images = [file for file in images if file.path.name.lower().endswith(IMAGE_SUFFIXES)]
    return (
        [replace(file, cores=_cores(file.stem, IMAGE_WORDS)) for file in images],
        [replace(file, cores=_cores(file.stem, LABEL_WORDS | LABEL_ENDINGS)) for file in labels],
    )


def _assumed(root: Path, pairs: Sequence[tuple[_File, _File]], options: ReadOptions) -> list[str]:
    """Say which folders were taken for pictures, or labels, only because the others have names that tell."""
    images, labels = zip(*pairs, strict=True)
    notes = []
    for kind, files, others, named in (
        ("pictures", images, labels, options.images),
        ("labels", labels, images, options.labels),
    ):
        if named is None and not any(file.role for file in files) and all(file.role for file in others):
            folders = sorted({file.path.parent.relative_to(root).as_posix() for file in files})
            notes.append(f"no folder's name tells that it holds {kind}; they are taken from {listed(folders)}")
    return notes


def _without(files: Iterable[_File], others: Iterable[_File]) -> list[_File]:
    taken = {os.path.abspath(file.path) for file in others}
    return [file for file in files if os.path.abspath(file.path) not in taken]


def _scan(folder: Path, base: Path) -> list[_File]:
    """Return every picture file below a folder, sorted; its role and split are told by the folders below `base`."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        role, split, rest = _read_folders(Path(place).relative_to(base).parts)
        found += [
            _File(Path(place, name), role, split, rest, frozenset())
            for name in sorted(names)
            if name.lower().endswith(IMAGE_SUFFIXES + MASK_SUFFIXES) and not name.startswith(".")
        ]
    return found


def _read_folders(folders: Sequence[str]) -> tuple[str | None, str | None, tuple[str, ...]]:
    role, split, rest = None, None, []
    for folder in folders:
        words = set(re.split(r"[^a-z0-9]+", folder.lower()))
        for word in list(words):
            glued = re.fullmatch(r"(train|val|test)([a-z]+)", word)  # trainannot
            if glued and glued[2] in IMAGE_WORDS | LABEL_WORDS:
                words |= {glued[1], glued[2]}
        own_role = "label" if words & LABEL_WORDS else "image" if words & IMAGE_WORDS else None
        own_split = next((SPLIT_WORDS[word] for word in sorted(words) if word in SPLIT_WORDS), None)
        role, split = own_role or role, split or own_split
        if own_role is None and own_split is None:
            rest.append(folder)
    return role, split, tuple(rest)


def _tell_apart(files: list[_File]) -> tuple[list[_File], list[_File]]:
    by_core = defaultdict(list)
    for file in files:
        for core in _cores(file.stem, IMAGE_WORDS):
            by_core[core].append(file)

    def is_label(file: _File) -> bool:
        shorter = _cores(file.stem, LABEL_WORDS | LABEL_ENDINGS) - {file.stem}
        if any(other is not file for core in shorter for other in by_core.get(core, ())):
            return True
        beside = [other for other in by_core[file.stem] if other.path.parent == file.path.parent and other is not file]
        return not _is_jpeg(file) and any(_is_jpeg(other) and other.stem == file.stem for other in beside)

    labels = [file for file in files if is_label(file)]
    return _without(files, labels), labels


def _is_jpeg(file: _File) -> bool:
    return file.path.name.lower().endswith((".jpg", ".jpeg"))


# ---- 2 and 5: names


def _cores(stem: str, words: set[str]) -> frozenset[str]:
    """Return a name as it is, without each of the words that it holds, and without all of them."""
    pieces = re.split(r"([^A-Za-z0-9]+)", stem)  # words at even places, what parts them between
    hits = [place for place in range(0, len(pieces), 2) if pieces[place].lower() in words]
    return frozenset({stem, _cut(pieces, hits), *(_cut(pieces, [place]) for place in hits)} - {""})


def _cut(pieces: Sequence[str], hits: Sequence[int]) -> str:
    kept = [place for place in range(0, len(pieces), 2) if place not in hits]
    return "".join((pieces[place - 1] if i else "") + pieces[place] for i, place in enumerate(kept))


def _match(
    images: Sequence[_File], labels: Sequence[_File]
) -> tuple[list[tuple[_File, _File]], list[_File], list[str]]:
    """Return the pairs, the labels without a picture, and what is ambiguous."""
    by_core = defaultdict(list)
    for image in images:
        for core in image.cores:
            by_core[core].append(image)
    places = {image.rest for image in images}
    of_label: dict[Path, dict[Path, tuple[_File, tuple[bool, bool]]]] = {}
    of_image: dict[Path, dict[Path, tuple[_File, tuple[bool, bool]]]] = defaultdict(dict)
    for label in labels:
        of_label[label.path] = {}
        for image in (image for core in label.cores for image in by_core.get(core, ())):
            same_place = image.rest == label.rest
            fits = same_place or label.rest not in places
            if fits and (None in (image.split, label.split) or image.split == label.split):
                rank = (same_place, image.stem == label.stem)
                of_label[label.path][image.path] = (image, rank)
                of_image[image.path][label.path] = (label, rank)
    pairs, orphans, problems = [], [], []
    for label in labels:
        best = _best(of_label[label.path])
        if len(best) > 1:
            problems.append(
                f"{label.path}: {len(best)} pictures could be its own: {_paths(best)}; {_choice(best, '--images')}"
            )
        elif best and any(other.path == label.path for other in _best(of_image[best[0].path])):
            pairs.append((best[0], label))
        else:
            orphans.append(label)
    for image in images:
        best = _best(of_image.get(image.path, {}))
        if len(best) > 1:
            problems.append(
                f"{image.path}: {len(best)} labels could be its own: {_paths(best)}; {_choice(best, '--labels')}"
            )
    return pairs, orphans, problems


def _best(candidates: dict[Path, tuple[_File, tuple[bool, bool]]]) -> list[_File]:
    highest = max((rank for _, rank in candidates.values()), default=None)
    return [file for file, rank in candidates.values() if rank == highest]


def _paths(files: Sequence[_File]) -> str:
    return listed(file.path for file in files)


def _choice(files: Sequence[_File], option: str) -> str:
    """Say what to type: the folders in which the files differ, if they do."""
    common = Path(os.path.commonpath([file.path.parent for file in files]))
    folders = sorted({common.joinpath(*file.path.parent.relative_to(common).parts[:1]) for file in files})
    if len(folders) < len(files):
        return "move those that aren't meant elsewhere"
    return "say which folder you mean: " + " or ".join(f"{option} {folder}" for folder in folders[:4])


# ---- 4: splits


def _split(
    root: Path, pairs: Sequence[tuple[_File, _File]], unlabelled: Sequence[Path]
) -> tuple[dict[str, list[Pair]], list[str]]:
    found = [("/".join((*image.rest, image.stem)), image, label) for image, label in pairs]
    by_folder = {image.path: image.split or label.split for image, label in pairs}
    if any(by_folder.values()):
        splits: dict[str, list[Pair]] = defaultdict(list)
        for name, image, label in sorted(found, key=lambda entry: entry[0]):
            splits[by_folder[image.path] or NO_SPLIT].append(Pair(name, image.path, label.path))
        return dict(splits), []
    everything = sorted((Pair(name, image.path, label.path) for name, image, label in found), key=lambda p: p.name)
    lists = _lists(root)
    if not lists:
        return {NO_SPLIT: everything}, []
    known = {}
    for (name, image, label), place in ((entry, "/".join(entry[1].rest)) for entry in found):
        pair = Pair(name, image.path, label.path)
        for core in {*image.cores, *label.cores}:
            known[f"{place}/{core}" if place else core] = pair
    return _by_lists(lists, known, everything, {path.name.rpartition(".")[0] for path in unlabelled})


def _lists(root: Path) -> list[Path]:
    for folder in LIST_FOLDERS:
        lists = [path for path in sorted((root / folder).glob("*.txt")) if is_split(path.stem)]
        if lists:
            return lists
    return []


def _by_lists(
    lists: Sequence[Path], known: dict[str, Pair], everything: Sequence[Pair], unlabelled: set[str]
) -> tuple[dict[str, list[Pair]], list[str]]:
    splits, notes, problems = {}, [], []
    for path in lists:
        names = read_split(path, known)
        if all(name in unlabelled for name in names):
            notes.append(f"{path} is left out: none of its {len(names)} pictures has a label")
            continue
        problems += [
            f"{path}: '{name}' has no label; add it, or take the name out"
            if name in unlabelled
            else f"{path}: found no picture '{name}'; add it, or take the name out"
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
        notes.append(f"{count(several, 'picture')} in more than one of {', '.join(splits)}")
    outside = sorted({pair.name for pair in everything} - set(named))
    if outside:
        notes.append(f"{count(len(outside), 'picture')} in no list left out: {listed(outside)}")
    return splits, notes
