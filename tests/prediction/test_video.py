"""Videos in and out, read back by PyAV and OpenCV."""

import importlib.util
import itertools
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from segkit.errors import DataError, RunFolderError
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


def write_all(writer: video.VideoWriter, frames: list[Frame]) -> None:
    for frame in frames:
        writer.write(frame)
    writer.close()


def leave_out_pyav(patch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    patch.setattr(video.importlib.util, "find_spec", lambda name: None if name == "av" else find(name))


@pytest.fixture(params=["pyav", "opencv"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read and write by PyAV, and as if it weren't installed."""
    if request.param == "opencv":
        leave_out_pyav(monkeypatch)
    return str(request.param)


def read(source: Path) -> list[Frame]:
    with open_video(str(source)) as opened:
        return list(opened.frames)


def test_frames_come_back_with_their_number_time_and_pixels(tmp_path: Path) -> None:
    frames = read(write(tmp_path / "a.mp4"))
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(10)], abs=1e-3)
    assert all(np.abs(frame.image.astype(int) - draw(frame.number)).mean() < 4 for frame in frames)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001), Fraction(25, 2), Fraction(60)])
def test_the_rate_is_kept_exactly(tmp_path: Path, rate: Fraction) -> None:
    path = write(tmp_path / "a.mp4", fps=float(rate))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == rate
    with open_video(str(path)) as opened:
        assert (opened.fps, opened.num_frames) == (float(rate), 10)


def test_irregular_times_are_kept_and_never_go_back(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.5, 0.9]  # a stream may say one twice
    writer = create_video(tmp_path / "a.mp4", fps=25, size_hw=(48, 64))
    for number, seconds in enumerate(times):
        writer.write(Frame(number, seconds, draw(number)))
    writer.close()
    found = [frame.seconds for frame in read(tmp_path / "a.mp4")]
    assert found == pytest.approx(times, abs=1e-3)
    assert sorted(set(found)) == found


def test_colours_come_back_and_the_file_says_how_they_are_stored(tmp_path: Path) -> None:
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (240, 240, 240)]
    image = np.repeat(np.array([colors], np.uint8), 16, axis=1).repeat(48, axis=0)
    writer = create_video(tmp_path / "a.mp4", fps=25, size_hw=(48, 64))
    writer.write(Frame(0, 0, image))
    writer.close()
    other = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1][:, :, ::-1]
    for found in (read(tmp_path / "a.mp4")[0].image, other):
        assert np.abs(found[24, 8::16].astype(int) - colors).max() <= 3
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)  # BT.709


def test_a_frame_of_another_size_is_resized(tmp_path: Path, opener: str) -> None:
    writer = create_video(tmp_path / "a.mp4", fps=25, size_hw=(47, 64))
    for number, hw in enumerate([(47, 64), (96, 128), (20, 30)]):
        writer.write(Frame(number, number / 25, draw(number, hw)))
    writer.close()
    assert [frame.image.shape for frame in read(tmp_path / "a.mp4")] == [(48, 64, 3)] * 3


@pytest.mark.parametrize("name", ["a:b.mp4", os.fsdecode(b"\xe9.mp4"), "-x.mp4", "a %d?.mp4"])
def test_any_name_is_read_and_written(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name))
    assert os.listdir() == [name]
    with open_video(name) as opened:
        assert len(list(opened.frames)) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process are POSIX")
def test_a_full_disk_is_told(tmp_path: Path, opener: str) -> None:
    import resource

    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = create_video(tmp_path / "a.mp4", fps=25, size_hw=noise.shape[:2])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # as if the disk were full after that
        with pytest.raises(RunFolderError, match="--output"):
            write_all(writer, [Frame(number, number / 25, noise) for number in range(40)])
        writer.abandon()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir() if path.name != "a.mp4"] == []


def test_it_is_h264_with_even_sides_and_its_index_in_front(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.mp4", hw=(47, 63))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (48, 64)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_video_is_read_upright(tmp_path: Path, degrees: int) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(0), format="rgb24")))
        container.mux(stream.encode())
    (frame,) = read(tmp_path / "a.mp4")
    assert frame.image.shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    expected = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1]  # FFmpeg in OpenCV turns it by itself
    assert expected.shape == frame.image.shape
    assert np.abs(frame.image[:, :, ::-1].astype(int) - expected).mean() < 6


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.mp4: not a video that can be read"):
        read(tmp_path / "bad.mp4")


