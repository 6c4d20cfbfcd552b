"""Which class a label of another tool is, and what becomes of pixels that have none.

With ReadOptions.classes those are the classes, and anything else becomes unlabelled; otherwise the classes are the
source's own, the background first. Pixels without a label become background or ignored; a background is a class that is
called so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.classes import Classes
from segkit.errors import ConfigError
from segkit.formats.pictures import ReadOptions, Unlabeled

BACKGROUND = "background"
_SHOWN = 8


def is_background(name: str) -> bool:
    """True for background, Background, _background_ and the like."""
    return name.strip("_").lower() == BACKGROUND


def find_background(names: Sequence[str]) -> int | None:
    """Return the id of the background: the first class called background, Background, _background_ and the like."""
    return next((class_id for class_id, name in enumerate(names) if is_background(name)), None)


@dataclass(frozen=True)
class Labelling:
    """Classes, and the value of pixels that no shape covers, or one of another class."""

    classes: Classes
    unlabelled: int
    notes: tuple[str, ...] = ()

    def value_of(self, label: str) -> int:
        """Return the class id of a label."""
        if label in self.classes.names:
            return self.classes.names.index(label)
        background = find_background(self.classes.names) if is_background(label) else None
        return self.unlabelled if background is None else background


def choose_classes(
    found: Sequence[str], options: ReadOptions, *, rule: Unlabeled, listed: Sequence[str] | None = None
) -> Labelling:
    """Decide the classes of a source in which the labels `found` are, in the order in which they shall be classes.

    `rule` is the format's own for pixels without a label; `listed` are the names of a file beside the source, in id
    order, which come before what was found. A list without a background tells that every pixel has a label: those that
    have none are ignored then.

    Raises:
        ConfigError: fewer than two classes, or more than masks can hold, or pixels shall become background and
            options.classes have none.
    """
    unlabeled = options.unlabeled or rule
    names = list(options.classes or listed or ())
    if not names:
        names = [BACKGROUND] if unlabeled == "background" or any(map(is_background, found)) else []
        names += [label for label in dict.fromkeys(found) if not is_background(label)]
    classes = Classes.build(names)
    background = find_background(names)
    notes = []
    if unlabeled == "background" and background is None:
        if options.classes or options.unlabeled:
            raise ConfigError(
                f"--classes: found {','.join(names)}, expected '{BACKGROUND}' among them, which pixels without a label "
                f"become; add it, or leave such pixels out: --unlabeled ignore"
            )
        notes.append("pixels without a label are ignored, since no class is called background")
    value = classes.ignore_index if background is None or unlabeled == "ignore" else background
    others = sorted({label for label in found if label not in names and not is_background(label)})
    if others:
        notes.append(
            f"{len(others)} label{'s are' if len(others) > 1 else ' is'} no class and became unlabelled: "
            + ", ".join(others[:_SHOWN])
            + (", ..." if len(others) > _SHOWN else "")
        )
    return Labelling(classes, value, tuple(notes))
