"""Outputs of one file about all images, made of the masks on the disk when the last one is done.

So a job that was continued, and one of several processes, give the file of a job that ran in one go.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.datasets.masks import read_label_values
from segkit.formats.annotations.coco import describe_image, write_coco
from segkit.prediction.cells import neutral
from segkit.prediction.job import MASK_SUFFIXES
from segkit.prediction.outputs import Prediction, Style
from segkit.runtime.files import write_bytes_durably
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch


@dataclass(frozen=True)
class _Joined:
    folder: Path
    classes: Classes
    style: Style

    def write(self, prediction: Prediction) -> None:
        """Do nothing: the mask is what this needs."""

    def masks(self, done: Sequence[tuple[str, Path]], title: str) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield the source of each image and its mask, uint8 [h, w], in order."""
        threads = count_threads()
        read = prefetch(partial(_read_mask, self.folder / "masks"), done, threads=threads, ahead=2 * threads)
        yield from progress(read, title=title, unit="mask", total=len(done))


class CocoPolygons(_Joined):
    """`coco.json`: COCO's instances format; a region is an annotation, as polygon, or as RLE where it has holes."""

    runs: ClassVar[bool] = False

    def finish(self, done: Sequence[tuple[str, Path]]) -> None:
        described = (
            describe_image(source.as_posix(), mask, self.classes, runs=self.runs)
            for source, mask in self.masks(done, "coco.json")
        )
        write_coco(self.folder / "coco.json", described, self.classes)


class CocoRuns(CocoPolygons):
    """`coco.json` with every region as RLE: run lengths, exact whoever reads them."""

    runs = True


class Areas(_Joined):
    """`areas.csv`: of each image and class that it shows: pixels, their share, objects, pixels of the largest one.

    An object is a component of pixels that share a side or a corner. Ignored pixels are in no row, so shares of an
    image may add up to less than 1.
    """

    def finish(self, done: Sequence[tuple[str, Path]]) -> None:
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["input", "class_id", "class", "pixels", "share", "objects", "largest_object"])
        for source, mask in self.masks(done, "areas.csv"):
            for class_id, pixels, objects, largest in count_objects(mask, len(self.classes)):
                share = f"{pixels / mask.size:.6f}"
                cells: list[Any] = [neutral(str(source)), class_id, neutral(self.classes.names[class_id])]
                writer.writerow([*cells, pixels, share, objects, largest])
        content = table.getvalue().encode("utf-8", "backslashreplace")
        write_bytes_durably(self.folder / "areas.csv", content, elsewhere="--output FOLDER")


def count_objects(mask: np.ndarray, num_classes: int) -> list[tuple[int, int, int, int]]:
    """Return (class id, pixels, objects, pixels of the largest) of each class that a mask, uint8 [h, w], shows."""
    counted = []
    for class_id in np.unique(mask).tolist():
        if class_id < num_classes:
            is_class = (mask == class_id).astype(np.uint8)
            _, _, statistics, _ = cv2.connectedComponentsWithStats(is_class, connectivity=8)
            areas = statistics[1:, cv2.CC_STAT_AREA]
            counted.append((class_id, int(areas.sum()), len(areas), int(areas.max())))
    return counted


def _read_mask(folder: Path, image: tuple[str, Path]) -> tuple[Path, np.ndarray]:
    name, source = image
    files = (folder / f"{name}{suffix}" for suffix in MASK_SUFFIXES)
    return source, read_label_values(next(file for file in files if file.is_file()))
