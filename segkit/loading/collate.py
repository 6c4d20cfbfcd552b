"""Samples side by side: what a batch is, for training and for evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from segkit.loading.evaluation_set import EvaluationBatch, EvaluationSample, stack_evaluation


class Sample(NamedTuple):
    """One augmented image on the canvas."""

    image: torch.Tensor  # uint8 RGB [3, H, W]
    mask: torch.Tensor  # uint8 [H, W]
    name: str


class Batch(NamedTuple):
    """Samples side by side; `onehot` only where a caller asked for it, `second` only in self-training."""

    images: torch.Tensor  # uint8 RGB [B, 3, H, W]
    masks: torch.Tensor  # uint8 [B, H, W]
    names: list[str]
    onehot: torch.Tensor | None = None  # float32 [B, H, W, C+1], last channel = ignored pixels
    second: torch.Tensor | None = None  # uint8 [B, H, W]: what a teacher says, in self-training


def collate(samples: Sequence[Sample], onehot_classes: int | None = None) -> Batch:
    """Stack samples; with `onehot_classes` (the number of classes C) also give their masks one-hot.

    For a DataLoader: `collate_fn=collate`, or `functools.partial(collate, onehot_classes=C)`.
    """
    masks = _stack_masks([sample.mask for sample in samples])
    onehot = None if onehot_classes is None else one_hot(masks, onehot_classes)
    return Batch(
        _stack_images([sample.image for sample in samples]), masks, [sample.name for sample in samples], onehot
    )


def collate_evaluation(samples: Sequence[EvaluationSample]) -> EvaluationBatch:
    """Stack samples for evaluation, their pixels and canvas masks as tensors: for a DataLoader's `collate_fn`."""
    batch = stack_evaluation(samples)
    return batch._replace(images=torch.as_tensor(batch.images), canvas_masks=torch.as_tensor(batch.canvas_masks))


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 [h, w, 3] -> uint8 [3, h, w], mostly the same memory: channels stay innermost (channels_last)."""
    image = np.require(image, requirements=["C", "W"])  # a caller's own array may be a view, or not for writing
    return torch.from_numpy(image).permute(2, 0, 1)


def one_hot(masks: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Turn class ids uint8 [B, H, W] into float32 [B, H, W, C+1]; every other id (ignored) goes to the last channel."""
    ids = masks.clamp(max=num_classes).long()
    return torch.nn.functional.one_hot(ids, num_classes + 1).float()


def _stack_images(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """B times [3, H, W] -> [B, 3, H, W], channels_last as they are.

    By numpy: torch's threads would go on spinning after this, and take the cores of those that load.
    """
    return torch.from_numpy(np.stack([image.permute(1, 2, 0).numpy() for image in images])).permute(0, 3, 1, 2)


def _stack_masks(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.from_numpy(np.stack([mask.numpy() for mask in masks]))
