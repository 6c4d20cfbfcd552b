"""Is this data set sound? Every image and label of a split is looked at before the first training step.

Counts the pixels of each class and notes which image shows it on the way, since the masks are read anyway. A clean
result is remembered (by path, size and time of every file), so that the second run starts at once. Not here: repair.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from segkit import __version__
from segkit.classes import Classes
from segkit.datasets.files import fingerprint
from segkit.datasets.images import image_size_hw
from segkit.datasets.label_faults import map_object, object_value
from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.datasets.reading import size_mismatch
from segkit.errors import DataError, summarize
from segkit.runtime.files import recall, remember
from segkit.runtime.machine import count_threads, user_cache
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch


@dataclass(frozen=True)
class Survey:
    """What a split holds. By class: its pixels, the images that have it, all labelled pixels of those images.

    `shown` packs which classes each image has into bits, ceil(C / 8) bytes an image; `presence` unpacks them. `sizes`
    are the images' (height, width, how many have it); none where that wasn't noted.
    """

    num_images: int
    class_pixels: tuple[int, ...]
    class_images: tuple[int, ...]
    surrounding_pixels: tuple[int, ...]
    ignored_pixels: int
    shown: bytes
    sizes: tuple[tuple[int, int, int], ...] = ()

    @property
    def presence(self) -> np.ndarray:
        """Which classes each image shows, in the order of the items: bool [num_images, C]."""
        rows = np.frombuffer(self.shown, np.uint8).reshape(self.num_images, -1)
        return np.unpackbits(rows, axis=1, count=len(self.class_pixels)).astype(bool)

    def median_fit(self, canvas_hw: tuple[int, int]) -> float | None:
        """Return the median factor at which an image just fits a canvas: the zoom that most training images have.

        Of an even number of images the lower one of the two in the middle; None where the sizes weren't noted.
        """
        fits = sorted(
            (min(canvas / length for canvas, length in zip(canvas_hw, (height, width), strict=True)), number)
            for height, width, number in self.sizes
        )
        seen = 0
        for fit, number in fits:
            seen += number
            if 2 * seen >= self.num_images:
                return fit
        return None

    def absent(self, classes: Classes) -> list[str]:
        """Return the names of classes without a single pixel."""
        return [name for name, pixels in zip(classes.names, self.class_pixels, strict=True) if pixels == 0]


def survey(items: Sequence[Item], reader: MaskReader, *, title: str) -> Survey:
    """Look at every image and label of a split.

    Raises:
        DataError: the first ten wrong files with the total; or two classes, of which the second never appears while
            the ignored value does (0/255 masks).
    """
    remembered = _cache_path(items, reader)
    found = _recall(remembered)
    if found is None:
        found = _look(items, reader, title=title)
        remember(remembered, {**asdict(found), "shown": found.shown.hex()})
    classes = reader.classes
    held = {value for value, pixels in enumerate(found.class_pixels) if pixels}
    if found.ignored_pixels:
        held.add(classes.ignore_index)
    if len(classes) == 2 and not reader.mapped and object_value(held) == classes.ignore_index:
        raise DataError(
            f"{title}: no pixel of class '{classes.names[1]}', but {found.ignored_pixels} pixels hold "
            f"{classes.ignore_index}, which means 'ignore'; if your masks are 0/{classes.ignore_index}, set "
            f"{map_object(classes.ignore_index)}"
        )
    if sum(found.class_pixels) == 0:
        raise DataError(f"{title}: not one labelled pixel in {found.num_images} images; every pixel is ignored")
    return found


def _look(items: Sequence[Item], reader: MaskReader, *, title: str) -> Survey:
    num_classes = len(reader.classes)
    pixels, images, surrounding = (np.zeros(num_classes, np.int64) for _ in range(3))
    ignored, problems, shown = 0, [], bytearray()
    sizes: Counter[tuple[int, int]] = Counter()

    def look(item: Item) -> tuple[np.ndarray, tuple[int, int]] | str:
        assert item.mask is not None, item
        try:
            image_hw, mask = image_size_hw(item.image), reader(item.mask)
        except DataError as error:
            return str(error)
        if image_hw != mask.shape:
            return size_mismatch(item, image_hw, mask.shape)
        return np.bincount(mask.ravel(), minlength=256), image_hw

    threads = count_threads()
    seen = prefetch(look, items, threads=threads, ahead=4 * threads)
    for looked in progress(seen, total=len(items), title=title, unit="files"):
        if isinstance(looked, str):
            problems.append(looked)
            continue
        counts, image_hw = looked
        sizes[image_hw] += 1
        labelled = counts[:num_classes]
        pixels += labelled
        images += labelled > 0
        surrounding += labelled.sum() * (labelled > 0)
        ignored += int(counts[reader.classes.ignore_index])
        shown += np.packbits(labelled > 0).tobytes()
    if problems:
        raise DataError(
            f"{summarize(problems)}\nsegkit check CONFIG tells more, and with --fix OUT writes a repaired copy"
        )
    return Survey(
        num_images=len(items),
        class_pixels=tuple(pixels.tolist()),
        class_images=tuple(images.tolist()),
        surrounding_pixels=tuple(surrounding.tolist()),
        ignored_pixels=ignored,
        shown=bytes(shown),
        sizes=tuple((*size, number) for size, number in sorted(sizes.items())),
    )


# ---- memory: plain JSON in the user's cache folder


def _cache_path(items: Sequence[Item], reader: MaskReader) -> Path:
    digest = hashlib.sha256(f"{__version__} {reader.classes} ".encode())
    digest.update(reader.table.ids.tobytes())
    for item in items:
        for path in (item.image, item.mask):
            assert path is not None, item
            try:
                digest.update(f"{fingerprint(path)}\n".encode())
            except OSError as error:
                raise DataError(
                    f"{path}: can't be read ({error.strerror}); check the path and its permissions"
                ) from error
    return user_cache() / f"survey-{digest.hexdigest()[:32]}.json"


def _recall(path: Path) -> Survey | None:
    plain = recall(path)
    try:
        found = Survey(
            num_images=plain["num_images"],
            class_pixels=tuple(plain["class_pixels"]),
            class_images=tuple(plain["class_images"]),
            surrounding_pixels=tuple(plain["surrounding_pixels"]),
            ignored_pixels=plain["ignored_pixels"],
            shown=bytes.fromhex(plain["shown"]),
            sizes=tuple((height, width, number) for height, width, number in plain["sizes"]),
        )
        whole = tuple(found.presence.sum(axis=0).tolist()) == found.class_images
        whole = whole and sum(number for *_, number in found.sizes) == found.num_images
    except (ValueError, KeyError, TypeError):
        return None  # missing, damaged, or of a segkit that didn't note all of it: look again
    return found if whole else None
