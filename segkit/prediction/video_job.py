"""Predict a video: NAME.mp4 with the mask on every frame, and NAME.csv with a row per frame."""

import contextlib
import csv
import itertools
import logging
import math
import statistics
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from segkit.errors import DataError, RunFolderError
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import render
from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.prediction.cells import neutral
from segkit.prediction.outputs import Style
from segkit.prediction.rows import count_pixels
from segkit.prediction.smoothing import Smoother
from segkit.prediction.video import Frame, VideoWriter, create_video, is_file, open_video, output_name
from segkit.runtime.files import appearing, writing
from segkit.runtime.machine import keep_freed_memory
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictedVideo:
    """What was written, how many frames; the mean share of pixels that change class from frame to frame, after they
    were moved along: without smoothing and with it, where there was smoothing.
    """

    path: Path
    num_frames: int
    raw_flicker: float | None = None
    smooth_flicker: float | None = None


@dataclass
class _InFlight:
    frame: Frame
    box: LetterBox
    canvas: np.ndarray
    segmentation: Segmentation | None = None


def refuse_existing(source: str, output: Path, *, overwrite: bool) -> None:
    """Raises RunFolderError if the video of `source` was written before, and not `overwrite`; DataError if a file that
    it should be doesn't exist.
    """
    path = output / f"{output_name(source)}.mp4"
    if is_file(source) and not Path(source).is_file():
        raise DataError(f"{source}: no such file; expected a video")
    if path.exists() and not overwrite:
        raise RunFolderError(f"{path}: exists; replace it with --overwrite, or choose another folder with --output")


def predict_video(
    predictor: Predictor,
    source: str,
    output: Path,
    *,
    style: Style,
    smooth: bool = False,
) -> PredictedVideo:
    """Write `output`/NAME.mp4 and NAME.csv for a video file, a camera ("0") or a stream.

    Frames keep their times and their size; rotation is applied, sound is left out. A frame at a time is decoded, one is
    computed and one is encoded, side by side. After Ctrl-C, which is how a camera ends, both files are whole as far as
    they go. With `smooth`, probabilities are a running mean along the optical flow (segkit/prediction/smoothing.py).

    Raises:
        DataError: the source isn't a video, or not one frame of it can be decoded.
        RunFolderError: the files can't be written.
    """
    path = output / f"{output_name(source)}.mp4"
    if style.render == "cutout":
        style = Style("mask", style.opacity)  # a video has no transparency
    keep_freed_memory()
    smoother = Smoother() if smooth else None
    interrupted: KeyboardInterrupt | None = None
    with (
        writing(output, remedy="free some space, or choose another folder with --output"),
        open_video(source) as video,
        appearing(path) as part,
        appearing(path.with_suffix(".csv")) as part_csv,
        part_csv.open("w", encoding="utf-8", newline="") as file,
    ):
        saver = _Saver(predictor, style, lambda size_hw: create_video(part, fps=video.fps, size_hw=size_hw), file)
        try:
            with contextlib.ExitStack() as stack:
                loaded = stack.enter_context(contextlib.closing(_load(predictor, video.frames)))
                segmented = (_segment(predictor, current, smoother) for current in loaded)
                saved = stack.enter_context(contextlib.closing(prefetch(saver.save, segmented, threads=1, ahead=2)))
                for _ in progress(saved, title=output_name(source), unit="frame", total=video.num_frames):
                    pass
        except KeyboardInterrupt as error:
            if not saver.num_frames:
                raise
            interrupted = error
        saver.close()
    if interrupted is not None:
        log.info("stopped; %s holds the %d frames so far", path, saver.num_frames)
        raise interrupted
    if smoother is None:
        return PredictedVideo(path, saver.num_frames)
    return PredictedVideo(path, saver.num_frames, _mean(smoother.raw_flicker), _mean(smoother.smooth_flicker))


def _load(predictor: Predictor, frames: Iterator[Frame]) -> Generator[_InFlight, None, None]:
    """Decode and letterbox in a thread of its own, a few frames ahead."""

    def load(_: int) -> _InFlight | None:
        frame = next(frames, None)
        return None if frame is None else _InFlight(frame, *predictor.letterbox(frame.image))

    with contextlib.closing(prefetch(load, itertools.count(), threads=1, ahead=3)) as loaded:
        for current in loaded:
            if current is None:
                return
            yield current


def _segment(predictor: Predictor, current: _InFlight, smoother: Smoother | None) -> _InFlight:
    logits = predictor.canvas_logits(current.canvas)
    if smoother is None:
        current.segmentation = predictor.segmentation(logits, current.box)
        return current
    smoothed = smoother.update(current.canvas, logits.float().cpu().numpy())
    current.segmentation = predictor.segmentation(smoothed, current.box)
    return current


class _Saver:
    """Renders, encodes and lists frames; one at a time, in their order."""

    def __init__(
        self,
        predictor: Predictor,
        style: Style,
        create: Callable[[tuple[int, int]], VideoWriter],
        file: TextIO,
    ) -> None:
        """`create` opens the video, once the (height, width) of a frame is known; frames are listed in `file`."""
        self.predictor, self.style, self.create, self.num_frames = predictor, style, create, 0
        self.writer: VideoWriter | None = None
        self.table = csv.writer(file, lineterminator="\n")
        names = (neutral(f"pixels_{name}") for name in self.predictor.classes.names)
        self.table.writerow(["frame", "seconds", *names])

    def save(self, current: _InFlight) -> None:
        assert current.segmentation is not None
        frame, mask, classes = current.frame, current.segmentation.mask, self.predictor.classes
        shown = render(frame.image, mask, classes, kind=self.style.render, opacity=self.style.opacity)
        if self.writer is None:
            self.writer = self.create((shown.shape[0], shown.shape[1]))
        self.writer.write(Frame(frame.number, frame.seconds, shown))
        self.table.writerow([frame.number, f"{frame.seconds:.4f}", *count_pixels(mask, len(classes))])
        self.num_frames += 1

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan
