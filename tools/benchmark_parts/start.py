"""How soon a command answers, and how soon a checkpoint gives its first mask."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmark_parts.timing import Comparison, Variant
from segkit.classes import Classes
from segkit.config.schema import DataConfig, ModelConfig, RunConfig
from segkit.models.checkpoint import Checkpoint
from segkit.models.table import build_model

CLASSES = Classes.build([f"class {k}" for k in range(11)])
IMAGE_HW = (360, 480)


def start_part(device: torch.device, folder: Path) -> list[Comparison]:
    typo = folder / "typo.yaml"
    typo.write_text("train:\n  epoch: 3\n")

    def answers(code: int, words: str, *command: str) -> Variant:
        def run() -> None:
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
            assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done.stderr

        return Variant(run, clock=cpu_seconds_of_children)

    return [
        Comparison(
            "how soon a command answers, CPU time",
            {
                "usual: import torch, torchvision, smp": answers(
                    0, "", "-c", "import torch, torchvision, segmentation_models_pytorch"
                ),
                "segkit --help": answers(0, "usage: segkit", "-m", "segkit.cli", "--help"),
                "segkit train with a typo": answers(2, "did you mean", "-m", "segkit.cli", "train", str(typo)),
            },
            rounds=5,
        ),
        *first_mask(folder),
    ]


def first_mask(folder: Path) -> list[Comparison]:
    """Predict one image from a checkpoint, beside importing what its network is built of, which anyone must."""
    config = RunConfig(model=ModelConfig("lite_unet", "tu-tf_efficientnet_lite0"), data=DataConfig("", canvas=IMAGE_HW))
    weights = build_model(config.model, len(CLASSES), pretrained=False).state_dict()
    Checkpoint(weights, config, CLASSES).save(folder / "best.pt")
    noise = np.random.default_rng(0).integers(0, 256, (*IMAGE_HW, 3), np.uint8)
    cv2.imwrite(str(folder / "image.jpg"), cv2.GaussianBlur(noise, (0, 0), 3))
    output = folder / "predictions"

    def process(*command: str) -> Callable[[], float]:
        def run() -> float:
            """Return the most MiB that the process had in memory."""
            child = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            assert child.returncode == 0, command
            return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

        return run

    runs = {
        "usual: import torch, timm, no more": process("-c", "import torch, timm"),
        "segkit predict": process(
            "-m", "segkit.cli", "predict", str(folder / "best.pt"), str(folder / "image.jpg"),
            "--output", str(output), "--device", "cpu",
        ),
    }  # fmt: skip
    peaks = [f"peak memory: {runs[name]():.0f} MiB ({name})" for name in runs]

    def variants(clock: Callable[[], float]) -> dict[str, Variant]:
        return {
            name: Variant(run, clock=clock, prepare=lambda: shutil.rmtree(output, ignore_errors=True))
            for name, run in runs.items()
        }

    title = "first mask of a checkpoint, 480x360, a process each"
    return [
        Comparison(f"{title}: wall time", variants(time.perf_counter), peaks, rounds=5),
        Comparison(f"{title}: CPU time", variants(cpu_seconds_of_children), rounds=5),
    ]


def cpu_seconds_of_children() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system
