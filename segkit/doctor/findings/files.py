"""Findings about files: what is missing, can't be read, or hasn't the size of its partner."""

from collections.abc import Callable

import numpy as np

from segkit.datasets.images import QUARTER_TURNS
from segkit.doctor.examination import Examined, Finding, finding


def split_files(examined: Examined) -> Finding | None:
    lines = examined.inventory.problems
    remedy = "correct the split file, or let `segkit check --fix OUT` write clean ones"
    return finding("split-file", "error", "lines of a split file that can't be used", lines=lines, remedy=remedy)


def missing_images(examined: Examined) -> Finding | None:
    indices = [index for index, item in enumerate(examined.facts.items) if item.image is None]
    lines = [f"{examined.items[index].name}: named by a split, but there is no such image" for index in indices]
    remedy = "add the images, or take the names out of the split (--fix OUT does)"
    elsewhere = {path.stem: path for path in examined.inventory.unlisted}
    if found := next((elsewhere[name] for index in indices if (name := examined.items[index].name) in elsewhere), None):
        remedy = f"names are paths below the image folder, but {found} is listed without its folder; add that"
    return finding("missing-image", "error", "missing images", indices, lines, remedy)


def missing_labels(examined: Examined) -> Finding | None:
    indices = [index for index, item in enumerate(examined.facts.items) if item.image and item.mask is None]
    lines = [f"{examined.items[index].image}: no label" for index in indices]
    remedy = examined.label_hint or "add the labels, or take the images out of the split (--fix OUT does)"
    return finding("missing-label", "error", "images without a label", indices, lines, remedy)


def same_names(examined: Examined) -> Finding | None:
    remedy = "remove one of each; segkit can't know which is meant"
    return finding("same-name", "error", "files of the same name", lines=examined.inventory.same_names, remedy=remedy)


def unreadable_images(examined: Examined) -> Finding | None:
    faults = examined.facts.image_faults
    remedy = "copy the files again, or take them out of the split (--fix OUT does)"
    return finding("unreadable-image", "error", "images that can't be read", list(faults), faults.values(), remedy)


def unreadable_labels(examined: Examined) -> Finding | None:
    faults = examined.facts.label_faults
    remedy = "export the labels again, or take their images out of the split (--fix OUT does)"
    return finding("unreadable-label", "error", "labels that can't be read", list(faults), faults.values(), remedy)


def wrong_suffixes(examined: Examined) -> Finding | None:
    faults = examined.facts.wrong_suffixes
    lines = [line for both in faults.values() for line in both]
    remedy = "segkit reads them by their content; rename them for other programs"
    return finding("wrong-suffix", "warning", "files with a wrong suffix", list(faults), lines, remedy)


def spare_labels(examined: Examined) -> Finding | None:
    lines = [f"{path}: no image of that name" for path in examined.inventory.spare_labels]
    remedy = "they aren't used; add their images, or remove them"
    return finding("spare-label", "warning", "labels without an image", lines=lines, remedy=remedy)


def unread_formats(examined: Examined) -> Finding | None:
    lines = [str(path) for path in examined.inventory.unread]
    remedy = "convert them to PNG or JPEG; segkit skips them"
    return finding("unread-format", "warning", "images in formats that segkit doesn't read", lines=lines, remedy=remedy)


def unlisted(examined: Examined) -> Finding | None:
    lines = [str(path) for path in examined.inventory.unlisted]
    again = examined.command("split", "--force")
    remedy = f"if they should take part, add their names to a split, or divide anew: {again}"
    return finding("unlisted", "note", "labelled images in none of the splits", lines=lines, remedy=remedy)


# ---- sizes


def sizes_differ(examined: Examined) -> Finding | None:
    indices, lines = _size_lines(examined, lambda hw, mask_hw, _: hw != mask_hw and hw != mask_hw[::-1])
    remedy = (
        "export the labels at the images' size; or let --fix OUT --resize make those equal that have the image's shape "
        "(thin objects suffer)"
    )
    return finding("size", "error", "labels of another size than their image", indices, lines, remedy)


def transposed(examined: Examined) -> Finding | None:
    indices, lines = _size_lines(
        examined, lambda hw, mask_hw, turn: hw != mask_hw and hw == mask_hw[::-1] and turn not in QUARTER_TURNS
    )
    remedy = "export the labels upright; nothing tells whether they are turned to the left or to the right"
    return finding("transposed", "error", "labels turned by 90 degrees", indices, lines, remedy)


def turned_by_exif(examined: Examined) -> Finding | None:
    indices, lines = _size_lines(
        examined, lambda hw, mask_hw, turn: hw != mask_hw and hw == mask_hw[::-1] and turn in QUARTER_TURNS
    )
    remedy = "the label fits the pixels as the camera stored them: --fix OUT turns the labels as EXIF turns the images"
    return finding("exif", "error", "images turned by EXIF, their labels not", indices, lines, remedy)


def maybe_turned(examined: Examined) -> Finding | None:
    indices, lines = _size_lines(examined, lambda hw, mask_hw, turn: hw == mask_hw and _same_size_turned(hw, turn))
    remedy = "their sizes can't tell whether the labels are turned as well: look at the overlays in check.html"
    return finding("exif-unsure", "warning", "images turned or mirrored by EXIF", indices, lines, remedy)


def _same_size_turned(hw: tuple[int, int], orientation: int) -> bool:
    return orientation in (2, 3, 4) or (orientation in QUARTER_TURNS and hw[0] == hw[1])


def _size_lines(
    examined: Examined, holds: Callable[[tuple[int, int], tuple[int, int], int], bool]
) -> tuple[list[int], list[str]]:
    facts = examined.facts
    indices, lines = [], []
    both = np.flatnonzero(facts.has_image & facts.has_label)
    for index, hw, mask_hw, turn in zip(
        both.tolist(),
        facts.images["hw"][both].tolist(),
        facts.labels["hw"][both].tolist(),
        facts.images["orientation"][both].tolist(),
        strict=True,
    ):
        if holds(tuple(hw), tuple(mask_hw), turn):
            indices.append(index)
            turned = f", EXIF orientation {turn}" if turn != 1 else ""
            lines.append(f"{examined.items[index].mask}: {mask_hw[1]}x{mask_hw[0]}, its image {hw[1]}x{hw[0]}{turned}")
    return indices, lines


RULES: tuple[Callable[[Examined], Finding | None], ...] = (
    split_files,
    missing_images,
    missing_labels,
    same_names,
    unreadable_images,
    unreadable_labels,
    sizes_differ,
    transposed,
    turned_by_exif,
    maybe_turned,
    spare_labels,
    unread_formats,
    wrong_suffixes,
    unlisted,
)
