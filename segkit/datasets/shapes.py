"""Draw a small VOC-layout data set: textured shapes on cluttered backgrounds. For the demo and for tests.

Classes: background, disc, square, star. Each shape has a texture of its own kind but random colours, so that neither
colour nor texture alone gives it away; backgrounds hold faint lines, blobs and noise as distractors.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segkit.classes import Classes
from segkit.datasets.masks import write_mask

SHAPE_CLASSES = Classes.build(
    ["background", "disc", "square", "star"], colors=[(0, 0, 0), (230, 80, 60), (70, 140, 230), (250, 200, 60)]
)


def draw_data_set(
    root: Path, *, num_train: int, num_val: int, size_hw: tuple[int, int] = (144, 192), seed: int = 0
) -> None:
    """Write a data set in VOC layout below `root`: JPEGImages, SegmentationClass, split files and classes.txt.

    Image sizes vary by up to a quarter around `size_hw`. The same seed gives the same images.
    """
    splits = root / "ImageSets" / "Segmentation"
    for folder in (root / "JPEGImages", root / "SegmentationClass", splits):
        folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = [f"shapes_{number:04d}" for number in range(num_train + num_val)]
    for name in names:
        image, mask = draw_scene(rng, _vary(rng, size_hw))
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        write_mask(root / "SegmentationClass" / f"{name}.png", mask, SHAPE_CLASSES)
    (splits / "train.txt").write_text("\n".join(names[:num_train]) + "\n")
    (splits / "val.txt").write_text("\n".join(names[num_train:]) + "\n")
    (root / "classes.txt").write_text("\n".join(SHAPE_CLASSES.names) + "\n")


def draw_images(folder: Path, *, count: int, size_hw: tuple[int, int] = (144, 192), seed: int = 0) -> None:
    """Write images without labels into `folder`, as a user has them who wants masks predicted."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 1])  # another stream than draw_data_set's with the same seed
    for number in range(count):
        image, _ = draw_scene(rng, _vary(rng, size_hw))
        Image.fromarray(image).save(folder / f"new_{number:02d}.jpg", quality=92)


def draw_scene(rng: np.random.Generator, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, uint8 RGB [h, w, 3], and its class ids, uint8 [h, w]; later shapes cover earlier ones."""
    image, mask = _background(rng, hw), np.zeros(hw, np.uint8)
    for _ in range(rng.integers(2, 6)):
        class_id = int(rng.integers(1, len(SHAPE_CLASSES)))
        outline = _outline(rng, hw, class_id)
        shape = np.zeros(hw, np.uint8)
        cv2.fillPoly(shape, [outline], 1)
        soft = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), 0.6)[:, :, None]
        image = image * (1 - soft) + _texture(rng, hw, class_id) * soft
        mask[shape == 1] = class_id
    image = image + rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _vary(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[int, int]:
    return int(size_hw[0] * rng.uniform(0.75, 1.25)), int(size_hw[1] * rng.uniform(0.75, 1.25))


def _background(rng: np.random.Generator, hw: tuple[int, int]) -> np.ndarray:
    """A blurred patchwork of colours with thin lines and blobs: float32 [h, w, 3], 0..255."""
    coarse = rng.uniform(30, 225, (4, 5, 3)).astype(np.float32)
    image = cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(6, 14)):
        color = rng.uniform(20, 235, 3).tolist()
        ends = (rng.uniform(0, 1, (2, 2)) * hw[::-1]).astype(int).tolist()
        cv2.line(image, ends[0], ends[1], color, int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(rng.integers(2, 6)):
        center = (rng.uniform(0, 1, 2) * hw[::-1]).astype(int).tolist()
        axes = (rng.uniform(0.02, 0.06, 2) * min(hw)).astype(int).tolist()
        cv2.ellipse(image, center, axes, rng.uniform(0, 180), 0, 360, rng.uniform(20, 235, 3).tolist(), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def _outline(rng: np.random.Generator, hw: tuple[int, int], class_id: int) -> np.ndarray:
    """Return a closed polygon, int32 [n, 2] as (x, y), of a disc, a square or a five-pointed star, turned at random."""
    radius = rng.uniform(0.12, 0.28) * min(hw)
    center = rng.uniform(0.1, 0.9, 2) * hw[::-1]
    corners, inner = {1: (48, 1.0), 2: (4, 1.0), 3: (10, 0.45)}[class_id]
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radii = radius * np.where(np.arange(corners) % 2 == 0, 1.0, inner)
    points = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return np.round(points).astype(np.int32)


def _texture(rng: np.random.Generator, hw: tuple[int, int], class_id: int) -> np.ndarray:
    """Stripes, checks or dots by class, between two random colours: float [h, w, 3], 0..255."""
    rows, columns = np.mgrid[: hw[0], : hw[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 14)
    u = (columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period
    v = (rows * np.cos(angle) - columns * np.sin(angle)) * 2 * np.pi / period
    waves = {1: np.sin(u), 2: np.sign(np.sin(u) * np.sin(v)), 3: np.sign(np.cos(u) + np.cos(v) - 1)}[class_id]
    first, second = rng.uniform(20, 235, (2, 3))
    return first + (second - first) * ((waves + 1) / 2)[:, :, None]
