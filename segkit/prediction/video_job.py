"""Predict a video: NAME.mp4 with the mask on every frame, NAME.csv with a row per frame, and masks if asked for."""

import contextlib
import csv
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np

from segkit.errors import DataError, RunFolderError
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import render
from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.prediction.cells import neutral
from segkit.prediction.outputs import Prediction, Style
from segkit.prediction.pixel_outputs import Masks
from segkit.prediction.rows import count_pixels
from segkit.prediction.smoothing import Smoother
from segkit.prediction.video import Frame, Video, VideoWriter, create_video, is_file, open_video, output_name
from segkit.runtime.files import appearing, writing
from segkit.runtime.machine import count_threads, keep_freed_memory
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictedVideo:
    """What was written, how many frames; the mean share of pixels that change class from frame to frame, after they
    were moved along: without smoothing and with it, where there was smoothing; and why frames are missing, if any are.
    """

    path: Path
    num_frames: int
    raw_flicker: float | None = None
    smooth_flicker: float | None = None
    problem: str = ""


@dataclass
class _InFlight:
    """A frame on its way: what the next stage needs."""

    frame: Frame
    box: LetterBox
    canvas: np.ndarray  # uint8 RGB [H, W, 3]
    segmentation: Segmentation | None = None
    flickers: tuple[float, float] = (math.nan, math.nan)
    shown: np.ndarray | None = None  # uint8 RGB [h, w, 3]


def refuse_existing(source: str, output: Path, *, overwrite: bool, masks: bool = False) -> None:
    """Refuse to write over the source itself, over masks, or without `overwrite` over what an earlier job wrote.

    Raises:
        RunFolderError: one of these.
        DataError: `source` should be a file, and doesn't exist.
    """
    path = output / f"{output_name(source)}.mp4"
    if is_file(source) and not Path(source).is_file():
        raise DataError(f"{source}: no such file; expected a video")
    if is_file(source) and path.exists() and path.samefile(source):
        raise RunFolderError(f"{path}: is the video to be predicted; choose another folder with --output")
    if path.exists() and not overwrite:
        raise RunFolderError(f"{path}: exists; replace it with --overwrite, or choose another folder with --output")
    folder = output / "masks" / output_name(source)
    if masks and folder.is_dir() and any(folder.iterdir()):  # of a longer video, some would be left between the new
        raise RunFolderError(
            f"{folder}: holds masks already; move or remove it, or choose another folder with --output"
        )


def predict_video(
    predictor: Predictor,
    source: str,
    output: Path,
    *,
    style: Style,
    smooth: bool = False,
    masks: bool = False,
) -> PredictedVideo:
    """Write `output`/NAME.mp4 and NAME.csv for a video file, a camera ("0") or a stream; masks/NAME/000123.png too.

    Frames keep their times and their size; rotation is applied, sound is left out. Decoding, the network, smoothing,
    rendering and encoding run side by side, a few frames apart, so memory doesn't grow with the video. After Ctrl-C,
    which is how a camera ends, both files are whole as far as they go. With `smooth`, probabilities are a running mean
    along the optical flow (segkit/prediction/smoothing.py), and the table has the flicker of each frame before and
    after. `masks` writes the class ids of each frame as a palette PNG.

    Raises:
        DataError: the source isn't a video, or not one frame of it can be decoded.
        RunFolderError: the files can't be written.
    """
    path = output / f"{output_name(source)}.mp4"
    if style.render == "cutout":
        style = Style("mask", style.opacity)  # a video has no transparency
    keep_freed_memory()
    interrupted: KeyboardInterrupt | None = None
    with (
        writing(output, remedy="free some space, or choose another folder with --output"),
        open_video(source) as video,
        appearing(path) as part,
        appearing(path.with_suffix(".csv")) as part_csv,
        part_csv.open("w", encoding="utf-8", newline="") as file,
    ):
        stages = _Stages(predictor, style, source, Masks(output, predictor.classes, style) if masks else None)
        saver = _Saver(predictor, lambda size_hw: create_video(part, fps=video.fps, size_hw=size_hw), file, smooth)
        try:
            try:
                _run(stages, video, saver, smooth=smooth)
            except KeyboardInterrupt as error:
                if not saver.num_frames:
                    raise
                interrupted = error
            saver.close()
        except BaseException:
            saver.abandon()
            raise
    if interrupted is not None:
        log.info("stopped; %s holds the %d frames so far", path, saver.num_frames)
        raise interrupted
    raw, smoothed = (mean.mean if smooth else None for mean in saver.flickers)
    return PredictedVideo(path, saver.num_frames, raw, smoothed, video.problem)


