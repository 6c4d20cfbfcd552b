"""Videos in and out, read back by PyAV and OpenCV."""

import importlib.util
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from segkit.errors import DataError
from segkit.prediction import video
from segkit.prediction.video import Frame, create_video, is_video, open_video, output_name


def draw(number: int, hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Left half dark, right half bright, brighter from frame to frame."""
    image = np.full((*hw, 3), 10 + number, np.uint8)
    image[:, hw[1] // 2 :] = 200 - number
    return image


def write(path: Path, count: int = 10, hw: tuple[int, int] = (48, 64), fps: float = 25) -> Path:
    writer = create_video(path, fps=fps, size_hw=hw)
    for number in range(count):
        writer.write(Frame(number, number / fps, draw(number, hw)))
    writer.close()
    return path


def read(source: Path) -> list[Frame]:
    with open_video(str(source)) as opened:
        return list(opened.frames)


def test_frames_come_back_with_their_number_time_and_pixels(tmp_path: Path) -> None:
    frames = read(write(tmp_path / "a.mp4"))
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(10)], abs=1e-3)
    assert all(np.abs(frame.image.astype(int) - draw(frame.number)).mean() < 4 for frame in frames)


def test_the_rate_is_kept(tmp_path: Path) -> None:
    with open_video(str(write(tmp_path / "a.mp4", fps=30000 / 1001))) as opened:
        assert opened.fps == pytest.approx(30000 / 1001, rel=1e-3)
        assert opened.num_frames == 10


def test_it_is_h264_with_even_sides_and_its_index_in_front(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.mp4", hw=(47, 63))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (48, 64)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_turned_video_is_read_upright(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(0), format="rgb24")))
        container.mux(stream.encode())
    (frame,) = read(tmp_path / "a.mp4")
    assert frame.image.shape == (64, 48, 3)
    expected = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1]  # FFmpeg in OpenCV turns it by itself
    assert expected.shape == frame.image.shape
    assert np.abs(frame.image[:, :, ::-1].astype(int) - expected).mean() < 6


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.mp4: not a video that can be read"):
        read(tmp_path / "bad.mp4")


def test_a_truncated_video_gives_the_frames_that_it_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.mp4", count=200)
    os.truncate(path, path.stat().st_size // 2)
    frames = read(path)
    assert 0 < len(frames) < 200
    assert f"{len(frames)} of 200 frames" in caplog.text or "damaged behind frame" in caplog.text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mp4: no such file"):
        read(tmp_path / "none.mp4")


def test_without_pyav_opencv_reads_and_writes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None if name == "av" else find(name))
    frames = read(write(tmp_path / "a.mp4", hw=(47, 63)))
    assert "browsers don't play; for H.264: pip install 'segkit[video]'" in caplog.text
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 10
    assert np.abs(frames[3].image[:47, :63].astype(int) - draw(3, (47, 63))).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("source", "expected", "name"),
    [("a/clip.MOV", True, "clip"), ("0", True, "camera-0"), ("rtsp://host/x", True, "stream"), ("a.jpg", False, "a")],
)
def test_videos_cameras_and_streams_are_known_by_their_words(source: str, expected: bool, name: str) -> None:
    assert is_video(source) is expected
    assert output_name(source) == name
