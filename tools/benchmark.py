"""Measure segkit beside what people use instead: python tools/benchmark.py [loss|metric|train|all]

All in one run: each round times every variant once, in rotation, so that noise disturbs them alike. The table shows
medians with min..max, and the ratio of medians to the first row, the usual implementation. Results that should be equal
are compared before anything is timed. The usual implementations here are our own, written as such pipelines are
written; libraries are called as they install (torchmetrics: uv run --with torchmetrics).
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from segkit.config import ModelConfig, OptimConfig
from segkit.losses import cross_entropy, focal
from segkit.metrics import ConfusionMatrix
from segkit.models.table import build_model
from segkit.optim import build_optimizer
from segkit.runtime import autocast, describe_environment, keep_freed_memory, select_precision

Variants = dict[str, Callable[[], Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--rounds", type=int, default=15, help="how often each variant is timed (default: 15)")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="JSON file (default: %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    results = {}
    for part in PARTS if arguments.part == "all" else [arguments.part]:
        for title, variants in PARTS[part]():
            times = interleave(variants, rounds=arguments.rounds)
            print(f"\n{title}\n{table(times)}", flush=True)
            results[title] = {name: sorted(values) for name, values in times.items()}
    content = {"environment": describe_environment(torch.device("cpu")), "seconds": results}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads; written: {arguments.output}")
    return 0


def interleave(variants: Variants, *, rounds: int) -> dict[str, list[float]]:
    """Time every variant once per round, in rotation: {name: seconds}. One round before does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            variants[name]()
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def table(times: dict[str, list[float]]) -> str:
    """Return medians in milliseconds with min..max, and how many times faster than the first row each is."""
    first = statistics.median(next(iter(times.values())))
    width = max(len(name) for name in times)
    lines = []
    for name, values in times.items():
        middle, least, most = (1e3 * figure for figure in (statistics.median(values), min(values), max(values)))
        lines.append(f"  {name:<{width}}  {middle:9.3f} ms  [{least:.3f}..{most:.3f}]  {1e3 * first / middle:6.2f}x")
    return "\n".join(lines)


# ---- losses: forward and backward over logits 4x21x512x512


