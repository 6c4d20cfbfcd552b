"""Frames of a video, a camera or a stream, and a video of frames.

Files are read and written by PyAV (extra `video`), which is FFmpeg; without it, and for cameras and streams, by OpenCV.
Sound is not copied.
"""

import contextlib
import importlib.util
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from segkit.errors import DataError, RunFolderError, first_line

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")
STREAMS = ("rtsp://", "rtmp://", "http://", "https://", "udp://")
INSTALL = "pip install 'segkit[video]'"
USUAL_FPS = 25.0  # where a camera doesn't say
TIME_BASE = Fraction(1, 90_000)  # seconds; MPEG's clock, of which every usual frame rate is nearly a whole number


@dataclass(frozen=True)
class Frame:
    """A frame, upright: uint8 RGB [h, w, 3], its number from 0, and when it is shown, in seconds from the first."""

    number: int
    seconds: float
    image: np.ndarray


@dataclass(frozen=True)
class Video:
    """Frames that are read as they are asked for, how many there are (None: unknown) and how many a second."""

    frames: Iterator[Frame]
    fps: float
    num_frames: int | None


def is_video(source: str) -> bool:
    """True if `source` names a video file, a camera by its number, or a stream by its address."""
    return source.isdecimal() or source.startswith(STREAMS) or source.lower().endswith(VIDEO_SUFFIXES)


def is_file(source: str) -> bool:
    """True if a video is one on a disk, neither a camera nor a stream."""
    return not (source.isdecimal() or source.startswith(STREAMS))


def output_name(source: str) -> str:
    """Return the name of what is written for a video, without suffix."""
    if source.isdecimal():
        return f"camera-{source}"
    return "stream" if source.startswith(STREAMS) else Path(source).stem


@contextlib.contextmanager
def open_video(source: str) -> Iterator[Video]:
    """Open a video file, a camera ("0") or a stream.

    Raises:
        DataError: it doesn't exist or is no video; while it is read, if not one frame can be decoded.
    """
    live = not is_file(source)
    if not live and not Path(source).is_file():
        raise DataError(f"{source}: no such file; expected a video, a camera's number or a stream's address")
    if live or not _has_pyav():
        with _open_with_opencv(source, live=live) as video:
            yield video
        return
    import av

    try:
        container = av.open(source)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{source}: not a video that can be read ({error.strerror}); convert or remove it") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{source}: holds no video stream, expected one; is it a sound file?")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else USUAL_FPS
        frames = _decode(source, container.decode(stream), fps)
        yield Video(_told(source, frames, stream.frames or None), fps, stream.frames or None)


def _decode(source: str, decoded: Iterator[Any], fps: float) -> Iterator[Frame]:
    """Yield frames until the end, or until one can't be decoded."""
    import av

    first: float | None = None
    for number in itertools.count():
        try:
            frame = next(decoded, None)
        except (av.FFmpegError, OSError) as error:
            log.warning("warning: %s: damaged behind frame %d (%s); the rest is left out", source, number, error)
            return
        if frame is None:
            return
        seconds = float(frame.time) if frame.time is not None else number / fps
        first = seconds if first is None else first
        # the display matrix says by how much a frame is turned counterclockwise to be upright, as rot90 does
        upright = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
        yield Frame(number, seconds - first, np.ascontiguousarray(upright))


def _told(source: str, frames: Iterator[Frame], expected: int | None) -> Iterator[Frame]:
    """Yield frames; refuse a video without one, and say where one ends early."""
    number = 0
    for frame in frames:
        number += 1
        yield frame
    if not number:
        raise DataError(f"{source}: not one frame can be decoded; is the file whole? Copy or convert it again")
    if expected is not None and number < expected:
        log.warning("warning: %s: %d of %d frames can be decoded; is the file whole?", source, number, expected)


@contextlib.contextmanager
def _open_with_opencv(source: str, *, live: bool) -> Iterator[Video]:
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    try:
        if not capture.isOpened():
            what = "no camera or stream answers there" if live else f"OpenCV can't read it; PyAV may: {INSTALL}"
            raise DataError(f"{source}: {what}")
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if 0 < fps < 1000 else USUAL_FPS
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        num_frames = count if count > 0 and not live else None

        def read() -> Iterator[Frame]:
            started = time.monotonic()
            for number in itertools.count():
                read_well, image = capture.read()  # OpenCV turns it upright
                if not read_well:
                    return
                seconds = time.monotonic() - started if live else number / fps
                yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

        yield Video(_told(source, read(), num_frames), fps, num_frames)
    finally:
        capture.release()


class VideoWriter(Protocol):
    """A video file that grows by a frame at a time; all of one size."""

    def write(self, frame: Frame) -> None:
        """Append a frame, to be shown at its time."""

    def close(self) -> None:
        """Write what makes the file playable."""


def create_video(path: Path, *, fps: float, size_hw: tuple[int, int]) -> VideoWriter:
    """Begin an mp4 file of frames of one size: H.264, which browsers play; without PyAV MPEG-4, which they don't.

    An odd side gets one more row or column, a copy of the last: H.264 stores colours for 2x2 pixels.

    Raises:
        RunFolderError: it can't be written.
    """
    if _has_pyav():
        return _PyAvWriter(path, fps, size_hw)
    log.warning("warning: written by OpenCV as MPEG-4 (mp4v), which browsers don't play; for H.264: %s", INSTALL)
    return _OpenCvWriter(path, fps, size_hw)


class _PyAvWriter:
    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        import av

        self._av = av
        try:
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        except (av.FFmpegError, OSError) as error:
            raise RunFolderError(f"{path}: can't be written ({first_line(error)}); choose another --output") from error
        # x264's default, medium, takes four times as long as veryfast for a file that is a little smaller
        options = {"preset": "veryfast", "crf": "20"}
        self._stream = self._container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options=options
        )
        self._stream.height, self._stream.width = (length + length % 2 for length in size_hw)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._last = -1

    def write(self, frame: Frame) -> None:
        encoded = self._av.VideoFrame.from_ndarray(_even(frame.image), format="rgb24")
        self._last = max(self._last + 1, round(frame.seconds / TIME_BASE))  # never twice the same time
        encoded.pts, encoded.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(encoded))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


class _OpenCvWriter:
    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        height, width = (length + length % 2 for length in size_hw)
        self._path = path.with_name(f"{path.name}.mp4")  # OpenCV goes by the suffix
        self._final = path
        self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not self._writer.isOpened():
            raise RunFolderError(f"{path}: OpenCV can't write a video there; choose another --output")

    def write(self, frame: Frame) -> None:
        self._writer.write(cv2.cvtColor(_even(frame.image), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
        self._path.replace(self._final)


def _even(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None
