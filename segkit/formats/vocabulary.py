"""The labels of a source become classes: which id each name has, and what pixels without a label become.

A class called background (or _background_) is the background, of which there is at most one; it goes first where the
user doesn't say otherwise. Not here: what a source means to be left out (__ignore__, VOC's borders), which is ignored
always.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.classes import RGB, Classes, voc_color
from segkit.errors import ConfigError, DataError
from segkit.formats.pictures import ReadOptions, Unlabeled

BACKGROUND_NAMES = ("background", "_background_")


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
    ) -> "Vocabulary":
        """Give each label of the source an id, by `options.classes` or in the source's order.

        `unlabeled` is the format's own rule, which holds unless the options say another. Where pixels become
        background, there is a class for it: the source's own, or one more, in front.

        Raises:
            DataError: the source has no label at all.
            ConfigError: options.classes lack the background that is needed, or aren't 2 to 254 different names.
        """
        labels = list(dict.fromkeys(labels))
        if not labels:
            raise DataError(f"{source}: found no label, expected at least one; is it the right file or folder?")
        rule = options.unlabeled or unlabeled
        own = _background(labels)
        if options.classes is not None:
            names = list(options.classes)
        elif own is not None or rule == "background":
            names = [own or "background", *(label for label in labels if label != own)]
        else:
            names = labels
        background = _background(names)
        if rule == "background" and background is None:
            raise ConfigError(
                f"--classes: found {','.join(names)}, expected the background among them, which pixels without a label "
                f"become; add it: --classes background,{','.join(names)}, or leave such pixels out: --unlabeled ignore"
            )
        colors = colors or {}
        classes = Classes.build(names, colors=[colors.get(name, voc_color(id_)) for id_, name in enumerate(names)])
        rest = names.index(background) if rule == "background" and background is not None else classes.ignore_index
        ids = {label: names.index(label) if label in names else rest for label in labels}
        if own is not None and background is not None:
            ids[own] = names.index(background)
        return cls(
            classes, ids, rest, tuple(_notes(labels, names, "background" if rule == "background" else "ignored"))
        )


def _background(names: Sequence[str]) -> str | None:
    return next((name for name in names if name.lower() in BACKGROUND_NAMES), None)


def _notes(labels: Sequence[str], names: Sequence[str], rest: str) -> list[str]:
    dropped = [label for label in labels if label not in names and label.lower() not in BACKGROUND_NAMES]
    absent = [name for name in names if name not in labels and name.lower() not in BACKGROUND_NAMES]
    notes = []
    if dropped:
        notes.append(f"labels that are not among the classes become {rest}: {_listed(dropped)}")
    if absent:
        notes.append(f"no label of the source is called {_listed(absent)}; it has: {_listed(labels)}")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
