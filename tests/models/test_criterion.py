"""A model that isn't trained by per-pixel logits: it brings its own criterion, by its line in `MODELS` alone."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.config.schema import LossConfig, RunConfig
from segkit.losses.table import LossValue, WeightedLoss, build_criterion, build_loss
from segkit.models.table import MODELS, Model, build_model
from segkit.train import train


class Shares(nn.Module):
    """A toy: in training mode, what share of each image every class has; in eval mode log-probabilities of pixels."""

    def __init__(self, encoder_name: str, encoder_weights: object, in_channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.head = nn.Conv2d(4, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        log_p = self.head(self.encoder(x).relu()).log_softmax(dim=1)
        return {"shares": log_p.exp().mean(dim=(2, 3))} if self.training else log_p


@dataclass(frozen=True)
class ShareError:
    loss: WeightedLoss
    names: tuple[str, ...] = ("shares",)

    def at(self, progress: float) -> "ShareError":
        return self

    def normalizers(self, target: torch.Tensor) -> torch.Tensor:
        return torch.tensor([float(len(target))])

    def __call__(
        self, outputs: dict[str, torch.Tensor], target: torch.Tensor, normalizers: torch.Tensor | None = None
    ) -> LossValue:
        divisor = self.normalizers(target) if normalizers is None else normalizers
        ids = target.long().where(target != self.loss.ignore_index, 0)
        truth = F.one_hot(ids, outputs["shares"].shape[1]).float().mean(dim=(1, 2))
        value = (outputs["shares"] - truth).square().sum() / divisor[0]
        return LossValue(value, value.detach()[None])


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A config of the toy, which has its line in the table for the time of a test."""
    monkeypatch.setitem(MODELS, "toy", Model(Shares, stride=lambda network: 1, criterion=ShareError))
    config = RunConfig()
    return replace(config, model=replace(config.model, name="toy", encoder="resnet18", pretrained="none"))  # type: ignore[arg-type]


def test_outputs_reach_the_models_own_criterion_and_its_gradient_the_model(toy: RunConfig) -> None:
    model = build_model(toy.model, 3)
    loss = build_loss(LossConfig(), num_classes=3, ignore_index=255, class_weights=None, device=torch.device("cpu"))
    criterion = build_criterion(loss, MODELS["toy"].criterion)
    target = torch.randint(0, 3, (2, 17, 20), dtype=torch.uint8)
    value = criterion(model(torch.randint(0, 256, (2, 3, 17, 20), dtype=torch.uint8)), target)
    value.total.backward()
    assert criterion.names == ("shares",)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_run_trains_by_the_models_own_criterion_and_validates_as_any(
    toy: RunConfig, shapes: Path, tmp_path: Path
) -> None:
    config = replace(
        toy,
        run=str(tmp_path / "run"),
        data=replace(toy.data, root=str(shapes), canvas=(32, 32)),
        train=replace(toy.train, epochs=1, batch_size=4, device="cpu", precision="fp32"),
    )
    result = train(config)
    assert result.finished
    assert result.scores is not None
    assert result.scores.num_images == 6
