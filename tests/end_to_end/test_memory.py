"""Memory stays bounded: it depends on the model and the images' size, not on how many there are."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.train import TrainResult

PROGRAM = """
import resource, sys
from segkit.cli import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
raise SystemExit(code)
"""


def peak_kib(*arguments: str) -> int:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout.split()[-1])


def write_data_set(root: Path, count: int) -> Path:
    """`count` labelled images of 320x240 in VOC layout, links to two files."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    first = root / "JPEGImages" / "0000.jpg", root / "SegmentationClass" / "0000.png"
    Image.fromarray(rng.integers(0, 256, (240, 320, 3), np.uint8)).save(first[0])
    Image.fromarray(rng.integers(0, 4, (240, 320), np.uint8)).save(first[1])
    for number in range(1, count):
        os.link(first[0], first[0].with_stem(f"{number:04d}"))
        os.link(first[1], first[1].with_stem(f"{number:04d}"))
    names = "".join(f"{number:04d}\n" for number in range(count))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names)
    return root


@pytest.mark.slow
def test_1000_images_take_as_much_memory_as_10(trained: TrainResult, tmp_path: Path) -> None:
    few, many = write_data_set(tmp_path / "few", 10), write_data_set(tmp_path / "many", 1000)
    best = str(trained.best)
    for command in ("eval", "predict"):
        peaks = []
        for root in (few, many):
            output = str(tmp_path / f"{command}_{root.name}")
            # by windows, which these images would get, a thousand take ten minutes
            source = [f"data.root={root}"] if command == "eval" else [str(root / "JPEGImages"), "--window", "off"]
            peaks.append(peak_kib(command, best, *source, "--output", output))
        assert peaks[1] < 1.1 * peaks[0], command
