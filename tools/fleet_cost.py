"""What a million predicted images cost: measures the parts on this machine, and extrapolates with the reader's prices.

    OMP_NUM_THREADS=1 python tools/fleet_cost.py CHECKPOINT IMAGES --core-hour 0.0425 --get 0.0004 --put 0.005

Times are CPU seconds of one thread (what other programs do on the machine matters little), medians over rounds. What is
said of 10^8 images is arithmetic on these, and printed apart. docs/fleets.md quotes a run of this program.
Prices are per core and hour, and per 1,000 requests.
"""

import argparse
import contextlib
import functools
import gc
import importlib
import importlib.util
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch

from segkit.datasets.images import read_image
from segkit.datasets.masks import write_mask
from segkit.inference.predictor import Predictor
from segkit.predict import predict
from segkit.prediction.fleet import BLOCK, Fleet
from segkit.prediction.job import prepare
from segkit.prediction.names import output_names
from segkit.prediction.outputs import Prediction
from segkit.prediction.rows import Predicted
from segkit.prediction.table import build_outputs
from segkit.runtime.machine import cpu_field, keep_freed_memory, resident_memory, usable_cores

NUM_BLOCKS = 100  # that a fleet hands out
LISTED = 200_000  # images whose names and rows are held in memory, to see what each takes
MILLION = 10**6
HUNDRED_MILLION = 10**8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="a folder")
    parser.add_argument("--count", type=int, default=48, help="images to measure on (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="default: %(default)s")
    parser.add_argument("--core-hour", type=float, required=True, metavar="PRICE", help="of a core for an hour")
    parser.add_argument("--get", type=float, required=True, metavar="PRICE", help="of 1,000 GET or HEAD requests")
    parser.add_argument("--put", type=float, required=True, metavar="PRICE", help="of 1,000 PUT, COPY or LIST requests")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    predictor = Predictor.load(arguments.checkpoint, device="cpu", precision=arguments.precision)
    paths = sorted(path for path in arguments.images.iterdir() if path.suffix in (".jpg", ".png"))[: arguments.count]
    print(f"{cpu_field('model name')}, {usable_cores()} cores, one thread; torch {torch.__version__}, ", end="")
    print(f"{time.strftime('%Y-%m-%d')}, {len(paths)} images, median of {arguments.rounds} rounds\n")
    stages, masks = measure_stages(predictor, paths, arguments.rounds)
    measure_encodings(masks, predictor, arguments.rounds)
    requests, whole, sizes = measure_job(predictor, paths, arguments.rounds)
    per_name = measure_driver(len(predictor.classes))
    show_stages(stages, whole)
    measure_fleet(arguments.checkpoint)
    extrapolate(whole, requests, sizes, per_name, arguments)
    return 0


# ---- measured


def measure_stages(
    predictor: Predictor, paths: list[Path], rounds: int
) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """Return CPU seconds per image of each stage, a figure per round, and the masks."""
    spent: dict[str, list[float]] = {}
    masks: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        overlays, written = build_outputs(Path(folder), predictor.classes, ["overlays"])
        for number in range(rounds + 1):  # the first one warms up
            total: Counter[str] = Counter()
            masks.clear()

            def timed(name: str, work: Callable[..., Any], *given: Any, total: Counter[str] = total) -> Any:
                started = time.process_time()
                result = work(*given)
                total[name] += time.process_time() - started  # type: ignore[assignment]
                return result

            for path in paths:
                image = timed("decode", read_image, path)
                box, canvas = timed("letterbox", predictor.letterbox, image)
                logits = timed("network", predictor.canvas_logits, canvas)
                segmentation = predictor.segmentation(logits, box)
                masks.append(timed("argmax at the image's size", getattr, segmentation, "mask"))
                prediction = Prediction(path.stem, path, image, segmentation)
                timed("mask PNG, written", written.write, prediction)
                timed("overlay JPEG, written", overlays.write, prediction)
            if number:
                for name, seconds in total.items():
                    spent.setdefault(name, []).append(seconds / len(paths))
    return spent, masks


def measure_encodings(masks: list[np.ndarray], predictor: Predictor, rounds: int) -> None:
    """Print bytes and CPU milliseconds per mask of several encodings."""

    def png(mask: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        write_mask(buffer, mask, predictor.classes)
        return buffer.getvalue()

    def unpng(data: bytes) -> np.ndarray:
        from PIL import Image

        return np.array(Image.open(io.BytesIO(data)))

    def arrays(compress: Callable[[bytes], bytes]) -> Callable[[np.ndarray], bytes]:
        return lambda mask: compress(mask.tobytes())

    ways: dict[str, tuple[Callable[[np.ndarray], bytes], Callable[[bytes], object]]] = {
        "palette PNG, level 1 (segkit's)": (png, unpng),
        "array, zlib 6 (numpy's npz)": (arrays(lambda data: zlib.compress(data, 6)), zlib.decompress),
    }
    try:
        lz4, zstandard = importlib.import_module("lz4.frame"), importlib.import_module("zstandard")
    except ImportError:
        print("lz4, zstd: not measured; pip install lz4 zstandard")
    else:
        ways["array, lz4"] = arrays(lz4.compress), lz4.decompress
        for level in (1, 3, 9):
            packer, unpacker = zstandard.ZstdCompressor(level), zstandard.ZstdDecompressor()
            ways[f"array, zstd {level}"] = arrays(packer.compress), unpacker.decompress
    print(f"{'a mask of ' + 'x'.join(map(str, masks[0].shape[::-1])):34s}{'bytes':>8s}{'encode':>11s}{'decode':>11s}")
    for name, (pack, unpack) in ways.items():
        packed = [pack(mask) for mask in masks]
        size = statistics.mean(map(len, packed))
        times = [
            statistics.median(cpu_ms(partial(_each, work, given)) for _ in range(rounds))
            for work, given in ((pack, masks), (unpack, packed))
        ]
        print(f"{name:34s}{size:8.0f}" + "".join(f"{each / len(masks):8.3f} ms" for each in times))
    print()


def measure_job(predictor: Predictor, paths: list[Path], rounds: int) -> tuple[Counter[str], float, Counter[str]]:
    """Return what a job does per image: file operations by kind, CPU seconds, and bytes of its files."""
    taken: list[float] = []
    sizes: Counter[str] = Counter({"images": sum(path.stat().st_size for path in paths) // len(paths)})
    for number in range(rounds + 1):  # the first one warms up
        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder) / "in", Path(folder) / "out"
            source.mkdir()
            for path in paths:
                shutil.copy(path, source)
            operations: Counter[str] = Counter()
            with counted(operations, source, output) if number == 0 else contextlib.nullcontext():
                started = time.process_time()
                job = prepare(str(source), output)
                predict(predictor, job, build_outputs(output, predictor.classes, ["overlays"]))
                seconds = (time.process_time() - started) / len(paths)
            if number:
                taken.append(seconds)
            else:
                seen = operations
            for name in ("masks", "overlays"):
                sizes[name] = sum(file.stat().st_size for file in (output / name).iterdir()) // len(paths)
    return Counter({name: round(number / len(paths)) for name, number in seen.items()}), statistics.median(taken), sizes


@contextlib.contextmanager
def counted(operations: Counter[str], source: Path, output: Path) -> Iterator[None]:
    """Count what is done with files below two folders: reads, writes, renames, and questions whether they exist."""
    watching = True

    def note(event: str, given: tuple[Any, ...]) -> None:
        if not (watching and given and isinstance(given[0], (str, bytes, os.PathLike))):
            return
        name = Path(os.fsdecode(given[0]))
        if event == "open" and source in name.parents:
            operations["read an image"] += 1
        elif event == "stat" and source in name.parents:
            operations["ask for an image"] += 1
        elif event in ("open", "os.rename", "os.mkdir", "stat") and {output / "masks", output / "overlays"} & {
            name,
            *name.parents,
        }:
            kind = {"os.rename": "rename an output", "os.mkdir": "make its folder", "stat": "ask for an output"}
            operations[kind.get(event, "write an output")] += 1

    originals = os.stat, os.lstat
    sys.addaudithook(note)

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def ask(path: Any, *words: Any, **named: Any) -> Any:
            note("stat", (path,))
            return original(path, *words, **named)

        return ask

    os.stat, os.lstat = map(noting, originals)
    try:
        yield
    finally:
        os.stat, os.lstat = originals
        watching = False  # an audit hook stays to the end of the process


def measure_driver(num_classes: int) -> tuple[float, float]:
    """Return bytes and CPU seconds per image of the driver's list of paths, names and rows."""
    gc.collect()
    before, started = resident_memory(), time.process_time()
    paths = [Path(f"/data/images/{k // 1000:06d}/{k:09d}.jpg") for k in range(LISTED)]
    names = output_names([path.relative_to("/data/images") for path in paths])
    rows = {name: Predicted(str(path), (360, 480), tuple(range(1000, 1000 + num_classes)), 0.1)
            for name, path in zip(names, paths, strict=True)}  # fmt: skip
    seconds, size = time.process_time() - started, resident_memory() - before
    assert len(rows) == LISTED
    return size / LISTED, seconds / LISTED


def measure_fleet(checkpoint: Path) -> None:
    """Print what it costs the driver to hand out blocks and to take their rows, whatever is in them.

    The images don't exist, so each becomes a row at once, and nothing else takes time.
    """
    if importlib.util.find_spec("ray") is None:
        print("handing out: not measured; pip install 'segkit[ray]'\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        load = functools.partial(Predictor.load, checkpoint.absolute(), device="cpu")
        fleet = Fleet(load, [], Path(folder), MILLION, workers=1)
        run = fleet.run([(Path(folder) / f"{k}.jpg", str(k)) for k in range(NUM_BLOCKS * BLOCK)])
        next(run)  # Ray and the actor have started
        cpu, wall = time.process_time(), time.perf_counter()
        last = cpu, wall
        for _ in run:
            last = time.process_time(), time.perf_counter()
        cpu, wall = last[0] - cpu, last[1] - wall
    each = NUM_BLOCKS - 1
    print(f"handing out, a block of {BLOCK} images: driver {1000 * cpu / each:.0f} ms of CPU, ", end="")
    print(f"{1000 * wall / each:.0f} ms by the clock\n")


def _each(work: Callable[[Any], Any], given: Sequence[Any]) -> None:
    for one in given:
        work(one)


def cpu_ms(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def show_stages(stages: dict[str, list[float]], whole: float) -> None:
    print(f"{'stage':34s}{'CPU ms an image':>18s}{'from':>8s}{'to':>8s}{'images/s per core':>20s}")
    for name, rounds in stages.items():
        middle = statistics.median(rounds)
        print(f"{name:34s}{1000 * middle:18.2f}{1000 * min(rounds):8.2f}{1000 * max(rounds):8.2f}{1 / middle:20.0f}")
    total = sum(statistics.median(rounds) for rounds in stages.values())
    print(f"{'sum':34s}{1000 * total:18.2f}{'':16s}{1 / total:20.1f}")
    print(f"{'a job, rows and threads included':34s}{1000 * whole:18.2f}{'':16s}{1 / whole:20.1f}\n")


# ---- predicted


def extrapolate(
    core_seconds: float, requests: Counter[str], sizes: Counter[str], driver: tuple[float, float], prices: Any
) -> None:
    """Print what follows for many images: every core is busy, and a file operation is a request."""
    gets = requests["read an image"] + requests["ask for an image"] + requests["ask for an output"]
    puts = requests["write an output"]
    renames = requests["rename an output"]
    print("measured, per image: " + ", ".join(f"{name} {number}x" for name, number in requests.items()))
    print(f"  bytes: image {sizes['images']}, mask {sizes['masks']}, overlay {sizes['overlays']}")
    print(f"  the driver: {driver[0]:.0f} bytes of memory, {1e6 * driver[1]:.0f} us of CPU for paths, names and rows\n")
    print("predicted, not measured")
    print(
        f"  assumed: {prices.core_hour} per core and hour; per 1,000 requests {prices.get} (GET, HEAD), "
        f"{prices.put} (PUT)"
    )
    compute = core_seconds * MILLION / 3600 * prices.core_hour
    reading, writing = gets * MILLION / 1000 * prices.get, puts * MILLION / 1000 * prices.put
    renaming = renames * MILLION / 1000 * prices.put
    print(
        f"  a million images: {core_seconds * MILLION / 3600:.1f} core-hours = {compute:.2f}, GET {reading:.2f}, ",
        end="",
    )
    print(f"PUT {writing:.2f}, together {compute + reading + writing:.2f}")
    print(f"  with renames that are COPY requests, as a mounted bucket makes them: + {renaming:.2f}")
    hours = core_seconds * HUNDRED_MILLION / 3600
    print(f"  10^8 images: {hours:.0f} core-hours, {hours / 1000:.1f} hours on 1,000 cores; ", end="")
    print(f"then {1000 / core_seconds:.0f} images/s, ", end="")
    print(f"{gets * 1000 / core_seconds:.0f} GET and HEAD, {puts * 1000 / core_seconds:.0f} PUT a second,")
    print(f"  {sizes['images'] * 1000 / core_seconds / 1e6:.0f} MB/s read; ", end="")
    print(f"{(sizes['masks'] + sizes['overlays']) * HUNDRED_MILLION / 1e12:.1f} TB written; ", end="")
    print(f"one driver would need {driver[0] * HUNDRED_MILLION / 1e9:.0f} GB for its list")


if __name__ == "__main__":
    sys.exit(main())
