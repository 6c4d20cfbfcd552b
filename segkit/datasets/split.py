"""Divide a data set into splits, or into folds for cross-validation, so that each has its share of every class.

Stratified by which classes an image shows (iterative stratification: Sechidis, Tsoumakas, Vlahavas 2011, On the
stratification of multi-label data), with images that belong together (frames of one video) kept in one split. The
order in which images are dealt out is that of a hash of their names and the seed, hence the same on every machine.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.config.schema import DataConfig
from segkit.datasets.label_faults import MOST_VALUES, object_value
from segkit.datasets.layouts import EVERYTHING, Item, has_class_file, list_items, resolve_classes
from segkit.datasets.masks import color_codes, read_label_values
from segkit.datasets.split_files import parse_split
from segkit.datasets.split_folders import find_layout, find_split, has_split, voc_root
from segkit.errors import ConfigError, DataError
from segkit.runtime.files import write_bytes_durably
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

UNLABELLED = 255

Names = list[str]


@dataclass(frozen=True)
class Unit:
    """Images that stay together, and the label values that any of them shows."""

    names: tuple[str, ...]
    labels: frozenset[int]


@dataclass(frozen=True)
class Division:
    """Split files that were written: the names in each, and what was looked at to make them alike.

    `labels` are the values (or codes of colours, R * 65536 + G * 256 + B) that each image's label file stores.
    """

    folder: Path
    splits: dict[str, Names]
    labels: dict[str, frozenset[int]]
    class_names: tuple[str, ...]  # by value; none where the data set doesn't say
    num_apart: int = 0  # images of a test split that was there, which are in none of these


def split_data_set(
    root: Path,
    *,
    val: float = 0.1,
    test: float = 0.0,
    folds: int = 0,
    repeats: int = 1,
    group_by: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> Division:
    """Write split files into a data set of layout voc or folders.

    `val` and `test` are fractions below 1, or counts. With `folds`, what isn't in test is divided into that many parts
    of equal size: fold1_val is the first, fold1_train the others, and so on; `repeats` times with other seeds
    (repeat2_fold1_train, ...). Without `test`, the images of an existing test split are left out: they
    would be trained on.

    Raises:
        ConfigError: numbers or a pattern that can't be met.
        DataError: the folder is no data set of these layouts, a label can't be read, or one of the split files
            exists, and not `force`.
    """
    _check_numbers(val, test, folds, repeats)
    data = DataConfig(root=str(root), layout=find_layout(root))
    everything = list_items(data, EVERYTHING)
    items = everything if test else _without_test(data, everything)
    if not items:
        raise DataError(f"{root}: every image is in the existing test split; expected some to train on")
    labels = _labels_of(items)
    units = make_units(labels, group_by)
    held_out = {"test": _count(test, len(items), "--test")}
    if not folds:
        held_out["val"] = _count(val, len(items), "--val")
    taken = sum(held_out.values())
    if taken >= len(items):
        raise ConfigError(f"--val, --test: take {taken} of {len(items)} images, expected at least one left to train on")
    sizes = {"train": len(items) - taken, **{name: size for name, size in held_out.items() if size}}
    splits = deal(units, sizes, seed=seed)
    if folds:
        rest = set(splits.pop("train"))  # not written: a data set's own train.txt stays
        splits |= _make_folds([unit for unit in units if unit.names[0] in rest], folds, repeats, seed)
    empty = [name for name, names in splits.items() if not names]
    if empty:
        raise ConfigError(
            f"{root}: no images are left for {', '.join(empty)}: there are {len(units)} groups of {len(items)} "
            "images, expected more groups than splits; change --group-by, or ask for fewer splits"
        )
    folder = voc_root(root) / "ImageSets" / "Segmentation" if data.layout == "voc" else root / "splits"
    folder = _write(folder if data.layout == "voc" else root, folder, splits, force=force)
    names = resolve_classes(data).names if has_class_file(data) else ()
    return Division(folder, splits, labels, names, num_apart=len(everything) - len(items))


def deal(units: Sequence[Unit], sizes: Mapping[str, int], *, seed: int | str) -> dict[str, Names]:
    """Divide units into splits of about the given numbers of images (exactly, where each unit is one image).

    The rarest label goes first: its images are dealt to the split that lacks most of them, then the next rare one's.
    """
    total = sum(sizes.values())
    images = Counter(label for unit in units for label in unit.labels for _ in unit.names)
    missing = {name: {label: images[label] * size / total for label in images} for name, size in sizes.items()}
    room = dict(sizes)
    left = sorted(units, key=lambda unit: (-len(unit.names), _rank(seed, unit.names[0])))
    dealt: dict[str, Names] = {name: [] for name in sizes}

    def give(unit: Unit, label: int | None) -> None:
        def need(name: str) -> tuple[float, float, bytes]:
            lacking = 0.0 if label is None else missing[name][label]
            return lacking, room[name] / sizes[name], _rank(seed, name)

        name = max((name for name in sizes if room[name] > 0), key=need)
        dealt[name] += unit.names
        room[name] -= len(unit.names)
        for shown in unit.labels:
            missing[name][shown] -= len(unit.names)
            images[shown] -= len(unit.names)

    while left:
        rarest = min(((count, label) for label, count in images.items() if count > 0), default=(0, None))[1]
        chosen = [unit for unit in left if rarest is None or rarest in unit.labels]
        left = [unit for unit in left if rarest is not None and rarest not in unit.labels]
        for unit in chosen:
            give(unit, rarest)
    return {name: sorted(names) for name, names in dealt.items()}


def make_units(labels: Mapping[str, frozenset[int]], group_by: str | None) -> list[Unit]:
    """Put images together whose names give the same match of a pattern: its first group, or else all of it.

    Raises:
        ConfigError: not a regular expression, or one that a name doesn't match.
    """
    if group_by is None:
        return [Unit((name,), shown) for name, shown in labels.items()]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"--group-by: {group_by!r} is no regular expression ({error})") from error
    groups: dict[str, Names] = {}
    for name in labels:
        found = pattern.search(name)
        if found is None:
            raise ConfigError(
                f"--group-by: {group_by!r} doesn't match the name {name!r}, expected a match in every name, as "
                "'^(.*)_[0-9]+$' has in drive1_0007"
            )
        groups.setdefault(found[1] if pattern.groups else found[0], []).append(name)
    return [Unit(tuple(names), frozenset().union(*(labels[name] for name in names))) for names in groups.values()]


# ---- details


def _without_test(data: DataConfig, items: Sequence[Item]) -> list[Item]:
    folders = find_split(data, "test")
    if folders is None or not has_split(data, "test"):
        return list(items)
    if folders.names is None:  # a folder of its own
        return [item for item in items if isinstance(item.image, Path) and folders.images not in item.image.parents]
    tested = set(parse_split(folders.names, {item.name for item in items})[0])
    return [item for item in items if item.name not in tested]


def _check_numbers(val: float, test: float, folds: int, repeats: int) -> None:
    problems = [
        f"{option}: found {value:g}, expected a fraction below 1 or a whole number of images"
        for option, value in (("--val", val), ("--test", test))
        if value < 0 or (value >= 1 and value != int(value))
    ]
    if folds < 0 or folds == 1:
        problems.append(f"--folds: found {folds}, expected 2 or more")
    if repeats < 1 or (repeats > 1 and not folds):
        problems.append(f"--repeats: found {repeats}, expected 1 or more, with --folds")
    if problems:
        raise ConfigError("\n".join(problems))


def _count(amount: float, total: int, option: str) -> int:
    """Turn a fraction into a number of images: the nearest, but at least one."""
    count = max(1, round(amount * total)) if 0 < amount < 1 else int(amount)
    if count > total:
        raise ConfigError(f"{option}: found {count}, expected at most the {total} images that there are")
    return count


def _labels_of(items: Sequence[Item]) -> dict[str, frozenset[int]]:
    """Return for each name the values, or codes of colours, that its label file stores.

    255 means "no label", but where labels hold 0 and 255 alone.
    """

    def read(item: Item) -> frozenset[int]:
        assert item.mask is not None, item
        stored = read_label_values(item.mask)
        if stored.ndim == 3:
            stored = color_codes(stored)
        return frozenset(np.unique(stored).tolist())

    found = prefetch(read, items, threads=count_threads(), ahead=64)
    bar = progress(found, total=len(items), title="reading labels", unit="files")
    labels = {item.name: shown for item, shown in zip(items, bar, strict=True)}
    values = frozenset().union(*labels.values())
    if object_value(values) != UNLABELLED:  # masks of 0 and 255 have 255 as their class
        labels = {name: shown - {UNLABELLED} for name, shown in labels.items()}
        values -= {UNLABELLED}
    if len(values) > MOST_VALUES:
        raise DataError(
            f"{items[0].mask} and the others hold {len(values)} different values, expected at most {MOST_VALUES} for "
            "classes; are these instances, or labels that were compressed or smoothed?"
        )
    return labels


def _make_folds(units: Sequence[Unit], folds: int, repeats: int, seed: int) -> dict[str, Names]:
    total = sum(len(unit.names) for unit in units)
    sizes = {f"fold{k + 1}": total // folds + (k < total % folds) for k in range(folds)}
    if total < folds:
        raise ConfigError(f"--folds: found {folds}, expected at most the {total} images that there are")
    made = {}
    for repeat in range(repeats):
        prefix = f"repeat{repeat + 1}_" if repeats > 1 else ""
        parts = deal(units, sizes, seed=f"{seed}/{repeat}")
        for name, held_out in parts.items():
            made[f"{prefix}{name}_train"] = sorted(
                other for part, names in parts.items() if part != name for other in names
            )
            made[f"{prefix}{name}_val"] = held_out
    return made


def _write(root: Path, folder: Path, splits: Mapping[str, Names], *, force: bool) -> Path:
    """Write the split files, each instead of an existing one, so that none hides another; return where."""
    beside = {name: root / f"{name}.txt" for name in splits}
    paths = {name: path if path.exists() else folder / f"{name}.txt" for name, path in beside.items()}
    there = [path for path in paths.values() if path.exists()]
    if there and not force:
        raise DataError(
            f"{there[0]}: this split exists already{f', and {len(there) - 1} more' if len(there) > 1 else ''}, "
            "expected none of these names; models may have been measured on it. Replace them with --force"
        )
    for name, path in paths.items():
        text = "".join(f"{image}\n" for image in splits[name])
        write_bytes_durably(path, text.encode(), elsewhere="another folder")
    return next(iter(paths.values())).parent


def _rank(seed: int | str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