def _run(stages: "_Stages", video: Video, saver: "_Saver", *, smooth: bool) -> None:
    """Chain the stages. What must keep the order of frames has one thread; the network has the caller's."""
    with contextlib.ExitStack() as stack:

        def side_by_side(
            function: Callable[[T], R], inputs: Iterable[T], *, threads: int = 1, ahead: int = 2
        ) -> Iterator[R]:
            return stack.enter_context(contextlib.closing(prefetch(function, inputs, threads=threads, ahead=ahead)))

        def load(_: int) -> _InFlight | None:
            frame = next(video.frames, None)
            return None if frame is None else stages.load(frame)

        loaded = iter(side_by_side(load, itertools.count(), ahead=3).__next__, None)
        segmented: Iterator[_InFlight] = map(stages.segment, loaded)
        if smooth:
            segmented = side_by_side(stages.smooth, segmented)
        threads = count_threads()
        rendered = side_by_side(stages.render, segmented, threads=threads, ahead=threads)
        saved = side_by_side(saver.save, rendered)
        for _ in progress(saved, title=output_name(stages.source), unit="frame", total=video.num_frames):
            pass


@dataclass(frozen=True)
class _Stages:
    """What happens to a frame, up to the image that is encoded."""

    predictor: Predictor
    style: Style
    source: str
    masks: Masks | None  # of each frame, if wanted
    smoother: Smoother = field(default_factory=Smoother)

    def load(self, frame: Frame) -> _InFlight:
        return _InFlight(frame, *self.predictor.letterbox(frame.image))

    def segment(self, current: _InFlight) -> _InFlight:
        logits = self.predictor.canvas_logits(current.canvas)
        current.segmentation = self.predictor.segmentation(logits, current.box)
        return current

    def smooth(self, current: _InFlight) -> _InFlight:
        assert current.segmentation is not None
        smoothed = self.smoother.update(current.canvas, current.segmentation.logits, current.box.inner)
        current.segmentation = self.predictor.segmentation(smoothed.logits, current.box)
        current.flickers = smoothed.raw_flicker, smoothed.smooth_flicker
        return current

    def render(self, current: _InFlight) -> _InFlight:
        assert current.segmentation is not None
        frame, classes = current.frame, self.predictor.classes
        mask = current.segmentation.mask
        current.shown = render(frame.image, mask, classes, kind=self.style.render, opacity=self.style.opacity)
        if self.masks is not None:
            name = f"{output_name(self.source)}/{frame.number:06d}"
            self.masks.write(Prediction(name, Path(self.source), frame.image, current.segmentation))
        return current


class _Saver:
    """Encodes and lists frames; one at a time, in their order."""

    def __init__(
        self, predictor: Predictor, create: Callable[[tuple[int, int]], VideoWriter], file: TextIO, smooth: bool
    ) -> None:
        """`create` opens the video, once the (height, width) of a frame is known; frames are listed in `file`."""
        self.classes, self.create, self.num_frames, self.smooth = predictor.classes, create, 0, smooth
        self.writer: VideoWriter | None = None
        self.flickers = _Mean(), _Mean()  # without smoothing, and with it
        self.table = csv.writer(file, lineterminator="\n")
        names = (neutral(f"pixels_{name}") for name in self.classes.names)
        self.table.writerow(["frame", "seconds", *names, *(["raw_flicker", "smooth_flicker"] if smooth else [])])

    def save(self, current: _InFlight) -> None:
        assert current.segmentation is not None
        assert current.shown is not None
        frame, shown = current.frame, current.shown
        if self.writer is None:
            self.writer = self.create((shown.shape[0], shown.shape[1]))
        self.writer.write(Frame(frame.number, frame.seconds, shown))
        counts = count_pixels(current.segmentation.mask, len(self.classes))
        cells = ["" if math.isnan(value) else f"{value:.5f}" for value in current.flickers if self.smooth]
        self.table.writerow([frame.number, f"{frame.seconds:.4f}", *counts, *cells])
        self.num_frames += 1
        for mean, value in zip(self.flickers, current.flickers, strict=True):
            mean.add(value)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def abandon(self) -> None:
        if self.writer is not None:
            self.writer.abandon()


@dataclass
class _Mean:
    """The mean of numbers, those that are none left out; a camera may give them for days."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        if not math.isnan(value):
            self.total, self.count = self.total + value, self.count + 1

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan
