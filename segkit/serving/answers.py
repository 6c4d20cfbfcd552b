"""What is said of an image: a mask, an overlay, areas and polygons."""

import base64
import io
from typing import Any

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.datasets.masks import write_mask
from segkit.imaging.codec import encode_jpeg, fits_jpeg, write_png
from segkit.imaging.overlay import overlay
from segkit.inference.segmentation import Segmentation
from segkit.prediction.pixel_outputs import normalized_entropy
from segkit.prediction.rows import count_pixels
from segkit.prediction.vector_outputs import describe_regions

JPEG_QUALITY = 90


def mask_png(mask: np.ndarray, classes: Classes) -> bytes:
    """Return class ids, uint8 [h, w], as a palette PNG in the classes' colours."""
    file = io.BytesIO()
    write_mask(file, mask, classes)
    return file.getvalue()


def overlay_image(image: np.ndarray, mask: np.ndarray, classes: Classes, *, opacity: float) -> tuple[bytes, str]:
    """Return a mask drawn on its image, and its media type: a JPEG, or a PNG where a side is too long for one."""
    drawn = overlay(image, mask, classes, opacity=opacity)
    if fits_jpeg((image.shape[0], image.shape[1])):
        return encode_jpeg(drawn, quality=JPEG_QUALITY), "image/jpeg"
    file = io.BytesIO()
    write_png(file, drawn)
    return file.getvalue(), "image/png"


def describe(mask: np.ndarray, classes: Classes, *, polygons: bool) -> dict[str, Any]:
    """Return size and areas of a mask, uint8 [h, w]; with `polygons`, its regions as GeoJSON features in pixels."""
    pixels = count_pixels(mask, len(classes))
    content: dict[str, Any] = {
        "width": mask.shape[1],
        "height": mask.shape[0],
        "classes": [
            {"id": k, "name": name, "color": list(color), "pixels": number, "share": number / mask.size}
            for k, (name, color, number) in enumerate(zip(classes.names, classes.colors, pixels, strict=True))
        ],
        "ignored_pixels": int(mask.size - sum(pixels)),
    }
    if polygons:
        content["polygons"] = {"type": "FeatureCollection", "features": describe_regions(mask, classes)}
    return content


def planes(segmentation: Segmentation) -> dict[str, str]:
    """Return mask, confidence and uncertainty as data URLs of grey PNGs, each of the image's size: what a page shows.

    Of the mask, a value is a class id; of the others, 255 is 1: the largest class probability, and the entropy of the
    probabilities in units of log C.
    """
    probabilities = segmentation.probabilities
    return {
        "mask": _data_url(segmentation.mask),
        "confidence": _data_url(np.rint(255 * segmentation.confidence).astype(np.uint8)),
        "uncertainty": _data_url(np.rint(255 * normalized_entropy(probabilities)).astype(np.uint8)),
    }


def _data_url(grey: np.ndarray) -> str:
    done, encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise MemoryError("OpenCV couldn't encode the PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"
