"""Measure segkit beside what people use instead: python tools/benchmark.py [PART]

All in one run: each round times every variant once, in rotation, so that noise disturbs them alike. A table shows
medians with min..max, and the ratio of the first row's median, the usual implementation, to each. What should be equal
is compared before anything is timed. The others' implementations are in tools/peers.py; libraries are used as they
install: uv run --group benchmark python tools/benchmark.py
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import peers
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from segkit.classes import Classes
from segkit.config.schema import AugmentConfig, DataConfig, ModelConfig, OptimConfig
from segkit.datasets.layouts import Item
from segkit.datasets.masks import build_mask_reader, write_mask
from segkit.datasets.shapes import SHAPE_CLASSES, draw_scene
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.evaluate import evaluate
from segkit.imaging.letterbox import LetterBox
from segkit.inference.folding import for_inference
from segkit.inference.predictor import Predictor
from segkit.inference.torch_backend import TorchBackend
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.cache import PixelCache
from segkit.loading.evaluation_set import EvaluationSet
from segkit.loading.loader import evaluation_batches, training_batches
from segkit.loading.training_set import TrainingSet
from segkit.losses.cross_entropy import cross_entropy, focal
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.predict import predict_files
from segkit.runtime.device import autocast, describe_environment, select_device, select_precision
from segkit.training.optim import build_optimizer

NUM_CLASSES = 21
CANVAS = (512, 512)
VOC = Path(__file__).resolve().parents[2] / "shared/data/voc2012_sample"


@dataclass(frozen=True)
class Variant:
    """One way to do a thing: `run` does it `per` times and is timed; `prepare` goes before and is not."""

    run: Callable[[], Any]
    per: int = 1
    clock: Callable[[], float] = time.perf_counter
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Comparison:
    """Variants of one thing, the usual one first, and remarks that stand below their table."""

    title: str
    variants: dict[str, Variant]
    remarks: Sequence[str] = ()
    rounds: int = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--rounds", type=int, help="how often each variant is timed (default: what a part needs)")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="JSON file (default: %(default)s)")
    arguments = parser.parse_args()
    device = select_device("auto")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="segkit-benchmark-") as folder:
        for part in PARTS if arguments.part == "all" else []:
            results.update(run_alone(part, arguments, Path(folder)))
        for comparison in PARTS[arguments.part](device, Path(folder)) if arguments.part != "all" else []:
            times = interleave(comparison.variants, rounds=arguments.rounds or comparison.rounds, device=device)
            print(f"\n{comparison.title}\n{table(times)}", *(f"\n  {line}" for line in comparison.remarks), flush=True)
            results[comparison.title] = {
                "milliseconds": {name: sorted(1e3 * t for t in values) for name, values in times.items()},
                "remarks": list(comparison.remarks),
            }
    content = {"environment": describe_environment(device), "results": results}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{device}, {torch.get_num_threads()} threads; written: {arguments.output}")
    return 0


def run_alone(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure a part in a process of its own, so that no part's threads and memory settings reach another."""
    output = folder / f"{part}.json"
    rounds = ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    subprocess.run([sys.executable, __file__, part, *rounds, "--output", str(output)], check=True)
    results: dict[str, Any] = json.loads(output.read_text())["results"]
    return results


