"""What one image and its label are like: a few numbers about each, taken in one pass over the whole set.

About 1 KiB per image is kept, so 100,000 fit into memory. Not here: what the numbers mean (findings).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from segkit.datasets.files import File
from segkit.datasets.images import Opened, open_image, suffix_fits
from segkit.datasets.label_faults import MOST_VALUES, SMALL_SHARE, SOFT, Values, softness
from segkit.datasets.masks import JPEG_FORMATS, MaskReader, StoredLabel, color_codes, read_stored_label
from segkit.datasets.split_folders import ListedItem
from segkit.errors import DataError
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

IMAGE_FACTS = np.dtype([
    ("hw", "u4", 2),  # upright
    ("orientation", "u1"),  # EXIF's, 1 is upright
    ("grey", "?"),
    ("highest", "u4"),  # stored value of an image of 16 bits; 0: of 8 bits
    ("sums", "f8", 3),  # of R, G, B
    ("squares", "f8", 3),
    ("digest", "u8"),  # of the file's bytes; 0: not read
    ("look", "u8"),  # perceptual hash
    ("small", "u1", (16, 16)),  # the image in grey
])  # fmt: skip

LABEL_FACTS = np.dtype([
    ("hw", "u4", 2),
    ("mode", "U5"),  # Pillow's word
    ("jpeg", "?"),
    ("num_values", "u4"),
    ("num_unknown", "u4"),  # of these values, how many are neither classes nor ignored
    ("low", "i8"),  # the smallest and the largest value
    ("high", "i8"),
    ("soft", "f4"),  # share of the pixels of unknown values that lie where two others meet
    ("digest", "u8"),
    ("palette", "i4"),  # index in Facts.palettes, -1 without
])  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """The facts of every item, in order. `image_faults` and `label_faults` say what was wrong with those not read."""

    items: Sequence[ListedItem]
    images: np.ndarray  # IMAGE_FACTS [N]; digest 0 where there is none
    labels: np.ndarray  # LABEL_FACTS [N]; num_values 0 where there is none
    packed_values: list[bytes]
    palettes: list[bytes]  # R G B of the values in use
    image_faults: dict[int, str]
    label_faults: dict[int, str]
    wrong_suffixes: dict[int, tuple[str, ...]]

    def values(self, index: int) -> Values:
        """Return the values of one label, the 256 most frequent ones; none where it could not be read."""
        both = np.frombuffer(self.packed_values[index], np.int32).reshape(2, -1).astype(np.int64)
        return Values(both[0], both[1])

    def main_values(self, index: int) -> Values:
        """Return the values of one label without those of soft edges: in a soft one, those of few pixels."""
        found = self.values(index)
        if self.labels["soft"][index] < SOFT:
            return found
        large = found.pixels >= SMALL_SHARE * int(self.labels["hw"][index].prod())
        return Values(found.values[large], found.pixels[large])

    @property
    def has_image(self) -> np.ndarray:
        """True for items whose image was read: bool [N]."""
        return self.images["digest"] != 0

    @property
    def has_label(self) -> np.ndarray:
        """True for items whose label was read: bool [N]."""
        return self.labels["num_values"] != 0


class _Look(NamedTuple):
    image: np.ndarray | None = None
    label: np.ndarray | None = None
    values: bytes = b""
    palette: bytes = b""
    image_fault: str = ""
    label_fault: str = ""
    wrong_suffixes: tuple[str, ...] = ()


def gather_facts(items: Sequence[ListedItem], reader: MaskReader | None) -> Facts:
    """Look at every file once, by threads, and show how far it is.

    `reader` tells which values are known, where that is known.
    """
    images, labels = np.zeros(len(items), IMAGE_FACTS), np.zeros(len(items), LABEL_FACTS)
    facts = Facts(items, images, labels, [], [], {}, {}, {})
    palettes: dict[bytes, int] = {}
    threads = count_threads()
    seen = prefetch(lambda item: _look(item, reader), items, threads=threads, ahead=4 * threads)
    for index, look in enumerate(progress(seen, total=len(items), title="checking", unit="files")):
        if look.image is not None:
            images[index] = look.image
        if look.label is not None:
            labels[index] = look.label
            labels[index]["palette"] = palettes.setdefault(look.palette, len(palettes)) if look.palette else -1
        facts.packed_values.append(look.values)
        if look.image_fault:
            facts.image_faults[index] = look.image_fault
        if look.label_fault:
            facts.label_faults[index] = look.label_fault
        if look.wrong_suffixes:
            facts.wrong_suffixes[index] = look.wrong_suffixes
    facts.palettes.extend(palettes)
    return facts


def count_unknown(facts: Facts, reader: MaskReader) -> None:
    """Fill in how many values of each label are unknown, where that couldn't be told when it was read."""
    takes_rest = not (reader.table.ids == reader.table.unknown).any()
    for index in np.flatnonzero(facts.has_label).tolist():
        found = facts.values(index)
        left_out = 0 if takes_rest else int(facts.labels["num_values"][index]) - len(found.values)
        facts.labels["num_unknown"][index] = left_out + int((~reader.table.knows(found.values)).sum())


