"""Scoring a model on one labelled set: what is rehearsed, and what is said when memory runs out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.errors import DeviceError
from segkit.evaluation.validation import Validation
from segkit.imaging.letterbox import LetterBox
from segkit.inference.torch_backend import TorchBackend
from segkit.loading.evaluation_set import EvaluationSet
from segkit.models.segmenter import Segmenter

SIZES_HW = {"a": (20, 30), "b": (90, 20), "c": (40, 50), "d": (10, 10)}


class Counting(nn.Module):
    """A network of two classes that remembers how many images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.num_images = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_images += len(x)
        return x[:, :2]


@pytest.fixture
def validation(write_folders: Callable[..., DataConfig]) -> Validation:
    data = write_folders({name: np.zeros(size_hw, np.uint8) for name, size_hw in SIZES_HW.items()}, val_fraction=0.0)
    (Path(data.root) / "val.txt").write_text("a\nb\nc\nd\n")
    dataset = EvaluationSet(
        list_items(data, "val"), build_mask_reader(data, resolve_classes(data)), canvas_hw=data.canvas
    )
    return Validation(dataset, 1)


@pytest.fixture
def model() -> TorchBackend:
    segmenter = Segmenter(Counting(), stride=32, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    return TorchBackend(segmenter, Classes.build(["background", "object"]), (32, 32), torch.float32)


def test_the_largest_image_is_the_one_with_the_most_pixels_and_turned_ones_are_measured_upright(
    validation: Validation,
) -> None:
    assert validation.dataset.items[validation.largest_image()].name == "c"
    turned = Path(str(validation.dataset.items[3].image))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (60, 50)).save(turned, exif=exif)
    assert validation.dataset.items[validation.largest_image()].name == "d"


@pytest.mark.parametrize(("largest", "seen"), [(False, 2), (True, 3)])
def test_a_rehearsal_sees_two_batches_and_on_a_gpu_the_largest_image(
    validation: Validation, model: TorchBackend, largest: bool, seen: int
) -> None:
    validation.rehearse(model, largest=largest)
    assert isinstance(model.model.network, Counting)
    assert model.model.network.num_images == seen


def test_a_batch_that_does_not_fit_is_named_and_training_is_not_blamed(
    validation: Validation, model: TorchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(self: Counting, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Counting, "forward", run_out)
    with pytest.raises(DeviceError, match=r"evaluation: 1 images \(a, \.\.\.\) don't fit .*lower eval\.batch_size"):
        validation.score(model)


def test_an_image_whose_class_ids_do_not_fit_is_named_with_its_size(
    validation: Validation, model: TorchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(self: LetterBox, logits: torch.Tensor) -> np.ndarray:
        if self.source_hw == (40, 50):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.zeros(self.source_hw, np.uint8)

    monkeypatch.setattr(LetterBox, "mask", run_out)
    with pytest.raises(DeviceError, match=r"evaluation: c \(50x40 pixels\) don't fit"):
        validation.score(model)
