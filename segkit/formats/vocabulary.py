"""The labels of a source become classes: which id each name has, and what pixels without a label become.

A class called background (in any case, _background_ too) is the background, of which there is at most one; it goes
first where nobody says otherwise, and by the name `background`, whatever the tool calls it. Not here: what a source
means to be left out (__ignore__, VOC's borders), which is ignored always.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.classes import RGB, Classes, read_class_names, voc_color
from segkit.errors import ConfigError, DataError, listed
from segkit.formats.options import ReadOptions, Unlabeled

BACKGROUND = "background"
IGNORED = "__ignore__"  # what labelme, CVAT and lists of colours call pixels that are left out
CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt")  # beside the labels, names in id order


def is_background(name: str) -> bool:
    """True for background, Background, _background_ and the like."""
    return name.strip("_").lower() == BACKGROUND


def find_background(names: Sequence[str]) -> int | None:
    """Return the id of the background: the first class that is called so."""
    return next((class_id for class_id, name in enumerate(names) if is_background(name)), None)


def read_class_file(root: Path) -> tuple[Path, list[str]] | None:
    """Return the list of names that a source brings along in its root, if it does, and the names in id order.

    A first line __ignore__, as labelme has it, is id -1 and no class.

    Raises:
        DataError: it is empty or no text.
    """
    path = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if path is None:
        return None
    names = read_class_names(path)
    return path, names[1:] if names[0] == IGNORED else names


@dataclass(frozen=True)
class Vocabulary:
    """`ids`: class id of each label of the source. `rest`: id of pixels that have none of the classes."""

    classes: Classes
    ids: dict[str, int]
    rest: int
    notes: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        source: Path,
        labels: Sequence[str],
        options: ReadOptions,
        *,
        unlabeled: Unlabeled = "background",
        colors: Mapping[str, RGB] | None = None,
        names: Sequence[str] = (),
    ) -> "Vocabulary":
        """Give each label of the source an id: by `options.classes`, or `names`, or in the source's order.

        `unlabeled` is the format's own rule, which holds unless the options say another. Where pixels become
        background, there is a class for it: the source's own, or one more, in front. `names` are those of a file beside
        the source, in id order; if no background is among them, every pixel is to have a label, and those that have
        none are ignored.

        Raises:
            DataError: nothing names a class.
            ConfigError: options.classes lack the background that is needed, or there aren't 2 to 254 different names.
        """
        labels = list(dict.fromkeys(labels))
        rule = options.unlabeled or unlabeled
        chosen = list(options.classes or names)
        if not labels and not chosen:
            raise DataError(f"{source}: found no label, expected at least one; is it the right file or folder?")
        if not chosen:
            chosen = [BACKGROUND] if rule == "background" or any(map(is_background, labels)) else []
            chosen += [label for label in labels if not is_background(label)]
        background, notes = find_background(chosen), []
        if rule == "background" and background is None:
            if options.classes or options.unlabeled:
                raise ConfigError(
                    f"--classes: found {','.join(chosen)}, expected '{BACKGROUND}' among them, which pixels without a "
                    f"label become; add it: --classes {BACKGROUND},{','.join(chosen)}, or leave such pixels out: "
                    "--unlabeled ignore"
                )
            notes.append("pixels without a label are ignored, since no class is called background")
            rule = "ignore"
        by_name = {BACKGROUND if is_background(name) else name: color for name, color in (colors or {}).items()}
        classes = Classes.build(chosen, colors=[by_name.get(name, voc_color(id_)) for id_, name in enumerate(chosen)])
        rest = background if rule == "background" and background is not None else classes.ignore_index
        ids = {label: chosen.index(label) if label in chosen else rest for label in labels}
        if background is not None:
            ids |= {label: background for label in labels if label not in chosen and is_background(label)}
        what = "background" if rule == "background" else "ignored"
        return cls(classes, ids, rest, (*notes, *_notes(labels, chosen, what, absent=options.classes is not None)))

    @classmethod
    def of_colors(cls, source: Path, colors: Mapping[RGB, str], options: ReadOptions) -> "Vocabulary":
        """Give each name of a colour table an id, but __ignore__. Every pixel has a colour; those of classes that the
        options don't name become background, if one of the colours is.

        Raises:
            DataError, ConfigError: as `build`.
        """
        names = [name for name in colors.values() if name != IGNORED]
        rule: Unlabeled = "background" if any(map(is_background, names)) else "ignore"
        return cls.build(source, names, options, unlabeled=rule, colors={name: color for color, name in colors.items()})


def _notes(labels: Sequence[str], names: Sequence[str], rest: str, *, absent: bool) -> list[str]:
    """Say which labels are no class, and which classes that a user asked for no label is called."""
    dropped = [label for label in labels if label not in names and not is_background(label)]
    missing = [name for name in names if absent and name not in labels and not is_background(name)]
    notes = []
    if dropped:
        notes.append(f"labels that are not among the classes become {rest}: {listed(dropped)}")
    if missing:
        near = difflib.get_close_matches(missing[0], [label for label in labels if label not in names], n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        notes.append(f"no label of the source is called {listed(missing)}{meant}; it has: {listed(labels) or 'none'}")
    return notes
