"""What can be written of a prediction: the interface of an output, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from segkit.inference.segmentation import Segmentation


@dataclass(frozen=True)
class Prediction:
    """An image and what the model says of it, under the name that its outputs get."""

    name: str  # unique in the job, "/"-separated, without a suffix: "deep/er/c.d"
    source: Path
    image: np.ndarray  # uint8 RGB [h, w, 3]
    segmentation: Segmentation


class Output(Protocol):
    """One kind of file that predictions become."""

    def write(self, prediction: Prediction) -> None:
        """Write what one image gives. Several threads call this at a time; each file appears whole."""

    def finish(self, names: Sequence[str]) -> None:
        """Write what is said of all images of the job together, those done by an earlier job included."""


# TEMPORARY
def build_outputs(output, classes, *, overlays=True):
    import os

    from segkit.datasets.masks import write_mask
    from segkit.imaging.codec import encode_jpeg, fits_jpeg, write_png
    from segkit.imaging.overlay import overlay

    class Masks:
        def write(self, p):
            t = output / "masks" / f"{p.name}.png"
            t.parent.mkdir(parents=True, exist_ok=True)
            part = t.with_name(f".{t.name}.part")
            write_mask(part, p.segmentation.mask, classes)
            os.replace(part, t)

        def finish(self, names):
            pass

    class Overlays:
        def write(self, p):
            t = output / "overlays" / p.name
            t.parent.mkdir(parents=True, exist_ok=True)
            blended = overlay(p.image, p.segmentation.mask, classes)
            if fits_jpeg(p.image.shape[:2]):
                t.with_name(f"{t.name}.jpg").write_bytes(encode_jpeg(blended, quality=90))
            else:
                write_png(t.with_name(f"{t.name}.png"), blended)

        def finish(self, names):
            pass

    return [Overlays(), Masks()] if overlays else [Masks()]
