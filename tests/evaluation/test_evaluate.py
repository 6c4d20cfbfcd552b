from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.evaluate import evaluate
from segkit.imaging.letterbox import LetterBox
from segkit.inference.torch_backend import TorchBackend
from segkit.loading.evaluation_set import EvaluationSet, evaluation_batches
from segkit.losses.table import LossTerm, WeightedLoss
from segkit.models.segmenter import Segmenter


class Painter(nn.Module):
    """A network whose logits are a fixed function of the pixels: one class per third of the red channel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = x[:, :1]
        return torch.cat([-(red - centre).abs() for centre in (0.1, 0.4, 0.7, 0.9)], dim=1)


def painter() -> TorchBackend:
    model = Segmenter(Painter(), stride=32, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    return TorchBackend(model, Classes.build(["a", "b", "c", "d"]), (48, 64), torch.float32)


def scenes(root: Path, canvas_hw: tuple[int, int]) -> tuple[EvaluationSet, Classes]:
    data = DataConfig(root=str(root))
    classes = resolve_classes(data)
    return EvaluationSet(list_items(data, "val"), build_mask_reader(data, classes), canvas_hw=canvas_hw), classes


def test_logits_come_back_at_the_original_size_before_the_argmax() -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    box = LetterBox.fit((50, 70), (64, 64))
    pixels = torch.from_numpy(box.apply(image).transpose(2, 0, 1).copy())[None]
    canvas = painter()(pixels)[0]
    inner = canvas[:, *box.inner]
    expected = F.interpolate(inner[None], (50, 70), mode="bilinear", align_corners=False)[0]
    assert torch.equal(box.invert(canvas), expected)
    assert (box.mask(canvas) == expected.argmax(dim=0).numpy()).mean() > 0.999  # this painter's classes tie


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_scores_are_those_of_each_image_alone_at_its_own_size(shapes: Path, batch_size: int) -> None:
    dataset, classes = scenes(shapes, (48, 64))
    batches = evaluation_batches(dataset, batch_size=batch_size, workers=0)
    scores = evaluate(painter(), batches, classes=classes).scores
    expected = ConfusionMatrix(len(classes))
    for k in range(len(dataset)):
        scene = dataset[k]
        logits = painter()(scene.image[None])[0]
        expected.update(scene.box.mask(logits), scene.mask)
    assert np.array_equal(scores.counts, expected.counts)
    assert scores.num_images == len(dataset)
    assert scores.counts.sum() == sum(scene.mask.size for scene in dataset)


def test_the_validation_loss_is_that_of_all_images_together(shapes: Path) -> None:
    dataset, classes = scenes(shapes, (48, 64))
    loss = WeightedLoss((LossTerm("cross_entropy", 0.7), LossTerm("dice", 0.3)))
    batches = list(evaluation_batches(dataset, batch_size=4, workers=0))
    result = evaluate(painter(), batches, classes=classes, loss=loss)
    images = torch.cat([torch.as_tensor(batch.images) for batch in batches])
    masks = torch.cat([torch.as_tensor(batch.canvas_masks) for batch in batches])
    assert result.loss == pytest.approx(loss(painter()(images), masks).total.item(), rel=1e-5)