def test_a_truncated_video_gives_the_frames_that_it_holds_and_says_how_many(
    tmp_path: Path, opener: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.mp4", count=200)
    if opener == "opencv":  # writes the index behind the frames, so that nothing of a truncated file can be read
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(DataError, match=r"a\.mp4: OpenCV can't read it"):
            read(path)
        return
    os.truncate(path, path.stat().st_size // 2)
    with open_video(str(path)) as opened:
        frames = list(opened.frames)
        assert 0 < len(frames) < 200
        assert f"a.mp4: {len(frames)} of 200 frames can be decoded" in opened.problem
    assert opened.problem in caplog.text


def test_frames_behind_damage_are_read(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"g": "1"})  # each frame stands alone
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(20):
            packets = stream.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24"))
            container.mux([broken(packet) if number == 7 else packet for packet in packets])
        container.mux(stream.encode())
    with open_video(str(tmp_path / "a.mp4")) as opened:
        frames = list(opened.frames)
        assert len(frames) == 19
        assert "19 of 20 frames can be decoded (" in opened.problem
    assert np.abs(frames[-1].image.astype(int) - draw(19)).mean() < 6


def broken(packet: av.Packet) -> av.Packet:
    result = av.Packet(b"\xff" * packet.size)
    result.pts, result.dts, result.time_base = packet.pts, packet.dts, packet.time_base
    result.stream = packet.stream
    return result


def test_a_whole_video_has_no_problem(tmp_path: Path, opener: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_video(str(write(tmp_path / "a.mp4"))) as opened:
        assert len(list(opened.frames)) == 10
        assert opened.problem == ""
    assert "frames" not in caplog.text.replace("for H.264", "")


def test_a_trimmed_video_has_no_problem(tmp_path: Path) -> None:
    write(tmp_path / "whole.mp4", count=50)
    with av.open(str(tmp_path / "whole.mp4")) as given, av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                shift = round(0.4 / packet.time_base)  # the first ten frames are there to be decoded, not to be shown
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    with open_video(str(tmp_path / "a.mp4")) as opened:
        assert 35 <= len(list(opened.frames)) <= 50
        assert opened.problem == ""


def test_a_sound_file_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="holds no video stream"):
        read(tmp_path / "a.mp4")


def test_a_video_without_a_frame_is_named(tmp_path: Path) -> None:
    writer = create_video(tmp_path / "a.mp4", fps=25, size_hw=(48, 64))
    writer.write(Frame(0, 0, draw(0)))
    writer.close()
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: content.index(b"mdat") + 4] + bytes(2000))
    with pytest.raises(DataError, match="not one frame can be decoded"):
        read(tmp_path / "a.mp4")


def test_a_stream_is_read_by_its_address(tmp_path: Path, web: Any) -> None:
    web.files["a.mp4"] = write(tmp_path / "a.mp4").read_bytes()
    with open_video(f"{web.url}/a.mp4") as opened:
        frames = list(opened.frames)
    assert opened.num_frames is None  # it may have no end
    assert np.abs(frames[9].image.astype(int) - draw(9)).mean() < 4
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("source", ["97", "http://127.0.0.1:9/none"])
def test_a_camera_or_stream_that_does_not_answer_is_named(source: str) -> None:
    with pytest.raises(DataError, match=f"{source}: no camera or stream answers there"), open_video(source):
        pass


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mp4: no such file"):
        read(tmp_path / "none.mp4")


def test_without_pyav_opencv_reads_and_writes_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pyav(patch)
        frames = read(write(tmp_path / "a.mp4", hw=(47, 63)))
    assert "browsers don't play; for H.264: pip install 'segkit[video]'" in caplog.text
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 10
    assert np.abs(frames[3].image[:47, :63].astype(int) - draw(3, (47, 63))).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_abandoned_video_leaves_at_most_its_own_file(tmp_path: Path, opener: str) -> None:
    writer = create_video(tmp_path / "a.part", fps=25, size_hw=(48, 64))
    writer.write(Frame(0, 0, draw(0)))
    writer.abandon()
    assert {path.name for path in tmp_path.iterdir()} <= {"a.part"}


@pytest.mark.parametrize(
    ("source", "expected", "name"),
    [("a/clip.MOV", True, "clip"), ("0", True, "camera-0"), ("rtsp://host/x", True, "stream"), ("a.jpg", False, "a")],
)
def test_videos_cameras_and_streams_are_known_by_their_words(source: str, expected: bool, name: str) -> None:
    assert is_video(source) is expected
    assert output_name(source) == name
