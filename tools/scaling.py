"""What more processes cost: measures the parts of a step, checks their sum against two real ranks, and extrapolates.

    python tools/scaling.py

A step takes compute + exposed communication + what loading is slower than both. The parts are measured on this machine;
the sum is checked against two ranks over gloo; what follows for many GPUs is arithmetic on stated assumptions, and
printed apart. docs/scaling.md quotes a run of this program.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from segkit.classes import Classes
from segkit.config.schema import AugmentConfig, DataConfig, ModelConfig, RunConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.shapes import draw_data_set
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.training_set import TrainingSet
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.runtime.machine import keep_freed_memory
from segkit.runtime.ranks import data_parallel, process_group

MODEL = ModelConfig(name="unet", encoder="resnet34", pretrained="none")
CLASSES = Classes.build([f"class {k}" for k in range(21)])
SIDE, PER_RANK = 256, 4  # of the steps that are measured here
GPU_SIDE, GPU_BATCH, GPU_RATE = 512, 16, 200e12  # assumed: images per GPU and step, and FLOP/s that it sustains
NUM_GPUS = (8, 64, 512)
LINKS = {"400 GB/s": 400e9, "50 GB/s": 50e9, "12.5 GB/s": 12.5e9, "1.25 GB/s": 1.25e9}
LATENCY = 10e-6  # seconds per hop of a ring, assumed
OVERLAP = 0.6  # share of a step during which gradients can travel: the backward pass, without its last layers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank-steps", type=int, help=argparse.SUPPRESS)  # what this program starts under torchrun
    arguments = parser.parse_args()
    if arguments.rank_steps:
        measure_rank(arguments.rank_steps)
        return 0
    measured = measure_parts()
    check_sum()
    extrapolate(*measured)
    return 0


# ---- measured


def measure_parts() -> tuple[int, float]:
    """Print what checkpoints, loading and gradients take; return the bytes of the gradients and FLOP per image."""
    model = make_model()
    size = sum(parameter.nbytes for parameter in model.parameters())
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model.eval()(torch.zeros(1, 3, GPU_SIDE, GPU_SIDE))
    per_image = 3 * flops.get_total_flops()  # backward takes twice the forward pass
    print("measured on this machine")
    print(f"  model {MODEL.name} {MODEL.encoder}: gradients {size / 1e6:.1f} MB, {per_image / 1e9:.0f} GFLOP an image")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step(model, optimizer)
    checkpoint = Checkpoint(model.state_dict(), RunConfig(model=MODEL), CLASSES, optimizer=optimizer.state_dict())
    gigabytes = checkpoint.num_bytes / 1e9
    copying = seconds(checkpoint.on_host, 5)
    with tempfile.TemporaryDirectory() as folder:
        writing = seconds(lambda: checkpoint.save(Path(folder) / "last.pt"), 5)
    print(
        f"  checkpoint of {gigabytes:.2f} GB: the loop waits {copying / gigabytes:.2f} s per GB, then a thread writes,"
    )
    print(f"    flushes, reads back and compares for {writing / gigabytes:.2f} s per GB")
    print(f"  loading, 500x375 JPEG to 512x512 with augmentation: {samples_per_second():.0f} samples/s per core")
    return size, per_image


def check_sum() -> None:
    """Compare a step of two ranks with what one rank's compute and the exchange of gradients alone add up to."""
    alone, _, _ = torchrun(1)
    together, exchange, counted = torchrun(2)
    print(f"  all-reduce: {counted / 1e6:.2f} MB per step and rank, {exchange:.3f} s over gloo between two processes")
    print(
        f"  step of {PER_RANK} images of {SIDE}x{SIDE} per rank, one core each: {alone:.3f} s alone, "
        f"{together:.3f} s as one of two"
    )
    print(
        f"  the sum, without any overlap: {alone + exchange:.3f} s, {100 * (alone + exchange) / together - 100:+.0f} %"
    )


