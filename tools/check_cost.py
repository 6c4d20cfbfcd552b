"""Measure what `segkit check` costs: python tools/check_cost.py [DATA_SET ...] [--pictures 10000 40000]

For each data set the seconds of the whole command, medians of three. Then its peak memory on drawn sets of two sizes,
hence the memory that 1,000 images take; they are tiny, since what is kept does not depend on their size.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

CAMVID = Path(__file__).resolve().parents[2] / "shared/data/camvid"
NUM_CLASSES = 11


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data_sets", nargs="*", type=Path, default=[CAMVID])
    parser.add_argument("--pictures", nargs=2, type=int, default=[10000, 40000], help="sizes of the drawn sets")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for data_set in arguments.data_sets:
            runs = [check(data_set, Path(temporary))[0] for _ in range(3)]
            print(f"{data_set}: {statistics.median(runs):.1f} s ({min(runs):.1f}..{max(runs):.1f})")
        peaks = []
        for count in arguments.pictures:
            root = Path(temporary, str(count))
            draw(root, count)
            seconds, peak = check(root, Path(temporary))
            peaks.append(peak)
            print(f"{count} drawn images: {seconds:.0f} s, peak {peak / 2**20:.0f} MiB")
        fewer, more = arguments.pictures
        print(f"{(peaks[1] - peaks[0]) / 2**20 / (more - fewer) * 1000:.2f} MiB per 1,000 images")
    return 0


def check(data_set: Path, folder: Path) -> tuple[float, int]:
    """Run the command; return its seconds and its peak memory in bytes."""
    code = (
        "import resource, sys\nfrom segkit.cli import main\n"
        "code = main(sys.argv[1:])\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\nsys.exit(code)"
    )
    started = time.perf_counter()
    words = [sys.executable, "-c", code, "check", str(data_set), "--html", str(folder / "check.html")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started, int(done.stdout.splitlines()[-1])


def draw(root: Path, count: int) -> None:
    """Write a data set of different tiny images in VOC layout, nine tenths to train on."""
    names = [f"picture_{k:06d}" for k in range(count)]
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in names:
        image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
        mask = cv2.resize(rng.integers(0, NUM_CLASSES, (6, 8), np.uint8), (64, 48), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
        cv2.imwrite(str(root / "SegmentationClass" / f"{name}.png"), mask)
    num_train = count * 9 // 10
    for split, chosen in (("train", names[:num_train]), ("val", names[num_train:])):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(chosen))
    (root / "classes.txt").write_text("\n".join(f"class_{k}" for k in range(NUM_CLASSES)))


if __name__ == "__main__":
    sys.exit(main())
