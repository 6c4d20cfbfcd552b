"""Fixtures: a tiny drawn data set, real data where it is at hand, and a checkpoint trained for a moment."""

import faulthandler
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.config import DataConfig

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command does, before torch is imported

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_unconfigure() -> None:
    """Should something keep the interpreter from ending after the tests, show what, and end with an error."""
    faulthandler.dump_traceback_later(120, exit=True)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the memory of surveys out of the developer's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return the folder of a real data set in ../shared/data; the test is skipped where it is missing."""

    def find(name: str) -> Path:
        folder = SHARED / name
        if not folder.is_dir():
            pytest.skip(f"needs the real data set {folder}, which isn't there")
        return folder

    return find


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set in VOC layout, 12 to train on and 6 to validate, about 64x80 pixels. Not to be changed."""
    from segkit.data.shapes import draw_data_set

    root = tmp_path_factory.mktemp("shapes")
    draw_data_set(root, num_train=12, num_val=6, size_hw=(64, 80))
    return root


@pytest.fixture
def two_classes() -> Classes:
    return Classes.build(["background", "object"])


@pytest.fixture
def write_folders(tmp_path: Path) -> Callable[..., DataConfig]:
    """Write a data set in `folders` layout from {name: mask array}, images drawn to match; return its config."""

    def write(masks: dict[str, np.ndarray], **settings: object) -> DataConfig:
        root = tmp_path / "data"
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name, mask in masks.items():
            pixels = rng.integers(0, 255, (*mask.shape[:2], 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        defaults: dict[str, object] = {"classes": ("background", "object"), "val_fraction": 0.25, "canvas": (32, 32)}
        return DataConfig(root=str(root), layout="folders", **{**defaults, **settings})  # type: ignore[arg-type]

    return write
