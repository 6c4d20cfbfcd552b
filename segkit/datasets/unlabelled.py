"""Images without masks that are trained on beside the labelled ones: every pixel of theirs is ignored."""

from pathlib import Path

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.layouts import Item, list_images
from segkit.errors import DataError


def list_unlabelled(folder: Path) -> list[Item]:
    """Return the images below a folder, in order of their paths, as items without a mask.

    Raises:
        DataError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"data.more_images: {folder}: no such folder, expected one of images")
    found = list_images(folder)
    if not found:
        raise DataError(
            f"data.more_images: {folder}: no image in it, expected files with one of {' '.join(IMAGE_SUFFIXES)}"
        )
    return [Item(path.relative_to(folder).with_suffix("").as_posix(), path, None) for path in found]