def torchrun(num_ranks: int) -> tuple[float, float, int]:
    """Run this program as ranks with one thread each; return seconds per step and exchange, and bytes exchanged."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    done = subprocess.run(
        [*command, __file__, "--rank-steps", "12"],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    words = next(line for line in done.stdout.splitlines() if line.startswith("rank ")).split()
    return float(words[1]), float(words[2]), int(words[3])


def measure_rank(num_steps: int) -> None:
    keep_freed_memory()
    with process_group("cpu") as ranks:
        model = make_model()
        network = data_parallel(model, ranks, torch.device("cpu"), example=torch.zeros(1, 3, SIDE, SIDE))
        counted = [0]

        def count(_: Any, bucket: Any) -> torch.futures.Future[torch.Tensor]:
            counted[0] += bucket.buffer().nbytes
            assert dist.group.WORLD is not None
            return default_hooks.allreduce_hook(dist.group.WORLD, bucket)

        if isinstance(network, DistributedDataParallel):
            network.register_comm_hook(None, count)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def whole_step() -> None:
            step(network, optimizer)
            ranks.average_buffers(model)

        whole_step()
        counted[0] = 0
        each = seconds(whole_step, num_steps)
        gradients = torch.zeros(sum(parameter.numel() for parameter in model.parameters()))
        exchange = seconds(lambda: ranks.sum(gradients), num_steps)
        buffers = (
            sum(buffer.nbytes for buffer in model.buffers() if buffer.is_floating_point()) if ranks.size > 1 else 0
        )
        if ranks.is_first:
            print("rank", each, exchange, counted[0] // (num_steps + 1) + buffers)


def make_model() -> Segmenter:
    torch.manual_seed(0)
    return build_model(MODEL, len(CLASSES), pretrained=False).to_device(torch.device("cpu"), channels_last=True)


def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    images = torch.zeros(PER_RANK, 3, SIDE, SIDE, dtype=torch.uint8)
    target = torch.zeros(PER_RANK, SIDE, SIDE, dtype=torch.long)
    network.train()
    torch.nn.functional.cross_entropy(network(images), target).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def samples_per_second() -> float:
    with tempfile.TemporaryDirectory() as folder:
        draw_data_set(Path(folder), num_train=8, num_val=1, size_hw=(375, 500))
        data = DataConfig(root=folder)
        recipe = build_augment(AugmentConfig(), canvas_hw=(512, 512), ignore_index=255)
        reader = build_mask_reader(data, resolve_classes(data))
        dataset = TrainingSet(list_items(data, "train"), reader, recipe, seed=0)
        import cv2

        cv2.setNumThreads(0)
        keys = iter(range(10**6))
        return 1 / seconds(lambda: dataset.draw((0, next(keys) % 8)), 200)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a call, after one that isn't counted."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


# ---- predicted


def extrapolate(gradient_bytes: int, flop_per_image: float) -> None:
    """Print the efficiency that follows for many GPUs: a ring all-reduce sends 2 (N - 1) / N of the gradients."""
    compute = GPU_BATCH * flop_per_image / GPU_RATE
    print("predicted, not measured")
    print(f"  assumed: {GPU_BATCH} images of {GPU_SIDE}x{GPU_SIDE} per GPU at {GPU_RATE / 1e12:.0f} TFLOP/s sustained,")
    print(
        f"  hence {1000 * compute:.0f} ms of compute per step, of which {100 * OVERLAP:.0f} % can hide communication; "
        "ring all-reduce in fp32,"
    )
    print(
        f"  {LATENCY * 1e6:.0f} us per hop; loading keeps up, for which a GPU needs {GPU_BATCH / compute:.0f} samples/s"
    )
    print(f"  {'link':34s}" + "".join(f"{count:>8d} GPUs" for count in NUM_GPUS))
    for link, speed in LINKS.items():
        for gradients, share in (("fp32", 1.0), ("bf16", 0.5)):
            shares = (efficiency(count, share * gradient_bytes / speed, compute) for count in NUM_GPUS)
            print(f"  {f'{link}, gradients in {gradients}':34s}" + "".join(f"{100 * part:11.0f} %" for part in shares))


def efficiency(num_gpus: int, transfer: float, compute: float) -> float:
    """Return the share of a step that computes, where sending all gradients once would take `transfer` seconds."""
    exchange = 2 * (num_gpus - 1) / num_gpus * transfer + 2 * (num_gpus - 1) * LATENCY
    exposed = max(0.0, exchange - OVERLAP * compute)
    return compute / (compute + exposed)


if __name__ == "__main__":
    sys.exit(main())
