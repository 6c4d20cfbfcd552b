"""The losses of segmentation-models-pytorch (0.6.0) beside ours: where they agree, and where they are wrong if pixels
are ignored or a batch is split. docs/losses.md lists this: what changes there after an upgrade fails here.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from segmentation_models_pytorch.losses import (
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszLoss,
    MCCLoss,
    SoftCrossEntropyLoss,
    TverskyLoss,
)

from segkit.losses.cross_entropy import cross_entropy, focal
from segkit.losses.dice import dice
from segkit.losses.lovasz import lovasz
from segkit.losses.mcc import mcc
from segkit.losses.tversky import focal_tversky, jaccard, tversky

C, H, W = 4, 8, 9

OVERLAPS: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "dice": (dice, DiceLoss("multiclass", ignore_index=255)),
    "jaccard": (jaccard, JaccardLoss("multiclass", ignore_index=255)),
    "tversky": (tversky, TverskyLoss("multiclass", ignore_index=255, alpha=0.3, beta=0.7)),
    "lovasz": (lovasz, LovaszLoss("multiclass", ignore_index=255)),
}


def batch(num_images: int, *, ignored: float = 0.0, num_classes: int = C) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_images, num_classes, H, W, generator=generator, requires_grad=True)
    target = torch.randint(0, num_classes, (num_images, H, W), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = 255
    return logits, target


def assert_same(found: torch.Tensor, expected: torch.Tensor, logits: torch.Tensor, **tolerance: Any) -> None:
    """Compare two losses of the same logits, values and gradients."""
    torch.testing.assert_close(found, expected, **tolerance)
    ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, theirs, **(tolerance or {"rtol": 1e-3, "atol": 1e-6}))


# ---- Dice, Jaccard, Tversky, Lovasz: right for one image, all of whose classes are there


@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps_of_one_image_are_the_same_also_where_pixels_are_ignored(name: str, ignored: float) -> None:
    ours, theirs = OVERLAPS[name]
    logits, target = batch(1, ignored=ignored)
    assert_same(ours(logits, target), theirs(logits, target), logits)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_smp_counts_classes_that_an_image_lacks_as_perfect(name: str) -> None:
    ours, theirs = OVERLAPS[name]
    logits, target = batch(1)
    target[target > 1] = 0  # two of four classes are left
    assert_same(ours(logits, target), theirs(logits, target) * C / 2, logits)


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps_of_smp_depend_on_how_a_batch_is_split(name: str) -> None:
    ours, theirs = OVERLAPS[name]
    logits, target = batch(2, ignored=0.3)
    target[0, 4:] = 255
    for loss, is_exact in ((ours, True), (theirs, False)):
        parts = torch.stack([loss(logits[k : k + 1], target[k : k + 1]) for k in range(2)]).mean()
        assert torch.isclose(parts, loss(logits, target), rtol=1e-5) == is_exact


def test_smp_takes_the_power_of_a_mean_and_focal_tversky_the_mean_of_powers() -> None:
    logits, target = batch(1)
    powered = TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=0.75)(logits, target)
    torch.testing.assert_close(powered, tversky(logits, target) ** 0.75)
    assert focal_tversky(logits, target, gamma=4 / 3) < powered  # by Jensen: the power is concave


@pytest.mark.parametrize("unlabelled", [0, 1])
def test_lovasz_of_smp_by_image_fails_at_an_image_without_a_label(unlabelled: int) -> None:
    logits, target = batch(2)
    target[unlabelled] = 255
    theirs = LovaszLoss("multiclass", per_image=True, ignore_index=255)
    if unlabelled == 0:  # the first one makes it an empty tensor, a later one stops it
        assert theirs(logits, target).shape == (0, C)
    else:
        with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
            theirs(logits, target)
    other = slice(1 - unlabelled, 2 - unlabelled)
    torch.testing.assert_close(lovasz(logits, target), lovasz(logits[other], target[other]))


# ---- focal


@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_binary_focal_loss_is_the_same(ignored: float) -> None:
    logits, target = batch(2, ignored=ignored, num_classes=1)
    target[:, ::2] = target[:, ::2].where(target[:, ::2] == 255, 1)
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)  # the softmax of 0, z is the sigmoid of z
    ours = focal(both, target, gamma=1.5, alpha=torch.tensor([0.75, 0.25]))
    theirs = FocalLoss("binary", gamma=1.5, alpha=0.25, ignore_index=255)(logits, target)
    assert_same(ours, theirs, logits)


def test_focal_loss_of_several_classes_is_one_against_the_rest_in_smp() -> None:
    logits, target = batch(2, ignored=0.3)
    theirs = FocalLoss("multiclass", gamma=1.5, ignore_index=255)(logits, target)
    labelled = target != 255
    of_class = []
    for c in range(C):
        is_class, z = target[labelled] == c, logits[:, c][labelled]
        p = z.sigmoid().where(is_class, 1 - z.sigmoid())
        of_class.append((-((1 - p) ** 1.5) * p.log()).mean())
    torch.testing.assert_close(theirs, torch.stack(of_class).mean())
    assert not torch.isclose(theirs, focal(logits, target, gamma=1.5), rtol=0.1)


def test_focal_loss_of_smp_is_nan_without_a_label() -> None:
    logits, target = batch(2, ignored=1.0)
    assert FocalLoss("multiclass", ignore_index=255)(logits, target).isnan()
    assert focal(logits, target) == 0


# ---- cross-entropy with label smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_smp_is_the_same_where_every_pixel_is_labelled(smoothing: float) -> None:
    logits, target = batch(2)
    theirs = SoftCrossEntropyLoss(smooth_factor=smoothing, ignore_index=255)(logits, target)
    assert_same(cross_entropy(logits, target, label_smoothing=smoothing), theirs, logits)


def test_cross_entropy_of_smp_divides_by_ignored_pixels_too() -> None:
    logits, target = batch(2, ignored=0.3)
    theirs = SoftCrossEntropyLoss(smooth_factor=0.1, ignore_index=255)(logits, target)
    share = (target != 255).float().mean()
    assert share < 0.8
    assert_same(cross_entropy(logits, target, label_smoothing=0.1) * share, theirs, logits)


# ---- Matthews correlation


def test_matthews_correlation_of_two_classes_is_the_same() -> None:
    logits, target = batch(1, num_classes=2)
    theirs = MCCLoss(eps=0.0)(logits.softmax(dim=1)[:, 1], target)
    assert_same(mcc(logits, target), theirs, logits, rtol=1e-4, atol=1e-6)


def test_matthews_correlation_of_smp_cant_ignore_pixels() -> None:
    logits, target = batch(1, ignored=0.3, num_classes=2)
    probability = logits.softmax(dim=1)[:, 1]
    labelled = target != 255
    expected = MCCLoss(eps=0.0)(probability[labelled][None], target[labelled][None])
    torch.testing.assert_close(mcc(logits, target), expected, rtol=1e-4, atol=1e-6)
    as_background = MCCLoss(eps=0.0)(probability * labelled, target * labelled)
    for wrong in (as_background, MCCLoss()(probability, target.float())):
        assert not torch.isclose(wrong, expected, rtol=1e-2)


def test_every_loss_of_smp_that_has_a_counterpart_is_here() -> None:
    import segmentation_models_pytorch.losses as theirs

    known = {
        "DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss", "FocalLoss", "SoftCrossEntropyLoss", "MCCLoss",
        "SoftBCEWithLogitsLoss",  # for masks with several classes per pixel, which segkit doesn't train
    }  # fmt: skip
    assert {name for name in theirs.__all__ if name.endswith("Loss")} == known
