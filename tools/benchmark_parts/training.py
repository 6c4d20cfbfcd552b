"""Losses, forward and backward over logits 4x21x512x512; and whole training steps: forward, cross-entropy, backward,
AdamW; batch 4 of 256x256, 21 classes.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmark_parts.inputs import NUM_CLASSES
from benchmark_parts.timing import Comparison, Variant, interleave, peak_memory
from segkit.config.schema import ModelConfig, OptimConfig
from segkit.losses.cross_entropy import cross_entropy, focal
from segkit.models.table import build_model
from segkit.runtime.device import autocast, select_precision
from segkit.training.optim import build_optimizer


def loss_part(device: torch.device, folder: Path) -> list[Comparison]:
    torch.manual_seed(0)
    logits = torch.randn(4, NUM_CLASSES, 512, 512, device=device)
    target = torch.randint(0, NUM_CLASSES, (4, 512, 512), dtype=torch.uint8, device=device)
    target[torch.rand(target.shape, device=device) < 0.05] = 255
    weights = torch.rand(NUM_CLASSES, device=device) + 0.5

    def both_ways(function: Callable[..., torch.Tensor], given: torch.Tensor) -> Callable[[], torch.Tensor]:
        leaf = given.detach().clone(memory_format=torch.preserve_format).requires_grad_()

        def run() -> torch.Tensor:
            leaf.grad = None
            function(leaf, target).backward()
            assert leaf.grad is not None
            return leaf.grad

        return run

    def ours(name: str, **options: Any) -> Callable[..., torch.Tensor]:
        if name == "focal":
            return lambda x, y: focal(x, y, gamma=2.0, class_weights=weights, **options)
        return lambda x, y: cross_entropy(x, y, class_weights=weights, **options)

    comparisons = []
    for name, usual in (("cross-entropy", peers.usual_cross_entropy), ("focal", peers.usual_focal)):
        runs = {
            "usual: NHWC copy, flatten": both_ways(lambda x, y, usual=usual: usual(x, y, weights), logits),
            "segkit": both_ways(ours(name), logits),
            "segkit, channels_last logits": both_ways(ours(name), logits.to(memory_format=torch.channels_last)),
            "segkit, bf16 logits": both_ways(ours(name), logits.bfloat16()),
            "segkit, compiled": both_ways(ours(name, compiled=True), logits),
        }
        expected = runs["usual: NHWC copy, flatten"]()
        for variant in ("segkit", "segkit, channels_last logits", "segkit, compiled"):
            torch.testing.assert_close(runs[variant](), expected, rtol=1e-3, atol=1e-9)
        remarks = []
        if device.type == "cpu":
            peaks = [peak_memory(runs[key]) / 2**20 for key in ("usual: NHWC copy, flatten", "segkit")]
            remarks = [f"peak of tensors made on the way: {peaks[0]:.0f} MiB usual, {peaks[1]:.0f} MiB segkit"]
        variants = {key: Variant(run) for key, run in runs.items()}
        comparisons.append(Comparison(f"{name}, forward and backward, 4x21x512x512", variants, remarks))
    return comparisons


def train_part(device: torch.device, folder: Path) -> list[Comparison]:
    images = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8, device=device)
    target = torch.randint(0, NUM_CLASSES, (4, 256, 256), dtype=torch.uint8, device=device)
    narrow = select_precision("auto", device)

    def plain(encoder: str, *, precision: torch.dtype) -> Callable[[], None]:
        order = torch.contiguous_format if precision == torch.float32 else torch.channels_last
        model = smp.Unet(encoder, encoder_weights=None, classes=NUM_CLASSES).to(device, memory_format=order)
        optimizer = torch.optim.AdamW(model.parameters())
        pixels = (images.float() / 255).to(memory_format=order)

        def step() -> None:
            optimizer.zero_grad()
            with autocast(device, precision):
                logits = model(pixels)
            F.cross_entropy(logits.float(), target.long(), ignore_index=255).backward()
            optimizer.step()

        return step

    def ours(encoder: str) -> Callable[[], None]:
        model = build_model(ModelConfig(encoder=encoder, pretrained="none"), NUM_CLASSES)
        model.to_device(device, channels_last=True).train()
        optimizer = build_optimizer(OptimConfig(), model, encoder=model.encoder, lr=1e-3)

        def step() -> None:
            with autocast(device, narrow):
                logits = model(images)
            cross_entropy(logits, target).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    comparisons = []
    for encoder in ("resnet50", "tu-tf_efficientnet_lite0"):
        steps = {
            "usual: fp32, NCHW": plain(encoder, precision=torch.float32),
            f"channels_last, {narrow}": plain(encoder, precision=narrow),
            "segkit": ours(encoder),
        }
        remarks = []
        if encoder == "resnet50":  # the counter takes depthwise convolutions for full ones
            with FlopCounterMode(display=False) as counter:
                steps["usual: fp32, NCHW"]()
            remarks.append(f"{counter.get_total_flops() / 1e12:.3f} TFLOP per step; {matmul_rate(device, narrow)}")
        if device.type == "cpu":
            for step in steps.values():
                step()  # what the optimizer keeps is there before
            peaks = {name: peak_memory(step) / 2**20 for name, step in steps.items()}
            remarks.append("peak of tensors: " + ", ".join(f"{peak:.0f} MiB ({name})" for name, peak in peaks.items()))
        variants = {name: Variant(step) for name, step in steps.items()}
        comparisons.append(Comparison(f"training step, Unet {encoder}, 4x256x256", variants, remarks, rounds=9))
    return comparisons


def matmul_rate(device: torch.device, precision: torch.dtype) -> str:
    """Say what the device's own matrix product reaches."""
    size = 8192 if device.type == "cuda" else 2048
    left = torch.randn(size, size, device=device, dtype=precision)
    times = interleave({"": Variant(lambda: left @ left)}, rounds=7, device=device)[""]
    rate = 2 * size**3 / statistics.median(times) / 1e12
    return f"the device's matrix product of {size}x{size} {str(precision).removeprefix('torch.')}: {rate:.2f} TFLOP/s"
