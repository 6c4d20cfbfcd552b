"""Loading: 500x375 JPEG and palette PNG, full training augmentation to 512x512, batches of 4."""

import time
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from torch.utils.data import DataLoader

from benchmark_parts.inputs import CANVAS, NUM_CLASSES, fixed_segmenter, write_voc_like
from benchmark_parts.timing import Comparison, Variant, has
from segkit.classes import Classes
from segkit.config.schema import AugmentConfig, DataConfig
from segkit.datasets.layouts import Item
from segkit.datasets.masks import build_mask_reader
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.cache import PixelCache
from segkit.loading.loader import training_batches
from segkit.loading.training_set import TrainingSet


def data_part(device: torch.device, folder: Path) -> list[Comparison]:
    pairs = write_voc_like(folder / "data", count=40)
    torch.set_num_threads(1)  # what converts in the main process leaves the workers their cores
    comparisons = []
    for workers in (1, 2):
        streams = {
            f"usual, {workers} workers": usual_stream(pairs, workers),
            f"torchvision v2, {workers} workers": library_stream(peers.TorchvisionDataset(pairs, CANVAS), workers),
            f"segkit, {workers} workers": segkit_stream(pairs, workers),
            f"segkit, {workers} workers, cache: ram": segkit_stream(pairs, workers, cached=True),
        }
        if has("albumentations"):
            dataset = peers.AlbumentationsDataset(pairs, CANVAS)
            streams[f"albumentations, {workers} workers"] = library_stream(dataset, workers)
        variants = {name: as_variant(stream, num_batches=10, workers=workers) for name, stream in streams.items()}
        comparisons.append(
            Comparison(
                f"data, {workers} workers, milliseconds per sample, normalised float32 in the main process",
                variants,
                remarks=bytes_per_sample(pairs) if workers == 1 else (),
                rounds=9,
            )
        )
    comparisons.append(Comparison("data, 0 workers (threads between steps), milliseconds per sample", {
        "usual, 0 workers": as_variant(usual_stream(pairs, 0), num_batches=5, workers=0),
        "segkit, 0 workers": as_variant(segkit_stream(pairs, 0), num_batches=10, workers=0),
    }, rounds=7))  # fmt: skip
    return comparisons


class Endless:
    """Indices of batches of 4, without an end, so that no epoch's start is timed."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(0)
        while True:
            yield rng.integers(0, self.length, 4).tolist()


def library_stream(dataset: Any, workers: int, collate: Any = None) -> Iterator[Any]:
    loader = DataLoader(dataset, batch_sampler=Endless(len(dataset)), num_workers=workers, collate_fn=collate)
    for images, *_ in loader:
        yield normalise(images) if images.dtype == torch.uint8 else images


def usual_stream(pairs: Sequence[peers.Pair], workers: int) -> Iterator[Any]:
    return library_stream(peers.UsualDataset(pairs, CANVAS, NUM_CLASSES), workers, peers.usual_collate)


def segkit_stream(pairs: Sequence[peers.Pair], workers: int, *, cached: bool = False) -> Iterator[Any]:
    dataset = segkit_dataset(pairs)
    if cached:
        dataset.cache = PixelCache([(375, 500)] * len(pairs))
    plan = BatchPlan(len(pairs), 4, seed=0)
    segmenter = fixed_segmenter(torch.zeros(NUM_CLASSES, 1, 1)).to_device(torch.device("cpu"), channels_last=True)
    for batch in training_batches(dataset, plan, rank=0, first_step=0, num_steps=10**9, workers=workers):
        yield segmenter.normalise(batch.images)


def segkit_dataset(pairs: Sequence[peers.Pair]) -> TrainingSet:
    recipe = build_augment(AugmentConfig(), canvas_hw=CANVAS, ignore_index=255)
    reader = build_mask_reader(DataConfig(), Classes.build([f"class {k}" for k in range(NUM_CLASSES)]))
    return TrainingSet([Item(image.stem, image, mask) for image, mask in pairs], reader, recipe, seed=0)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn a library's uint8 [B, 3, H, W] into what a network takes."""
    mean, std = (torch.tensor(255 * values, dtype=torch.float32).view(1, 3, 1, 1) for values in (peers.MEAN, peers.STD))
    return images.sub(mean).div_(std)


def as_variant(stream: Iterator[Any], *, num_batches: int, workers: int) -> Variant:
    def take(count: int) -> None:
        for _ in range(count):
            next(stream)

    def settle() -> None:
        time.sleep(0.3)  # until another variant's workers have filled their queues
        take(2 * workers)  # what was loaded ahead

    return Variant(lambda: take(num_batches), per=4 * num_batches, prepare=settle)


def bytes_per_sample(pairs: Sequence[peers.Pair]) -> list[str]:
    usual = peers.usual_collate([peers.UsualDataset(pairs, CANVAS, NUM_CLASSES)[k] for k in range(4)])
    message = len(ForkingPickler.dumps((3, [pair[0].stem for pair in pairs[:4]])))
    ring = 4 * CANVAS[0] * CANVAS[1]
    return [
        f"bytes per sample from worker to main process: usual {sum(t.nbytes for t in usual) / 4:,.0f}; "
        f"segkit {ring + message / 4:,.0f} ({ring:,} in shared memory, {message / 4:.0f} through the pipe)"
    ]
