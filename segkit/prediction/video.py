"""Frames of a video, a camera or a stream, and a video of frames.

Files are read and written by PyAV (extra `video`), which is FFmpeg; without it, and for cameras and streams, by OpenCV.
Sound is not copied.
"""

import contextlib
import functools
import importlib.util
import itertools
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from segkit.errors import DataError, RunFolderError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")
STREAMS = ("rtsp://", "rtmp://", "http://", "https://", "udp://")
INSTALL = "pip install 'segkit[video]'"
BT709, LIMITED = 1, 1  # matrix, primaries and transfer by ITU-T H.273; the range 16..235, as FFmpeg numbers it
USUAL_FPS = 25.0  # where a camera doesn't say
TICKS = 12_000  # a second, or a few more: a whole number of them for a frame, so that the rate is exact


@dataclass(frozen=True)
class Frame:
    """A frame, upright: uint8 RGB [h, w, 3], its number from 0, and when it is shown, in seconds from the first."""

    number: int
    seconds: float
    image: np.ndarray


@dataclass
class Video:
    """Frames that are read as they are asked for, how many there are (None: unknown) and how many a second."""

    frames: Iterator[Frame]
    fps: float
    num_frames: int | None
    problem: str = ""  # why frames are missing; known once all were asked for


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
        container = av.open(os.path.abspath(source))  # FFmpeg takes what precedes a colon for a protocol
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{source}: not a video that can be read ({error.strerror}); convert or remove it") from error
    with container:
        cover = av.stream.Disposition.attached_pic  # of a sound file
        stream = next((one for one in container.streams.video if not one.disposition & cover), None)
        if stream is None:
            raise DataError(f"{source}: holds no video stream, expected one; is it a sound file?")
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate
        video = Video(iter(()), float(rate) if rate else USUAL_FPS, stream.frames or None)
        ends = float(stream.duration * stream.time_base) if stream.duration else None
        faults: list[str] = []
        video.frames = _whole(source, video, _upright(_decode(container, stream, faults), video.fps), faults, ends)
        yield video


