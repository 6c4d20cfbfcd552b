"""Tables of what is trained on: how frequent each class is, and how much it weighs."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from segkit.classes import Classes
from segkit.config.schema import ClassWeighting
from segkit.datasets.survey import Survey
from segkit.losses.class_weights import class_weights


def classes_table(classes: Classes, found: Survey, weights: Sequence[float] | None, views: Sequence[float]) -> str:
    """Return what is trained on, by class: shares of the labelled pixels and of the images that show it.

    If there are any, also its weight in the loss; and, unless the expected `views` of all images are 1, how often
    images that show it are seen per epoch: if each were seen once, and by these views.
    """
    columns = {
        "pixels": [f"{100 * pixels / sum(found.class_pixels):.2f} %" for pixels in found.class_pixels],
        "images": [f"{100 * images / found.num_images:.1f} %" for images in found.class_images],
    }
    if weights is not None:
        columns["weight"] = [f"{weight:.3f}" for weight in weights]
    if set(views) != {1.0}:
        seen = np.asarray(views) @ found.presence
        columns["seen per epoch"] = [
            f"{before} -> {after:.1f}" for before, after in zip(found.class_images, seen.tolist(), strict=True)
        ]
    return _class_columns(classes, columns)


def weight_rules_table(classes: Classes, found: Survey) -> str:
    """Return the weight of each class by every rule of loss.class_weights, side by side."""
    columns = {"pixels": [f"{100 * pixels / sum(found.class_pixels):.2f} %" for pixels in found.class_pixels]}
    for rule in get_args(ClassWeighting):
        weights = class_weights(
            rule,
            class_pixels=found.class_pixels,
            surrounding_pixels=found.surrounding_pixels,
            class_images=found.class_images,
            num_images=found.num_images,
        )
        if weights is not None:
            columns[rule] = [f"{weight:.3f}" for weight in weights]
    return _class_columns(classes, columns)


def _class_columns(classes: Classes, columns: Mapping[str, Sequence[str]]) -> str:
    """Lay cells out below their headings, a line per class, indented as the lines of a run's beginning are."""
    first = max(len(name) for name in ("class", *classes.names))
    widths = {head: max(len(cell) for cell in (head, *cells)) for head, cells in columns.items()}
    lines = ["".join([f"  {'class':<{first}}", *(f"  {head:>{width}}" for head, width in widths.items())])]
    for k, name in enumerate(classes.names):
        cells = [f"  {column[k]:>{widths[head]}}" for head, column in columns.items()]
        lines.append("".join([f"  {name:<{first}}", *cells]))
    return "\n".join(lines)
