"""What the parts measure on: pairs of files like VOC's, and networks that take no time."""

from pathlib import Path

import numpy as np
import peers
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from segkit.classes import Classes
from segkit.datasets.masks import write_mask
from segkit.datasets.shapes import draw_scene
from segkit.inference.folding import for_inference
from segkit.inference.predictor import Predictor
from segkit.inference.torch_backend import TorchBackend
from segkit.models.segmenter import Segmenter

NUM_CLASSES = 21
CANVAS = (512, 512)
VOC = Path(__file__).resolve().parents[3] / "shared/data/voc2012_sample"


def write_voc_like(folder: Path, *, count: int) -> list[peers.Pair]:
    """Write pairs of 500x375: images of the VOC sample if it exists here, drawn ones elsewhere."""
    folder.mkdir()
    classes = Classes.build([f"class {k}" for k in range(NUM_CLASSES)])
    rng = np.random.default_rng(0)
    samples = sorted((VOC / "JPEGImages").glob("*.jpg"))
    pairs = []
    for number in range(count):
        if samples:
            path = samples[number % len(samples)]
            image = np.array(Image.open(path).convert("RGB").resize((500, 375)))
            label = Image.open(VOC / "SegmentationClass" / f"{path.stem}.png")
            mask = np.array(label.resize((500, 375), Image.Resampling.NEAREST))
        else:
            image, mask = draw_scene(rng, (375, 500))
        pair = folder / f"{number:03d}.jpg", folder / f"{number:03d}.png"
        Image.fromarray(image).save(pair[0], quality=95)
        write_mask(pair[1], mask, classes)
        pairs.append(pair)
    return pairs


class Fixed(nn.Module):
    """A network that takes no time: the same logits for every image, in the memory order of a real one's."""

    logits: torch.Tensor

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.register_buffer("logits", logits[None].to(memory_format=torch.channels_last))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1, -1, -1)


def fixed_segmenter(logits: torch.Tensor) -> Segmenter:
    return Segmenter(Fixed(logits), stride=32, mean=peers.MEAN.tolist(), std=peers.STD.tolist())


def fixed_predictor(logits: torch.Tensor) -> Predictor:
    classes = Classes.build([f"class {k}" for k in range(NUM_CLASSES)])
    segmenter = fixed_segmenter(logits).to_device(torch.device("cpu"), channels_last=True)
    ready = for_inference(segmenter, canvas_hw=CANVAS, precision=torch.float32)
    return Predictor(TorchBackend(ready, classes, CANVAS, torch.float32))


def smooth_logits(size_hw: tuple[int, int]) -> torch.Tensor:
    """Logits float32 [21, H, W] of blobs, as a trained network gives: few pixels lie between classes."""
    coarse = 4 * torch.randn(1, NUM_CLASSES, 12, 12, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size_hw, mode="bicubic")[0].contiguous()
