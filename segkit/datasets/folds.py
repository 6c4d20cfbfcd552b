"""The folds of a data set: which split files for cross-validation it has, as `segkit split --folds` writes them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.config.schema import DataConfig
from segkit.datasets.layouts import check_root
from segkit.datasets.split_folders import voc_root
from segkit.errors import ConfigError, DataError, summarize

_SPLIT_FILE = re.compile(r"(repeat([1-9][0-9]*)_)?fold([1-9][0-9]*)_(train|val)")


@dataclass(frozen=True, order=True)
class Fold:
    """One of several ways to divide the same images. Both numbers count from 1."""

    repeat: int
    number: int
    name: str  # fold1, or repeat1_fold1 where there are repeats

    @property
    def train(self) -> str:
        """The split that is trained on."""
        return f"{self.name}_train"

    @property
    def val(self) -> str:
        """The split that is held out."""
        return f"{self.name}_val"


def find_folds(data: DataConfig) -> list[Fold]:
    """Return the folds of a data set, by repeat and number. What the files hold isn't looked at.

    Raises:
        ConfigError: the config says otherwise which images to train on.
        DataError: no data set, no folds, or some are missing.
    """
    check_root(data)
    root = Path(data.root)
    if data.layout == "webdataset":
        raise ConfigError(
            "data.layout: found webdataset, expected voc or folders for --folds: which image is in which fold is "
            "written in files beside the images, and shards are divided already; use the data set that they were "
            "made from"
        )
    if data.val_fraction:
        raise ConfigError(
            f"data.val_fraction: {data.val_fraction:g} is set, expected 0 for --folds, where the split files of the "
            "data set say what is held out; add data.val_fraction=0"
        )
    if (data.train, data.val) != (DataConfig.train, DataConfig.val):
        raise ConfigError(
            f"data.train, data.val: set to '{data.train}' and '{data.val}', without effect with --folds, which trains "
            f"and validates on each fold's own; add data.train={DataConfig.train} data.val={DataConfig.val}"
        )
    folders = [voc_root(root) / "ImageSets" / "Segmentation"] if data.layout == "voc" else [root, root / "splits"]
    found: dict[Fold, set[str]] = defaultdict(set)
    for path in (path for folder in folders for path in folder.glob("*fold*.txt")):
        if match := _SPLIT_FILE.fullmatch(path.stem):
            prefix, repeat, number, part = match.groups(default="")
            found[Fold(int(repeat or 1), int(number), f"{prefix}fold{number}")].add(part)
    if not found:
        raise DataError(
            f"{folders[-1]}: no folds, expected fold1_train.txt, fold1_val.txt and so on; write them with: "
            f"segkit split {data.root} --folds 5"
        )
    _check_complete(found, folders[-1], data.root)
    return sorted(found)


def check_disjoint(names: dict[Fold, tuple[Sequence[str], Sequence[str]]]) -> None:
    """Check that folds measure what they promise; `names` are those that each is trained on, and those held out.

    Raises:
        DataError: an image is trained on and held out, is held out twice in one repeat, or not in every repeat.
    """
    problems = []
    held_out: dict[int, dict[str, Fold]] = defaultdict(dict)
    for fold, (train, val) in names.items():
        problems += [f"{name}: in {fold.train} and in {fold.val}" for name in sorted(set(train) & set(val))]
        repeat = held_out[fold.repeat]
        problems += [f"{name}: in {repeat[name].val} and in {fold.val}" for name in val if name in repeat]
        repeat.update(dict.fromkeys(val, fold))
    everything = set().union(*held_out.values())
    for number, repeat in held_out.items():
        problems += [f"{name}: not held out in repeat {number}" for name in sorted(everything - repeat.keys())]
    if problems:
        raise DataError(
            f"{summarize(problems)}\nexpected folds that each hold out other images, every one of them once in each "
            "repeat (left over from an earlier split?); remove these split files and write new ones with segkit split"
        )


def _check_complete(found: dict[Fold, set[str]], folder: Path, root: str) -> None:
    """Raises DataError if folds with and without repeats stand side by side, or some are missing."""
    remedy = f"write them anew with: segkit split {root} --folds {max(fold.number for fold in found)}"
    plain = [fold for fold in found if fold.name.startswith("fold")]
    if plain and len(plain) < len(found):
        other = next(fold for fold in found if fold not in plain)
        raise DataError(
            f"{folder}: found {min(plain).train}.txt and {other.train}.txt, expected folds with repeats or without; "
            "remove the files of those that aren't meant"
        )
    repeats, number = max(fold.repeat for fold in found), max(fold.number for fold in found)
    if repeats > 1:
        remedy += f" --repeats {repeats}"
    parts = {(fold.repeat, fold.number): kinds for fold, kinds in found.items()}
    missing = [
        f"{'' if plain else f'repeat{r}_'}fold{k}_{part}.txt"
        for r in range(1, repeats + 1)
        for k in range(1, max(2, number) + 1)
        for part in ("train", "val")
        if part not in parts.get((r, k), ())
    ]
    if missing:
        shown = f"{', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}"
        raise DataError(
            f"{folder}: {shown} {'is' if len(missing) == 1 else 'are'} missing, expected both files of every fold; "
            f"put back what is missing, or {remedy} --force"
        )
