"""A video of 640x480 from file to file, beside the network alone; what smoothing does to flicker and accuracy."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmark_parts.timing import Comparison, Variant
from segkit.classes import Classes
from segkit.config.schema import ModelConfig
from segkit.datasets.shapes import draw_scene
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.imaging.overlay import overlay
from segkit.inference.folding import for_inference
from segkit.inference.predictor import Predictor
from segkit.inference.torch_backend import TorchBackend
from segkit.models.table import build_model
from segkit.prediction.outputs import Style
from segkit.prediction.smoothing import Smoother
from segkit.prediction.video import Frame, create_video, open_video
from segkit.prediction.video_job import predict_video
from segkit.runtime.device import select_precision
from segkit.runtime.machine import keep_freed_memory

HW = (480, 640)
NUM_FRAMES = 60
NUM_CLASSES = 11  # as CamVid has


def video_part(device: torch.device, folder: Path) -> list[Comparison]:
    folder.mkdir(exist_ok=True)
    keep_freed_memory()  # as predict_video does
    source = folder / "pan.mp4"
    write_pan(source)
    predictor = lite_predictor(device)
    with open_video(str(source)) as video:
        canvases = [predictor.letterbox(frame.image)[1] for frame in video.frames]

    def forward() -> None:
        for canvas in canvases:
            predictor.canvas_logits(canvas)

    def usual() -> None:
        """What tutorials do: read, predict, draw and write by OpenCV, one after the other."""
        given = cv2.VideoCapture(str(source))
        written = cv2.VideoWriter(str(folder / "usual.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, HW[::-1])
        while (read := given.read())[0]:
            image = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            mask = torch.as_tensor(predictor.canvas_logits(image)).softmax(dim=0).argmax(dim=0).byte().cpu().numpy()
            written.write(cv2.cvtColor(overlay(image, mask, predictor.classes), cv2.COLOR_RGB2BGR))
        written.release()
        given.release()

    def ours(*, smooth: bool = False) -> None:
        assert (
            predict_video(predictor, str(source), folder / "out", style=Style(), smooth=smooth).num_frames == NUM_FRAMES
        )

    return [
        Comparison(
            f"a video of 640x480, lite_unet of mobilenetv3_small_050, {NUM_CLASSES} classes, per frame",
            {
                "the network alone": Variant(forward, per=NUM_FRAMES),
                "usual: OpenCV, one after the other, mp4v": Variant(usual, per=NUM_FRAMES),
                "segkit: H.264 and a row per frame": Variant(ours, per=NUM_FRAMES),
                "segkit --smooth": Variant(lambda: ours(smooth=True), per=NUM_FRAMES),
            },
            list(smoothing_remarks()),
            rounds=7,
        )
    ]


def write_pan(path: Path) -> None:
    """Write a camera that moves over a drawn image, with a camera's noise."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(draw_scene(rng, (HW[0] + NUM_FRAMES, HW[1] + 2 * NUM_FRAMES))[0], (0, 0), 1)
    writer = create_video(path, fps=25, size_hw=HW)
    for number in range(NUM_FRAMES):
        image = ground[number : number + HW[0], 2 * number : 2 * number + HW[1]]
        noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        writer.write(Frame(number, number / 25, noisy))
    writer.close()


def lite_predictor(device: torch.device) -> Predictor:
    """A small network of random weights."""
    torch.manual_seed(0)
    config = ModelConfig(name="lite_unet", encoder="tu-mobilenetv3_small_050", pretrained="none")
    segmenter = build_model(config, NUM_CLASSES).to_device(device, channels_last=True).eval()
    precision = select_precision("auto", device)
    ready = for_inference(segmenter, canvas_hw=HW, precision=precision)
    return Predictor(TorchBackend(ready, Classes.build([f"class {k}" for k in range(NUM_CLASSES)]), HW, precision))


def smoothing_remarks() -> Iterator[str]:
    """Say what smoothing does on a drawn video whose truth is known, to models from poor to right."""
    for amount, model in ((1.0, "poor"), (0.7, "fair"), (0.5, "good"), (0.3, "right")):
        smoother, flickers = Smoother(), []
        raw_matrix, matrix = ConfusionMatrix(3), ConfusionMatrix(3)
        for image, mask, logits in itertools.islice(noisy_discs(amount), 40):
            smoothed = smoother.update(image, logits)
            flickers.append((smoothed.raw_flicker, smoothed.smooth_flicker))
            raw_matrix.update(logits.argmax(axis=0).astype(np.uint8), mask)
            matrix.update(smoothed.logits.argmax(axis=0).astype(np.uint8), mask)
        before, after = 100 * np.nanmean(flickers, axis=0)
        yield (
            f"smoothing a {model} model on drawn discs: flicker {before:.1f} -> {after:.1f} %, mIoU "
            f"{raw_matrix.scores().miou:.3f} -> {matrix.scores().miou:.3f}"
        )


def noisy_discs(amount: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield images uint8 RGB [240, 320, 3], class ids, and logits [3, 240, 320] with noise in blobs.

    Two textured discs move and turn over a ground that moves as well; the camera has noise.
    """
    hw, rng = (240, 320), np.random.default_rng(0)

    def texture(height: int, width: int) -> np.ndarray:
        noise = rng.normal(0, 1, (height, width, 3)).astype(np.float32)
        soft = cv2.GaussianBlur(noise, (0, 0), 2)
        scaled: np.ndarray = 255 * (soft - soft.min()) / np.ptp(soft)
        return scaled.astype(np.uint8)

    ground = texture(hw[0] + 100, hw[1] + 100)
    discs = [(texture(100, 100) // 2 + 50 * k, k) for k in (1, 2)]
    disc = cv2.circle(np.zeros((100, 100), np.uint8), (50, 50), 48, 255, -1)
    for number in itertools.count():
        image, mask = ground[number : number + hw[0], number : number + hw[1]].copy(), np.zeros(hw, np.uint8)
        for (pixels, k), (left, top, speed) in zip(discs, ((20, 20, 2.0), (200, 120, -1.5)), strict=True):
            move = cv2.getRotationMatrix2D((50, 50), 3 * number * speed / abs(speed), 1)
            move[:, 2] += np.array([left + speed * number, top])
            inside = cv2.warpAffine(disc, move, hw[::-1]) > 127
            image[inside], mask[inside] = cv2.warpAffine(pixels, move, hw[::-1])[inside], k
        blobs = cv2.GaussianBlur(rng.normal(0, 1, (*hw, 3)).astype(np.float32), (0, 0), 4)
        logits = 2 * np.eye(3, dtype=np.float32)[mask] + amount * blobs / blobs.std()
        noisy = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        yield noisy, mask, np.ascontiguousarray(logits.transpose(2, 0, 1))
