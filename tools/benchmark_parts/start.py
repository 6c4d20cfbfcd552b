"""How soon the command answers."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmark_parts.timing import Comparison, Variant


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
        )
    ]


def cpu_seconds_of_children() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system