def interleave(variants: dict[str, Variant], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Time every variant once per round, in rotation: {name: seconds per unit}. One round before does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            variant = variants[name]
            variant.prepare()
            started = variant.clock()
            variant.run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                times[name].append((variant.clock() - started) / variant.per)
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


def has(*packages: str) -> bool:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        print(f"{', '.join(missing)}: not installed, left out (uv run --group benchmark ...)")
    return not missing


# ---- data: 500x375 JPEG and palette PNG, full training augmentation to 512x512, batches of 4


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


def write_voc_like(folder: Path, *, count: int) -> list[peers.Pair]:
    """Write pairs of 500x375: pictures of the VOC sample where it is at hand, drawn ones elsewhere."""
    folder.mkdir()
    classes = Classes.build([f"class {k}" for k in range(NUM_CLASSES)])
    rng = np.random.default_rng(0)
    samples = sorted((VOC / "JPEGImages").glob("*.jpg"))
    pairs = []
    for number in range(count):
        if samples:
            path = samples[number % len(samples)]
            image = np.array(Image.open(path).convert("RGB").resize((500, 375)))
            label = Image.open(VOC / "SegmentationClass" / f"{path.stem}.png")
            mask = np.array(label.resize((500, 375), Image.Resampling.NEAREST))
        else:
            image, mask = draw_scene(rng, (375, 500))
        pair = folder / f"{number:03d}.jpg", folder / f"{number:03d}.png"
        Image.fromarray(image).save(pair[0], quality=95)
        write_mask(pair[1], mask, classes)
        pairs.append(pair)
    return pairs


def forever(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


class Endless:
    """Indices of batches of 4, without an end, so that no epoch's start is timed."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(0)
        while True:
            yield rng.integers(0, self.length, 4).tolist()


def library_stream(dataset: Any, workers: int, collate: Any = None) -> Iterator[Any]:
    loader = DataLoader(dataset, batch_sampler=Endless(len(dataset)), num_workers=workers, collate_fn=collate)  # type: ignore[arg-type]
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


# ---- losses: forward and backward over logits 4x21x512x512


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


def peak_memory(run: Callable[[], Any]) -> int:
    """Return the most bytes of tensors alive at a time that `run` makes, its result included."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max())


# ---- confusion matrix: one picture of 500x375, 21 classes, from uint8 masks


def metric_part(device: torch.device, folder: Path) -> list[Comparison]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, NUM_CLASSES, (375, 500), np.uint8)
    target[rng.random(target.shape) < 0.05] = 255
    prediction = np.where(rng.random(target.shape) < 0.8, target, rng.integers(0, NUM_CLASSES, target.shape))
    prediction = np.where(target == 255, 0, prediction).astype(np.uint8)

    def ours() -> np.ndarray:
        matrix = ConfusionMatrix(NUM_CLASSES)
        matrix.update(prediction, target)
        return matrix.counts

    runs: dict[str, Callable[[], np.ndarray]] = {
        "usual: mask, int64, numpy bincount": lambda: peers.usual_confusion(target, prediction, NUM_CLASSES),
        "segkit": ours,
    }
    if has("torchmetrics"):
        from torchmetrics.classification import MulticlassConfusionMatrix

        library = MulticlassConfusionMatrix(num_classes=NUM_CLASSES, ignore_index=255)
        tensors = torch.from_numpy(prediction).long(), torch.from_numpy(target).long()
        runs["torchmetrics"] = lambda: (library.reset(), library.update(*tensors), library.compute().numpy())[2]
    for name, run in runs.items():
        assert np.array_equal(run(), runs["usual: mask, int64, numpy bincount"]()), name
    variants = {name: Variant(lambda run=run: [run() for _ in range(20)], per=20) for name, run in runs.items()}
    return [Comparison("confusion matrix, 500x375, 21 classes, per picture", variants, rounds=31)]


# ---- prediction: the network, the way back to the original size, and everything around


def predict_part(device: torch.device, folder: Path) -> list[Comparison]:
    comparisons = [inference_comparison(device), *map(way_back_comparison, ((375, 500), (1440, 1920)))]
    pairs = write_voc_like(folder / "predict", count=60)
    logits = smooth_logits(CANVAS)
    colors = np.array(Classes.build([f"class {k}" for k in range(NUM_CLASSES)]).palette(), np.uint8).reshape(-1, 3)
    (folder / "usual").mkdir()
    pictures = folder / "pictures"
    pictures.mkdir()
    for path, _ in pairs:
        os.link(path, pictures / path.name)
    predictor = fixed_predictor(logits)

    def usual() -> None:
        for path, _ in pairs:
            peers.usual_predict(path, lambda _: logits[None], folder / "usual", colors, CANVAS)

    def ours() -> None:
        rows = predict_files(predictor, str(pictures), folder / "ours", overwrite=True)
        assert not any(row.error for row in rows)

    variants = {
        "usual: PIL, two PNGs": Variant(usual, per=len(pairs)),
        "segkit: palette PNG and JPEG overlay": Variant(ours, per=len(pairs)),
    }
    title = "prediction beyond the forward pass, 500x375, decode to saved mask and overlay, per picture"
    return [*comparisons, Comparison(title, variants, rounds=7)]


class Fixed(nn.Module):
    """A network that takes no time: the same logits for every picture, in the memory order of a real one's."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.register_buffer("logits", logits[None].to(memory_format=torch.channels_last))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1, -1, -1)


def fixed_segmenter(logits: torch.Tensor) -> Segmenter:
    return Segmenter(Fixed(logits), stride=32, mean=peers.MEAN.tolist(), std=peers.STD.tolist())


def fixed_predictor(logits: torch.Tensor) -> Predictor:
    classes = Classes.build([f"class {k}" for k in range(NUM_CLASSES)])
    segmenter = fixed_segmenter(logits).to_device(torch.device("cpu"), channels_last=True)
    ready = for_inference(segmenter, canvas_hw=CANVAS, precision=torch.float32)
    return Predictor(TorchBackend(ready, classes, CANVAS, torch.float32))


def smooth_logits(size_hw: tuple[int, int]) -> torch.Tensor:
    """Logits float32 [21, H, W] of blobs, as a trained network gives: few pixels lie between classes."""
    coarse = 4 * torch.randn(1, NUM_CLASSES, 12, 12, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size_hw, mode="bicubic")[0].contiguous()


def way_back_comparison(size_hw: tuple[int, int]) -> Comparison:
    box, logits = LetterBox.fit(size_hw, CANVAS), smooth_logits(CANVAS)
    narrow = (box.top, box.left, *box.inner_hw)
    last = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    expected = box.invert(logits).argmax(dim=0).numpy()
    agree = {name: (box.mask(x) == expected).mean() for name, x in (("NCHW", logits), ("channels_last", last))}
    assert min(agree.values()) >= 0.998, agree
    usual = (peers.usual_mask(logits, narrow, size_hw) == expected).mean()
    return Comparison(
        f"back to {size_hw[1]}x{size_hw[0]} and argmax, 21 classes",
        {
            "usual: softmax, resize, argmax": Variant(lambda: peers.usual_mask(logits, narrow, size_hw)),
            "segkit, NCHW logits": Variant(lambda: box.mask(logits)),
            "segkit, channels_last logits": Variant(lambda: box.mask(last)),
        },
        [
            "equal to interpolating logits, then argmax: "
            + ", ".join(f"{100 * share:.4f} % of pixels ({name})" for name, share in {"usual": usual, **agree}.items())
        ],
    )


def inference_comparison(device: torch.device) -> Comparison:
    """A network trained for a moment, so that its classes are no coin tosses, in fp32 and made ready for inference."""
    config = ModelConfig(encoder="resnet34", pretrained="none")
    segmenter = build_model(config, len(SHAPE_CLASSES)).to_device(device, channels_last=True).train()
    precision = select_precision("auto", device)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-3)
    for _ in range(60):
        images, masks = zip(*(draw_scene(rng, (128, 128)) for _ in range(8)), strict=True)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device)
        with autocast(device, precision):
            logits = segmenter(pixels)
        cross_entropy(logits, torch.from_numpy(np.stack(masks)).to(device)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    plain = segmenter.eval()
    picture = torch.from_numpy(draw_scene(rng, CANVAS)[0]).permute(2, 0, 1)[None].to(device)
    normalised = ((picture - plain.mean) / plain.std).contiguous()
    folded = for_inference(plain.to_device(device, channels_last=True), canvas_hw=CANVAS, precision=precision)
    ready = TorchBackend(folded, Classes.build(SHAPE_CLASSES), CANVAS, precision)
    reference = build_model(config, len(SHAPE_CLASSES)).eval().to(device).network
    reference.load_state_dict(plain.network.state_dict())

    def eager() -> torch.Tensor:
        with torch.no_grad():
            return reference(normalised)

    def ours() -> torch.Tensor:
        return ready(picture)

    pictures = [torch.from_numpy(draw_scene(rng, CANVAS)[0]).permute(2, 0, 1)[None].to(device) for _ in range(8)]
    with torch.no_grad():
        truth = [reference(((x - plain.mean) / plain.std).contiguous()).argmax(1) for x in pictures]
    agreement = [(ready(x).argmax(1) == y).float().mean().item()
                 for x, y in zip(pictures, truth, strict=True)]  # fmt: skip
    assert min(agreement) >= 0.99, agreement
    return Comparison(
        "inference, smp Unet resnet34, 512x512, batch 1",
        {"usual: eager fp32, no_grad": Variant(eager), f"segkit: folded, channels_last, {precision}": Variant(ours)},
        [f"argmax agreement on 8 held-out pictures: {100 * min(agreement):.2f}..{100 * max(agreement):.2f} %"],
    )


# ---- evaluation beyond the forward pass


def evaluate_part(device: torch.device, folder: Path) -> list[Comparison]:
    pairs = write_voc_like(folder / "evaluate", count=60)
    logits = smooth_logits(CANVAS)
    classes = Classes.build([f"class {k}" for k in range(NUM_CLASSES)])
    reader = build_mask_reader(DataConfig(), classes)
    dataset = EvaluationSet([Item(i.stem, i, m) for i, m in pairs], reader, canvas_hw=CANVAS)
    segmenter = fixed_segmenter(logits).eval().to_device(device, channels_last=True)
    model = TorchBackend(segmenter, classes, CANVAS, torch.float32)
    written = folder / "written"
    written.mkdir()

    def usual() -> np.ndarray:
        return peers.usual_evaluate(pairs, lambda _: logits[None], written, CANVAS, NUM_CLASSES)

    def ours() -> np.ndarray:
        batches = evaluation_batches(dataset, batch_size=8, workers=2)
        return evaluate(model, batches, classes=classes).scores.counts

    difference = 100 * np.abs(usual() - ours()).sum() / 2 / ours().sum()
    assert difference < 0.2, difference
    return [
        Comparison(
            "evaluation beyond the forward pass, 500x375, per picture",
            {"usual: PNG written, read, counted": Variant(usual, per=60), "segkit": Variant(ours, per=60)},
            [f"pixels counted otherwise (the usual way resizes probabilities): {difference:.3f} %"],
            rounds=7,
        )
    ]


# ---- training step: forward, cross-entropy, backward, AdamW; batch 4 of 256x256, 21 classes


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


# ---- how soon the command answers


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


PARTS: dict[str, Callable[[torch.device, Path], list[Comparison]]] = {
    "data": data_part,
    "loss": loss_part,
    "metric": metric_part,
    "predict": predict_part,
    "evaluate": evaluate_part,
    "train": train_part,
    "start": start_part,
}

if __name__ == "__main__":
    cv2.setNumThreads(0)
    sys.exit(main())
