"""Data sets in COCO's form, for the tests of the three modules that read them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

HW = (20, 30)
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]  # sparse, and not in order


@pytest.fixture
def save() -> Callable[..., Path]:
    """Return a function that writes a JSON file and its images, of 30x20 pixels, and returns the file's path."""

    def save(
        root: Path,
        annotations: object,
        *,
        name: str = "annotations/instances_train2017.json",
        images: tuple[str, ...] = ("a.jpg",),
        folder: str = "train2017",
        **more: object,
    ) -> Path:
        """Write a JSON file and its images."""
        for image in images:
            (root / folder / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", HW[::-1]).save(root / folder / image)
        listed = [{"id": n, "file_name": i, "height": HW[0], "width": HW[1]} for n, i in enumerate(images, start=1)]
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": CATEGORIES, **more}))
        return path

    return save
