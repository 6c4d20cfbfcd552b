"""Measure how much memory a huge image takes: python tools/huge.py [--sides 8000 12000 16000 20000] [--formats tif jpg]

Draws a square image of each size and format, predicts each in a process of its own (mask and overlay to files, windows
of 512x512, 11 classes, a small network of random weights) and prints its peak resident memory above that of the loaded
model, and its seconds. `--output` also keeps the figures as JSON, `--plot` draws them as a PNG. Linux only.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

GOAL_MIB = 1.5e9 / 2**20  # for 20,000 x 20,000
NUM_CLASSES = 11
WINDOW = (512, 512)
COLORS = {"tif": (180, 110, 30), "jpg": (40, 90, 220), "png": (60, 150, 60)}  # B, G, R


def main() -> int:
    """Measure all sizes and formats, or, as the child of that, predict one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", type=int, default=[8000, 12000, 16000, 20000], help="pixels")
    parser.add_argument("--formats", nargs="+", choices=COLORS, default=["tif", "jpg"])
    parser.add_argument("--encoder", default="tu-mobilenetv3_small_050", help="of lite_unet (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--plot", type=Path, help="PNG file")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(predict_one(arguments.one, arguments.encoder)))
        return 0
    rows = []
    print(f"{'format':6} {'pixels':>13} {'megapixel':>9} {'above the model':>15} {'model':>9} {'seconds':>8}")
    for form in arguments.formats:
        for side in arguments.sides:
            with tempfile.TemporaryDirectory(prefix="segkit-huge-") as folder:
                path = Path(folder, f"drawn.{form}")
                draw(path, side)
                words = [sys.executable, __file__, "--one", str(path), "--encoder", arguments.encoder]
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            row = {"format": form, "side": side, **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row)
            print(
                f"{form:6} {side:>6}x{side:<6} {side * side / 1e6:>9.0f} {row['above']:>11.0f} MiB "
                f"{row['model']:>5.0f} MiB {row['seconds']:>8.0f}",
                flush=True,
            )
            if arguments.output:
                arguments.output.write_text(json.dumps(rows, indent=2) + "\n")
            if arguments.plot:
                cv2.imwrite(str(arguments.plot), plot(rows))
    return 0


def predict_one(path: Path, encoder: str) -> dict[str, Any]:
    """Predict a file; return seconds, MiB of the process with its loaded model, and MiB that the peak was above it."""
    import torch

    from segkit.classes import Classes
    from segkit.config.schema import ModelConfig
    from segkit.imaging.overlay import overlay
    from segkit.inference.folding import for_inference
    from segkit.inference.torch_backend import TorchBackend
    from segkit.inference.windows import Windows
    from segkit.models.table import build_model
    from segkit.prediction.strips import predict_strips
    from segkit.runtime.machine import keep_freed_memory

    cv2.setNumThreads(0)
    keep_freed_memory()  # as `segkit predict` does
    classes = Classes.build([f"class {k}" for k in range(NUM_CLASSES)])
    torch.manual_seed(0)
    segmenter = build_model(ModelConfig("lite_unet", encoder, "none"), NUM_CLASSES)
    segmenter.to_device(torch.device("cpu"), channels_last=True)
    model = for_inference(segmenter, canvas_hw=(64, 64), precision=torch.float32)
    windows = Windows(TorchBackend(model, classes, WINDOW, torch.float32), WINDOW)
    loaded = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    started = time.perf_counter()
    render = functools.partial(overlay, classes=classes)
    written = predict_strips(windows, path, path.parent / "out", "drawn", render=render)
    seconds = time.perf_counter() - started
    assert sum(written.pixels) == written.hw[0] * written.hw[1]
    return {"seconds": seconds, "model": loaded, "above": memory("VmHWM") - loaded}