def loss_part() -> list[tuple[str, Variants]]:
    torch.manual_seed(0)
    logits = torch.randn(4, 21, 512, 512)
    target = torch.randint(0, 21, (4, 512, 512), dtype=torch.uint8)
    target[torch.rand(target.shape) < 0.05] = 255
    weights = torch.rand(21) + 0.5

    def timed(function: Callable[..., torch.Tensor], given: torch.Tensor) -> Callable[[], torch.Tensor]:
        leaf = given.detach().clone(memory_format=torch.preserve_format).requires_grad_()

        def run() -> torch.Tensor:
            leaf.grad = None
            function(leaf, target).backward()
            assert leaf.grad is not None
            return leaf.grad

        return run

    pairs: list[tuple[str, Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = [
        ("cross-entropy", usual_cross_entropy, lambda x, y: cross_entropy(x, y, class_weights=weights)),
        ("focal", usual_focal, lambda x, y: focal(x, y, gamma=2.0, class_weights=weights)),
    ]
    parts = []
    for name, usual, ours in pairs:
        variants = {
            "usual: NHWC copy, flatten": timed(lambda x, y, usual=usual: usual(x, y, weights), logits),
            "segkit": timed(ours, logits),
            "segkit, channels_last logits": timed(ours, logits.to(memory_format=torch.channels_last)),
            "segkit, bf16 logits": timed(ours, logits.bfloat16()),
        }
        expected = variants["usual: NHWC copy, flatten"]()
        torch.testing.assert_close(variants["segkit"](), expected, rtol=1e-3, atol=1e-9)
        parts.append((f"{name}, forward and backward, 4x21x512x512", variants))
    return parts


def usual_cross_entropy(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Flatten to [BHW, C] by a copy, as UNet/VOC pipelines do."""
    num_classes = logits.shape[1]
    flat = logits.transpose(1, 2).transpose(2, 3).contiguous().view(-1, num_classes)
    return F.cross_entropy(flat, target.view(-1).long(), weight=weights, ignore_index=255)


def usual_focal(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Flatten, cross-entropy without reduction, then exp and power; weights outside, so that the results compare."""
    num_classes = logits.shape[1]
    flat = logits.transpose(1, 2).transpose(2, 3).contiguous().view(-1, num_classes)
    ids = target.view(-1).long()
    logpt = -F.cross_entropy(flat, ids, ignore_index=255, reduction="none")
    by_class = weights[ids.where(ids != 255, 0)] * (ids != 255)
    return -(by_class * (1 - torch.exp(logpt)) ** 2 * logpt).sum() / by_class.sum()


# ---- confusion matrix: one picture of 500x375, 21 classes, from uint8 masks


def metric_part() -> list[tuple[str, Variants]]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 21, (375, 500), np.uint8)
    target[rng.random(target.shape) < 0.05] = 255
    prediction = np.where(rng.random(target.shape) < 0.8, target, rng.integers(0, 21, target.shape)).astype(np.uint8)
    prediction[target == 255] = 0

    def usual() -> np.ndarray:
        t, p = target.flatten(), prediction.flatten()
        keep = (t >= 0) & (t < 21)
        return np.bincount(21 * t[keep].astype(int) + p[keep], minlength=441).reshape(21, 21)

    def ours() -> np.ndarray:
        matrix = ConfusionMatrix(21)
        matrix.update(prediction, target)
        return matrix.counts

    variants: Variants = {"usual: mask, int64, numpy bincount": usual, "segkit": ours}
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix

        library = MulticlassConfusionMatrix(num_classes=21, ignore_index=255)
        tensors = torch.from_numpy(prediction).long(), torch.from_numpy(target).long()
        variants["torchmetrics"] = lambda: library(*tensors).numpy()
    except ImportError:
        print("torchmetrics is not installed: left out")
    expected = usual()
    for name, variant in variants.items():
        assert np.array_equal(variant(), expected), name
    return [("confusion matrix, 500x375, 21 classes, per picture", variants)]


# ---- training step: forward, cross-entropy, backward, AdamW; batch 4 of 256x256, 21 classes


def train_part() -> list[tuple[str, Variants]]:
    device = torch.device("cpu")
    images = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8)
    target = torch.randint(0, 21, (4, 256, 256), dtype=torch.uint8)

    def plain(encoder: str, *, bf16: bool) -> Callable[[], None]:
        model = smp.Unet(encoder, encoder_weights=None, classes=21)
        if bf16:
            model = model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters())
        pixels = images.float() / 255
        if bf16:
            pixels = pixels.to(memory_format=torch.channels_last)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(pixels)
            F.cross_entropy(logits.float(), target.long(), ignore_index=255).backward()
            optimizer.step()

        return step

    def ours(encoder: str) -> Callable[[], None]:
        config = ModelConfig(encoder=encoder, pretrained="none")
        model = build_model(config, 21).place(device, channels_last=True).train()
        optimizer = build_optimizer(OptimConfig(), model, encoder=model.encoder, lr=1e-3)
        precision = select_precision("auto", device)

        def step() -> None:
            with autocast(device, precision):
                logits = model(images)
            cross_entropy(logits, target).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    return [
        (
            f"training step, Unet {encoder}, 4x256x256",
            {
                "usual: fp32, NCHW": plain(encoder, bf16=False),
                "channels_last, bf16": plain(encoder, bf16=True),
                "segkit": ours(encoder),
            },
        )
        for encoder in ("resnet50", "tu-tf_efficientnet_lite0")
    ]


PARTS: dict[str, Callable[[], list[tuple[str, Variants]]]] = {
    "loss": loss_part,
    "metric": metric_part,
    "train": train_part,
}

if __name__ == "__main__":
    sys.exit(main())