def _look(item: ListedItem, reader: MaskReader | None) -> _Look:
    look = _Look()
    if item.image is not None:
        try:
            opened = open_image(item.image)
            look = look._replace(image=_image_facts(opened), wrong_suffixes=_wrong_suffix(item.image, opened.format))
        except DataError as error:
            look = look._replace(image_fault=str(error))
        except MemoryError:
            look = look._replace(image_fault=_too_large(item.image))
    if item.mask is not None:
        try:
            stored = read_stored_label(item.mask)
            facts, values, palette = _label_facts(stored, reader)
            suffixes = (*look.wrong_suffixes, *_wrong_suffix(item.mask, stored.format))
            look = look._replace(label=facts, values=values, palette=palette, wrong_suffixes=suffixes)
        except DataError as error:
            look = look._replace(label_fault=str(error))
        except MemoryError:
            look = look._replace(label_fault=_too_large(item.mask))
    return look


def _too_large(file: File) -> str:
    return f"{file}: too large for this machine's memory, or its header is damaged; look at it, or take it out"


# ---- images


def _image_facts(opened: Opened) -> np.ndarray:
    image = opened.pixels
    facts = np.zeros((), IMAGE_FACTS)
    mean, deviation = (channel.ravel() for channel in cv2.meanStdDev(image))
    size = image.shape[0] * image.shape[1]
    facts["hw"], facts["orientation"] = image.shape[:2], opened.orientation
    facts["sums"], facts["squares"] = mean * size, (deviation**2 + mean**2) * size
    facts["grey"] = np.ptp(mean) == 0 and (image == image[..., :1]).all()
    facts["highest"], facts["digest"] = opened.highest, _digest(opened.encoded)
    small = thumbnail(image)
    facts["look"] = perceptual_hash(small)
    facts["small"] = cv2.resize(small, (16, 16), interpolation=cv2.INTER_AREA)
    return facts


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink uint8 RGB [h, w, 3] to grey float32 [32, 32] by area."""
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def perceptual_hash(small: np.ndarray) -> int:
    """Return 64 bits that change little when an image is resized, compressed or brightened.

    The signs of the 64 lowest frequencies but the mean of a discrete cosine transform, against their median (Zauner
    2010, Implementation and Benchmarking of Perceptual Image Hash Functions).
    """
    low = cv2.dct(small)[1:9, 1:9].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def _digest(encoded: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest()) or 1


def _wrong_suffix(file: File, form: str) -> tuple[str, ...]:
    """Return what is wrong with a file's suffix, if it says another format than Pillow found."""
    return () if suffix_fits(file.name, form) else (f"{file}: a {form} file",)


# ---- labels


def _label_facts(stored: StoredLabel, reader: MaskReader | None) -> tuple[np.ndarray, bytes, bytes]:
    codes = color_codes(stored.values) if stored.values.ndim == 3 else stored.values
    found = _count(codes)
    facts = np.zeros((), LABEL_FACTS)
    facts["hw"], facts["mode"], facts["jpeg"] = codes.shape, stored.mode, stored.format in JPEG_FORMATS
    known = _known(found.values, stored, reader)
    facts["num_values"], facts["num_unknown"] = len(found.values), (~known).sum()
    facts["low"], facts["high"] = found.values[0], found.values[-1]
    facts["digest"], facts["soft"] = _digest(codes.astype(np.int32).tobytes()), softness(codes, found, known)
    most = np.sort(np.argsort(-found.pixels, kind="stable")[:MOST_VALUES])
    kept = Values(found.values[most], found.pixels[most])
    palette = b""
    if stored.palette:
        colors = stored.palette.ljust(768, b"\0")
        palette = b"".join(colors[3 * v : 3 * v + 3] for v in kept.values.tolist())
    return facts, np.array(kept, np.int64).astype(np.int32).tobytes(), palette


def _count(codes: np.ndarray) -> Values:
    if codes.dtype == np.uint8:
        pixels = np.bincount(codes.ravel(), minlength=256)
        values = np.flatnonzero(pixels)
        return Values(values, pixels[values])
    return Values(*np.unique(codes, return_counts=True))


def _known(values: np.ndarray, stored: StoredLabel, reader: MaskReader | None) -> np.ndarray:
    """Return which values are classes or ignored: bool [n]."""
    if reader is None or reader.by_color != (stored.values.ndim == 3):
        return np.zeros(len(values), bool)
    return reader.table.knows(values)
