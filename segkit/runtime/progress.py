"""The one progress bar: in a terminal only, never in a pipe or a log file."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    things: Iterable[Any] | None = None, *, title: str, unit: str, total: int | None = None, first: int = 0,
    show: bool = True, in_bytes: bool = False,
) -> "tqdm[Any]":  # fmt: skip
    """Return a bar over `things`, or one that is moved by `update`; it disappears at its end.

    `first` is where it starts, `show=False` hides it (on other ranks), `in_bytes` counts in KiB, MiB, ...
    """
    scale: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1024} if in_bytes else {}
    return tqdm(
        things, total=total, initial=first, desc=title, unit=unit, leave=False, dynamic_ncols=True,
        disable=None if show else True, **scale,
    )  # fmt: skip
