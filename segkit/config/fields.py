"""What every section of the schema is made of: a key with its explanation and marks, a section, and bounds."""

import copy
from dataclasses import field
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Le

T = TypeVar("T")

Fraction = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
PartOfRun = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Ge(1)]


def key(default: T, text: str, *, resumable: bool = False, evaluable: bool = False) -> T:
    """Return a dataclass field for a key of the config.

    text: one explanation, without a full stop; `{choices}` stands for the words that its type allows.
    resumable: the value may change when a run resumes. Any other key makes the run what it is.
    evaluable: the value has an effect in `segkit eval`. Any other key made the weights, and can't change them now.
    """
    metadata = {"text": text, "resumable": resumable, "evaluable": evaluable}
    if isinstance(default, dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type[T], text: str) -> T:
    """Return a dataclass field for a section of the config: its keys, all with their defaults."""
    return field(default_factory=kind, metadata={"text": text, "resumable": False, "evaluable": False})
