"""Images without a label, labelled by the moving average."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.config.schema import RunConfig, SemiConfig
from segkit.imaging.letterbox import BAR_GREY
from segkit.loading.collate import Batch
from segkit.models.checkpoint import Checkpoint
from segkit.train import train
from segkit.training.ema import MovingAverage
from segkit.training.self_training import CUT, TONES, SelfTraining, in_other_tones, parts_cut, parts_of_classes


class Red(nn.Module):
    """A teacher that says 0, 1 or 2 by how red a pixel is, and how sure it is by how green."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red, green = images[:, 0].float(), images[:, 1].float()
        classes = torch.stack([red < 80, (red >= 80) & (red < 160), red >= 160], dim=1)
        return classes * green[:, None] / 10


def self_training(**settings: object) -> SelfTraining:
    average = MovingAverage(Red(), decay=0.9)
    return SelfTraining(replace(SemiConfig(weight=1.0), **settings), average, 255, torch.float32)  # type: ignore[arg-type]


def batch() -> Batch:
    """An image with labels and three without; the last one has a bar."""
    images = torch.randint(0, 256, (4, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[3, :, :4] = BAR_GREY
    masks = torch.full((4, 16, 24), 255, dtype=torch.uint8)
    masks[0] = 1
    return Batch(images, masks, ["a", "b", "c", "d"])


def test_images_with_a_label_are_left_alone() -> None:
    given = batch()
    torch.manual_seed(0)
    labelled = self_training().label(given)
    assert labelled.second is not None
    assert torch.equal(labelled.images[0], given.images[0])
    assert (labelled.second[0] == 255).all()
    assert torch.equal(labelled.masks, given.masks)
    assert not torch.equal(labelled.images[1:], given.images[1:])


def test_the_teacher_labels_what_it_saw_where_it_is_sure_and_no_bars() -> None:
    given = batch()
    labelled = self_training(mix="none", threshold=0.9).label(given)
    assert labelled.second is not None
    red, green = given.images[1:, 0], given.images[1:, 1]
    expected = (red >= 80).to(torch.uint8) + (red >= 160).to(torch.uint8)
    sure = (torch.exp(green / 10) / (torch.exp(green / 10) + 2)) >= 0.9
    bars = (given.images[1:] == BAR_GREY).all(dim=1)
    assert torch.equal(labelled.second[1:], torch.where(sure & ~bars, expected, torch.tensor(255, dtype=torch.uint8)))
    assert (labelled.second[3, :4] == 255).all()


@pytest.mark.parametrize("mix", ["classmix", "cutmix"])
def test_a_mixed_pixel_has_colours_and_label_of_one_image(mix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit.training.self_training.in_other_tones", lambda images: images)
    given = batch()
    torch.manual_seed(0)
    mixed, plain = (self_training(mix=each, threshold=0.0).label(given) for each in (mix, "none"))
    assert mixed.second is not None
    assert plain.second is not None
    pairs = [torch.cat([each.images[1:], each.second[1:, None]], dim=1) for each in (mixed, plain)]
    own = (pairs[0] == pairs[1]).all(dim=1)
    theirs = (pairs[0] == pairs[1].roll(1, dims=0)).all(dim=1)
    assert (own | theirs).all()
    assert not own.all()


def test_half_of_the_classes_of_the_image_before_are_taken() -> None:
    said = torch.tensor([[[0, 1, 2, 3]], [[4, 255, 255, 255]]], dtype=torch.uint8)
    taken = torch.stack([parts_of_classes(said, 255) for _ in range(40)])
    assert (taken[:, 1].sum(dim=(1, 2)) == 2).all()  # of the four of the first image
    assert taken[:, 1].any(dim=0).all()
    assert (taken[:, 0] == torch.tensor([[True, False, False, False]])).all()


def test_a_cut_is_a_rectangle_of_its_share() -> None:
    for part in torch.cat([parts_cut(torch.zeros(4, 40, 60)) for _ in range(10)]):
        rows, columns = part.any(dim=1).sum(), part.any(dim=0).sum()
        assert part.sum() == rows * columns
        assert CUT[0] * 0.9 < part.float().mean() < CUT[1] * 1.1


def test_tones_stay_within_their_bounds_and_are_of_the_whole_channel() -> None:
    flat = torch.full((50, 3, 4, 4), 100, dtype=torch.uint8)
    changed = in_other_tones(flat)
    assert (changed.flatten(2).float().std(dim=2) == 0).all()
    values = changed[:, :, 0, 0].float()
    assert values.min() >= 100 * (1 - TONES) - 255 * TONES - 1
    assert values.max() <= 100 * (1 + TONES) + 255 * TONES + 1
    assert values.std() > 20


# ---- in training


@pytest.fixture
def semi(make_config: Callable[..., RunConfig], shapes: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    def make(name: str, *words: str) -> RunConfig:
        more = f"data.more_images={shapes / 'JPEGImages'}"
        return make_config(tmp_path / name, "train.ema=0.5", "semi.weight=1.0", "semi.threshold=0.3", more, *words)

    return make


def test_a_resumed_run_equals_a_straight_one(semi: Callable[..., RunConfig]) -> None:
    straight = train(semi("straight"))
    train(semi("resumed"), max_steps=5)
    resumed = train(semi("resumed"), resume=True)
    weights = [Checkpoint.load(run.folder / "checkpoints" / "last.pt").weights for run in (straight, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_its_weight_changes_what_is_learned(semi: Callable[..., RunConfig]) -> None:
    runs = [train(semi(f"w{weight}", f"semi.weight={weight}")) for weight in (1.0, 0.0001)]
    weights = [Checkpoint.load(run.folder / "checkpoints" / "last.pt").weights for run in runs]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