def _decode(container: Any, stream: Any, faults: list[str]) -> Iterator[Any]:
    """Yield PyAV's frames; add what can't be decoded to `faults`, and continue behind it."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            faults.append(str(error.strerror))
            packet = None
            decoded = stream.decode(None)  # the frames that the decoder still holds
        else:
            try:
                decoded = packet.decode() if packet is not None else []
            except av.FFmpegError as error:
                faults.append(str(error.strerror))
                continue
        yield from decoded
        if packet is None:
            return


def _upright(decoded: Iterator[Any], fps: float) -> Iterator[Frame]:
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # one for all frames: each would make its own
    first: float | None = None
    for number, frame in enumerate(decoded):
        seconds = float(frame.time) if frame.time is not None else number / fps
        first = seconds if first is None else first
        image = reformatter.reformat(frame, format="rgb24").to_ndarray()
        # the display matrix says by how much a frame is turned counterclockwise to be upright, as rot90 does
        image = np.rot90(image, k=round(frame.rotation / 90) % 4)
        yield Frame(number, seconds - first, np.ascontiguousarray(image))


def _whole(
    source: str, video: Video, frames: Iterator[Frame], faults: Sequence[str], ends: float | None
) -> Iterator[Frame]:
    """Yield frames; refuse a video without one, and note in `video.problem` that some are missing.

    Fewer than the header counts are no fault of a file that was trimmed without encoding it again: its last frame is
    shown until it `ends`, in seconds. None: unknown.
    """
    number, last = 0, 0.0
    for frame in frames:
        number, last = number + 1, frame.seconds
        yield frame
    if not number:
        raise DataError(f"{source}: not one frame can be decoded; is the file whole? Copy or convert it again")
    expected = video.num_frames or number
    is_short = number < expected and (ends is None or last + 2 / video.fps < ends)
    if is_short or faults:
        why = f" ({faults[0]})" if faults else ""
        video.problem = f"{source}: {number} of {max(expected, number)} frames can be decoded{why}; is the file whole?"
        log.warning("warning: %s", video.problem)


@contextlib.contextmanager
def _open_with_opencv(source: str, *, live: bool) -> Iterator[Video]:
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source if live else os.path.abspath(source))
    try:
        if not capture.isOpened():
            what = "no camera or stream answers there" if live else f"OpenCV can't read it; PyAV may: {INSTALL}"
            raise DataError(f"{source}: {what}")
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if 0 < fps < 1000 else USUAL_FPS
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

        def read() -> Iterator[Frame]:
            started = time.monotonic()
            for number in itertools.count():
                read_well, image = capture.read()  # OpenCV turns it upright
                if not read_well:
                    return
                seconds = time.monotonic() - started if live else number / fps
                yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

        video = Video(iter(()), fps, count if count > 0 and not live else None)
        video.frames = _whole(source, video, read(), (), count / fps)  # an estimate in some formats
        yield video
    finally:
        capture.release()


class VideoWriter(Protocol):
    """A video file that grows by a frame at a time; all of one size."""

    def write(self, frame: Frame) -> None:
        """Append a frame, to be shown at its time; one of another size is resized."""

    def close(self) -> None:
        """Write what makes the file playable."""

    def abandon(self) -> None:
        """Let go of the file, which is then worth nothing."""


def create_video(path: Path, *, fps: float, size_hw: tuple[int, int]) -> VideoWriter:
    """Begin an mp4 file of frames of one size: H.264, which browsers play; without PyAV MPEG-4, which they don't.

    Frames are shown at their own times, also where those are irregular; OpenCV's MPEG-4 shows `fps` a second. An odd
    side gets one more row or column, a copy of the last: H.264 stores colours for 2x2 pixels.

    Raises:
        RunFolderError: it can't be written, now or later.
    """
    if _has_pyav():
        return _PyAvWriter(path, fps, size_hw)
    log.warning("warning: written by OpenCV as MPEG-4 (mp4v), which browsers don't play; for H.264: %s", INSTALL)
    return _OpenCvWriter(path, fps, size_hw)


class _PyAvWriter:
    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._path, self._size_hw, self._last = path, _even(size_hw), -1
        rate = Fraction(fps).limit_denominator(1001)  # 24000/1001, not 23.976
        self._time_base = Fraction(1, rate.numerator * math.ceil(TICKS / rate.numerator))
        self._frame = av.VideoFrame.from_ndarray
        # BT.709, and said so: players guess the matrix of an untagged file from its size
        self._convert = functools.partial(
            VideoReformatter().reformat,
            format="yuv420p",
            dst_colorspace=BT709,
            dst_color_range=LIMITED,
        )
        with self._writing():
            self._container = av.open(os.path.abspath(path), "w", format="mp4", options={"movflags": "+faststart"})
            # x264's default, medium, takes nearly twice the time of veryfast for a file of about the same size
            options = {"preset": "veryfast", "crf": "20"}
            self._stream = self._container.add_stream("libx264", rate=rate, options=options)
            self._stream.height, self._stream.width = self._size_hw
            self._stream.pix_fmt = "yuv420p"
            codec = self._stream.codec_context
            codec.time_base = self._time_base
            codec.colorspace = codec.color_primaries = codec.color_trc = BT709
            codec.color_range = LIMITED

    def write(self, frame: Frame) -> None:
        with self._writing():
            encoded = self._convert(self._frame(_resized(frame.image, self._size_hw), format="rgb24"))
            self._last = max(self._last + 1, round(frame.seconds / self._time_base))  # never twice the same time
            encoded.pts, encoded.time_base = self._last, self._time_base
            self._container.mux(self._stream.encode(encoded))

    def close(self) -> None:
        with self._writing():
            self._container.mux(self._stream.encode())
            self._container.close()

    def abandon(self) -> None:
        with contextlib.suppress(RunFolderError), self._writing():
            self._container.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise RunFolderError(
                f"{self._path.parent}: the video can't be written ({error.strerror}); free some space, or choose "
                "another folder with --output"
            ) from error


class _OpenCvWriter:
    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        self._path = path.with_name(f"{path.name}.mp4")  # OpenCV goes by the suffix
        self._final, self._size_hw, self._num_frames = path, _even(size_hw), 0
        fourcc, size = cv2.VideoWriter.fourcc(*"mp4v"), self._size_hw[::-1]
        self._writer = cv2.VideoWriter(os.path.abspath(self._path), fourcc, fps, size)
        if not self._writer.isOpened():
            raise RunFolderError(f"{path.parent}: OpenCV can't write a video there; choose another --output")

    def write(self, frame: Frame) -> None:
        self._writer.write(cv2.cvtColor(_resized(frame.image, self._size_hw), cv2.COLOR_RGB2BGR))
        self._num_frames += 1

    def close(self) -> None:
        self._writer.release()
        found = cv2.VideoCapture(os.path.abspath(self._path))  # OpenCV doesn't say what failed, on a full disk neither
        written = int(found.get(cv2.CAP_PROP_FRAME_COUNT)) if found.isOpened() else 0
        found.release()
        if written != self._num_frames:
            self.abandon()
            raise RunFolderError(
                f"{self._final.parent}: OpenCV wrote {written} of {self._num_frames} frames; free some space, "
                "or choose another folder with --output"
            )
        self._path.replace(self._final)

    def abandon(self) -> None:
        self._writer.release()
        self._path.unlink(missing_ok=True)


def _even(size_hw: tuple[int, int]) -> tuple[int, int]:
    return size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2


def _resized(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return an image at the size of its video: an odd side repeats its last row or column."""
    height, width = image.shape[:2]
    if (height, width) == size_hw:
        return image
    if _even((height, width)) != size_hw:  # some streams change it
        return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None
