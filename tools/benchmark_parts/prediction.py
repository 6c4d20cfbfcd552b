"""The network, the way back to the original size, and everything around both: prediction, evaluation beyond the
forward pass, and the confusion matrix of one image of 500x375, 21 classes, from uint8 masks.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers
import torch

from benchmark_parts.inputs import CANVAS, NUM_CLASSES, fixed_predictor, fixed_segmenter, smooth_logits, write_voc_like
from benchmark_parts.timing import Comparison, Variant, has
from segkit.classes import Classes
from segkit.config.schema import DataConfig, ModelConfig
from segkit.datasets.layouts import Item
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.shapes import SHAPE_CLASSES, draw_scene
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.evaluate import Evaluation, evaluate
from segkit.evaluation.families import build_families
from segkit.evaluation.measurement import Measurement
from segkit.imaging.letterbox import LetterBox
from segkit.inference.folding import for_inference
from segkit.inference.torch_backend import TorchBackend
from segkit.loading.evaluation_set import EvaluationSet, evaluation_batches
from segkit.losses.cross_entropy import cross_entropy
from segkit.models.table import build_model
from segkit.predict import predict_files
from segkit.runtime.device import autocast, select_precision


def predict_part(device: torch.device, folder: Path) -> list[Comparison]:
    comparisons = [inference_comparison(device), *map(way_back_comparison, ((375, 500), (1440, 1920)))]
    pairs = write_voc_like(folder / "predict", count=60)
    logits = smooth_logits(CANVAS)
    colors = np.array(Classes.build([f"class {k}" for k in range(NUM_CLASSES)]).palette(), np.uint8).reshape(-1, 3)
    (folder / "usual").mkdir()
    images = folder / "images"
    images.mkdir()
    for path, _ in pairs:
        os.link(path, images / path.name)
    predictor = fixed_predictor(logits)

    def usual() -> None:
        for path, _ in pairs:
            peers.usual_predict(path, lambda _: logits[None], folder / "usual", colors, CANVAS)

    def ours() -> None:
        rows = predict_files(predictor, str(images), folder / "ours", overwrite=True)
        assert not any(row.error for row in rows)

    variants = {
        "usual: PIL, two PNGs": Variant(usual, per=len(pairs)),
        "segkit: palette PNG and JPEG overlay": Variant(ours, per=len(pairs)),
    }
    title = "prediction beyond the forward pass, 500x375, decode to saved mask and overlay, per image"
    return [*comparisons, Comparison(title, variants, rounds=7)]


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
    image = torch.from_numpy(draw_scene(rng, CANVAS)[0]).permute(2, 0, 1)[None].to(device)
    normalised = ((image - plain.mean) / plain.std).contiguous()
    folded = for_inference(plain.to_device(device, channels_last=True), canvas_hw=CANVAS, precision=precision)
    ready = TorchBackend(folded, SHAPE_CLASSES, CANVAS, precision)
    reference = build_model(config, len(SHAPE_CLASSES)).eval().to(device).network
    reference.load_state_dict(plain.network.state_dict())

    def eager() -> torch.Tensor:
        with torch.no_grad():
            return reference(normalised)

    def ours() -> torch.Tensor:
        return ready(image)

    images = [torch.from_numpy(draw_scene(rng, CANVAS)[0]).permute(2, 0, 1)[None].to(device) for _ in range(8)]
    with torch.no_grad():
        truth = [reference(((x - plain.mean) / plain.std).contiguous()).argmax(1) for x in images]
    agreement = [(ready(x).argmax(1) == y).float().mean().item()
                 for x, y in zip(images, truth, strict=True)]  # fmt: skip
    assert min(agreement) >= 0.99, agreement
    return Comparison(
        "inference, smp Unet resnet34, 512x512, batch 1",
        {"usual: eager fp32, no_grad": Variant(eager), f"segkit: folded, channels_last, {precision}": Variant(ours)},
        [f"argmax agreement on 8 held-out images: {100 * min(agreement):.2f}..{100 * max(agreement):.2f} %"],
    )


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

    def every() -> Evaluation:
        measurement = Measurement(classes, build_families(NUM_CLASSES, probabilities=True))
        return evaluate(
            model, evaluation_batches(dataset, batch_size=8, workers=2), classes=classes, measurement=measurement
        )

    difference = 100 * np.abs(usual() - ours()).sum() / 2 / ours().sum()
    assert difference < 0.2, difference
    return [
        Comparison(
            "evaluation beyond the forward pass, 500x375, per image",
            {
                "usual: PNG written, read, counted": Variant(usual, per=60),
                "segkit": Variant(ours, per=60),
                "segkit, every figure": Variant(every, per=60),
            },
            [f"pixels counted otherwise (the usual way resizes probabilities): {difference:.3f} %"],
            rounds=7,
        )
    ]


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

        def torchmetrics() -> np.ndarray:
            library.reset()
            library.update(*tensors)
            counts: np.ndarray = library.compute().numpy()
            return counts

        runs["torchmetrics"] = torchmetrics
    for name, run in runs.items():
        assert np.array_equal(run(), runs["usual: mask, int64, numpy bincount"]()), name

    def twenty(run: Callable[[], np.ndarray]) -> Variant:
        return Variant(lambda: [run() for _ in range(20)], per=20)

    variants = {name: twenty(run) for name, run in runs.items()}
    return [Comparison("confusion matrix, 500x375, 21 classes, per image", variants, rounds=31)]
