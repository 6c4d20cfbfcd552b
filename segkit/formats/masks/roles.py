"""Which files are images and which are labels, by the words in the names of their folders and their own.

These are rules 1 and 3 of `pairing`. Not here: which label belongs to which image, and in which split they are.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.masks import MASK_SUFFIXES
from segkit.errors import listed
from segkit.formats.options import ReadOptions
from segkit.formats.splits import SPLIT_WORDS

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


@dataclass(frozen=True)
class NamedFile:
    """A file and what names say about it.

    `role` ("image" or "label") and `split`: those of its folders, if they have one. `rest`: its folders without those
    that name a role or a split. `cores`: its name without suffix, as it is and without words of its role.
    """

    path: Path
    role: str | None
    split: str | None
    rest: tuple[str, ...]
    cores: frozenset[str]

    @property
    def stem(self) -> str:
        return self.path.name.rpartition(".")[0]


def assign_roles(root: Path, options: ReadOptions) -> tuple[list[NamedFile], list[NamedFile]]:
    """Return the images and the labels below `root`, or below the folders that the options name instead."""
    files = _scan(root, root)
    images = _scan(options.images, options.images) if options.images else [f for f in files if f.role == "image"]
    labels = _scan(options.labels, options.labels) if options.labels else [f for f in files if f.role == "label"]
    if options.images and not labels:
        labels = _without(files, images)
    elif options.labels and not images:
        images = [file for file in _without(files, labels) if file.role is None]
    elif not images and not labels:
        images, labels = _distinguish(files)
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


def describe_assumptions(root: Path, pairs: Sequence[tuple[NamedFile, NamedFile]], options: ReadOptions) -> list[str]:
    """Return notes: which folders were taken for images, or labels, only because the others are named as such."""
    images, labels = zip(*pairs, strict=True)
    notes = []
    for kind, files, others, named in (
        ("images", images, labels, options.images),
        ("labels", labels, images, options.labels),
    ):
        if named is None and not any(file.role for file in files) and all(file.role for file in others):
            folders = sorted({file.path.parent.relative_to(root).as_posix() for file in files})
            notes.append(f"no folder is named as one that holds {kind}; they are taken from {listed(folders)}")
    return notes


def _without(files: Iterable[NamedFile], others: Iterable[NamedFile]) -> list[NamedFile]:
    taken = {os.path.abspath(file.path) for file in others}
    return [file for file in files if os.path.abspath(file.path) not in taken]


def _scan(folder: Path, base: Path) -> list[NamedFile]:
    """Return every image file below a folder, sorted; the folders below `base` give its role and split."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        role, split, rest = _read_folders(Path(parent).relative_to(base).parts)
        found += [
            NamedFile(Path(parent, name), role, split, rest, frozenset())
            for name in sorted(names)
            if name.lower().endswith(IMAGE_SUFFIXES + MASK_SUFFIXES) and not name.startswith(".")
        ]
    return found


def _read_folders(folders: Sequence[str]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return the role and the split that folders name (the deepest role, the first split), and the other folders."""
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


def _distinguish(files: list[NamedFile]) -> tuple[list[NamedFile], list[NamedFile]]:
    """Return images and labels of files whose folders have no role: rule 3."""
    by_core = defaultdict(list)
    for file in files:
        for core in _cores(file.stem, IMAGE_WORDS):
            by_core[core].append(file)

    def is_label(file: NamedFile) -> bool:
        shorter = _cores(file.stem, LABEL_WORDS | LABEL_ENDINGS) - {file.stem}
        if any(other is not file for core in shorter for other in by_core.get(core, ())):
            return True
        beside = [other for other in by_core[file.stem] if other.path.parent == file.path.parent and other is not file]
        return not _is_jpeg(file) and any(_is_jpeg(other) and other.stem == file.stem for other in beside)

    labels = [file for file in files if is_label(file)]
    return _without(files, labels), labels


def _is_jpeg(file: NamedFile) -> bool:
    return file.path.name.lower().endswith((".jpg", ".jpeg"))


def _cores(stem: str, words: set[str]) -> frozenset[str]:
    """Return a name as it is, without each of the words that it holds, and without all of them."""
    pieces = re.split(r"([^A-Za-z0-9]+)", stem)  # words at even positions, separators between them
    hits = [index for index in range(0, len(pieces), 2) if pieces[index].lower() in words]
    return frozenset({stem, _cut(pieces, hits), *(_cut(pieces, [index]) for index in hits)} - {""})


def _cut(pieces: Sequence[str], hits: Sequence[int]) -> str:
    """Join the pieces without the words at `hits` and the separators before them."""
    kept = [index for index in range(0, len(pieces), 2) if index not in hits]
    return "".join((pieces[index - 1] if n else "") + pieces[index] for n, index in enumerate(kept))