def memory(name: str) -> float:
    """Return a figure of this process's memory in MiB: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def draw(path: Path, side: int) -> None:
    """Write a square image: a drawn scene of 2000x2000, repeated; the TIFF in tiles, deflated, by rows of them."""
    from segkit.datasets.shapes import draw_scene

    scene, _ = draw_scene(np.random.default_rng(0), (2000, 2000))
    wide = np.tile(scene, (1, -(-side // 2000), 1))[:, :side]
    if path.suffix != ".tif":
        whole = np.tile(wide, (-(-side // 2000), 1, 1))[:side]
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        assert cv2.imwrite(str(path), whole, quality)
        return
    import rasterio
    from rasterio.transform import Affine
    from rasterio.windows import Window

    form = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "ZLEVEL": 1}
    place = {"crs": "EPSG:32632", "transform": Affine(0.1, 0, 500_000.0, 0, -0.1, 5_400_000.0)}
    with rasterio.open(path, "w", **form, **tiles, **place, BIGTIFF="IF_SAFER") as dataset:
        for top in range(0, side, 512):
            rows = min(512, side - top)
            part = wide.take(np.arange(top, top + rows), axis=0, mode="wrap")
            dataset.write(part.transpose(2, 0, 1), window=Window(0, top, side, rows))


def plot(rows: list[dict[str, Any]]) -> np.ndarray:
    """Draw peak memory against image size, a line for each format, and the goal: uint8 BGR [H, W, 3]."""
    height, width, left, bottom = 420, 720, 80, 50
    canvas = np.full((height, width, 3), 255, np.uint8)
    most_x, most_y = max(row["side"] ** 2 / 1e6 for row in rows) * 1.1, max(GOAL_MIB, *(row["above"] for row in rows))
    grey, font = (90, 90, 90), cv2.FONT_HERSHEY_SIMPLEX

    def at(megapixel: float, mib: float) -> tuple[int, int]:
        x, y = megapixel / most_x, mib / (1.15 * most_y)
        return round(left + x * (width - left - 20)), round(height - bottom - y * (height - bottom - 20))

    def text(words: str, position: tuple[int, int], color: tuple[int, int, int] = grey) -> None:
        cv2.putText(canvas, words, position, font, 0.45, color, 1, cv2.LINE_AA)

    cv2.line(canvas, at(0, 0), at(most_x, 0), grey, 1, cv2.LINE_AA)
    cv2.line(canvas, at(0, 0), at(0, 1.15 * most_y), grey, 1, cv2.LINE_AA)
    for mib in range(0, int(1.15 * most_y), 250):
        x, y = at(0, mib)
        text(f"{mib:>5}", (x - 55, y + 5))
        cv2.line(canvas, (x - 4, y), (x, y), grey, 1)
    for side in sorted({row["side"] for row in rows}):
        x, y = at(side**2 / 1e6, 0)
        text(f"{side * side / 1e6:.0f}", (x - 12, y + 20))
        cv2.line(canvas, (x, y), (x, y + 4), grey, 1)
    text("megapixel", (width // 2, height - 8))
    text("peak memory above the loaded model, MiB", (left + 10, 18))
    cv2.line(canvas, at(0, GOAL_MIB), at(most_x, GOAL_MIB), (150, 150, 150), 1)
    text("goal for 400 megapixel: 1.5 GB", (left + 10, at(0, GOAL_MIB)[1] - 6))
    for form in dict.fromkeys(row["format"] for row in rows):
        points = sorted((row["side"] ** 2 / 1e6, row["above"]) for row in rows if row["format"] == form)
        places = [at(*point) for point in points]
        cv2.polylines(canvas, [np.array(places)], False, COLORS[form], 2, cv2.LINE_AA)
        for place in places:
            cv2.circle(canvas, place, 4, COLORS[form], -1, cv2.LINE_AA)
        text(form, (places[-1][0] + 8, places[-1][1] + 5), COLORS[form])
    return canvas


if __name__ == "__main__":
    sys.exit(main())
