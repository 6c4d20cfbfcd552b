import subprocess
import sys

import pytest
import torch

from segkit.classes import Classes
from segkit.config.schema import ModelConfig
from segkit.inference.backend import Backend
from segkit.inference.ensemble import Ensemble
from segkit.inference.folding import for_inference
from segkit.inference.torch_backend import TorchBackend
from segkit.models.table import build_model

CANVAS = (64, 96)
CLASSES = Classes.build(["a", "b", "c"])


def backend(seed: int, precision: torch.dtype = torch.float32) -> TorchBackend:
    torch.manual_seed(seed)
    model = for_inference(
        build_model(ModelConfig("lite_unet", "tu-mobilenetv3_small_050", "none"), 3),
        canvas_hw=CANVAS,
        precision=precision,
    )
    return TorchBackend(model, CLASSES, CANVAS, precision)


def each(precision: torch.dtype = torch.float32) -> list[Backend]:
    return [backend(0, precision), Ensemble((backend(0, precision), backend(1, precision)))]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_backend_gives_float32_logits_of_its_classes_on_its_canvas(precision: torch.dtype) -> None:
    images = torch.randint(0, 256, (2, 3, *CANVAS), dtype=torch.uint8)
    for found in each(precision):
        logits = found(images)
        assert isinstance(logits, torch.Tensor)
        assert (logits.shape, logits.dtype) == ((2, len(found.classes), *found.canvas_hw), torch.float32)
        assert logits.device == found.device
        assert not logits.requires_grad


def test_arrays_are_taken_as_tensors_are() -> None:
    images = torch.randint(0, 256, (1, 3, *CANVAS), dtype=torch.uint8)
    for found in each():
        assert torch.equal(torch.as_tensor(found(images.numpy())), torch.as_tensor(found(images)))


def test_logits_are_those_of_the_model() -> None:
    found = backend(0)
    images = torch.randint(0, 256, (2, 3, *CANVAS), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(found(images), found.model(images))


def test_the_protocol_is_known_without_torch() -> None:
    code = "import sys, segkit.inference.backend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
