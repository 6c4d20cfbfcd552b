import csv
import errno
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.cli import main
from segkit.errors import RunFolderError
from segkit.inference.predictor import Predictor
from segkit.prediction import video_job
from segkit.prediction.outputs import Style
from segkit.prediction.video import Frame, create_video, open_video
from segkit.prediction.video_job import predict_video, refuse_existing


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    writer = create_video(tmp_path / "clip.mp4", fps=25, size_hw=(48, 64))
    for number in range(12):
        writer.write(Frame(number, number / 25, rng.integers(0, 255, (48, 64, 3), np.uint8)))
    writer.close()
    return tmp_path / "clip.mp4"


def frames_of(path: Path) -> list[Frame]:
    with open_video(str(path)) as video:
        return list(video.frames)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_video_becomes_a_video_of_its_size_rate_and_length_and_a_row_per_frame(
    checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    done = predict_video(predictor, str(clip), tmp_path / "out", style=Style("mask"))
    assert (done.num_frames, done.raw_flicker) == (12, None)
    frames, table = frames_of(tmp_path / "out" / "clip.mp4"), table_of(tmp_path / "out" / "clip.csv")
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(12)], abs=1e-3)
    assert frames[0].image.shape == (48, 64, 3)
    assert [row["frame"] for row in table] == [str(k) for k in range(12)]
    for frame, row in zip(frames_of(clip), table, strict=True):
        counts = np.bincount(predictor(frame.image).ravel(), minlength=3)
        assert [int(row[f"pixels_{name}"]) for name in predictor.classes.names] == counts.tolist()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_keeps_a_video_that_plays(
    checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    network, calls = predictor.canvas_logits, []

    def press_at_the_eighth(canvas: np.ndarray) -> object:
        calls.append(1)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)
        return network(canvas)

    monkeypatch.setattr(predictor, "canvas_logits", press_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        predict_video(predictor, str(clip), tmp_path / "out", style=Style(), smooth=True)
    frames, table = frames_of(tmp_path / "out" / "clip.mp4"), table_of(tmp_path / "out" / "clip.csv")
    assert 0 < len(frames) == len(table) < 8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.csv", "clip.mp4"]


def test_an_error_on_the_way_leaves_nothing(
    checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(video_job, "count_pixels", fail)
    with pytest.raises(RunFolderError, match="No space left"):
        predict_video(predictor, str(clip), tmp_path / "out", style=Style())
    assert list((tmp_path / "out").iterdir()) == []


def test_smoothing_reports_flicker_before_and_after(
    checkpoint: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(checkpoint), str(clip), "--output", str(clip.parent / "out"), "--smooth"]
    assert main(words) == 0
    assert "12 frames predicted" in capsys.readouterr().out
    assert main(words) == 2
    assert "clip.mp4: exists; replace it with --overwrite" in capsys.readouterr().err


def test_rows_have_the_flicker_whose_mean_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    writer = create_video(tmp_path / "pan.mp4", fps=25, size_hw=(64, 64))
    ground = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 99, 3), np.uint8), (0, 0), 2)
    stripes = np.repeat(np.where(np.arange(64) % 16 < 8, 255, 150).astype(np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    for number in range(8):
        shown = stripes if number == 5 else ground[:, number : number + 64]  # two cuts, around the sixth
        writer.write(Frame(number, number / 25, np.ascontiguousarray(shown)))
    writer.close()
    predictor = Predictor.load(checkpoint, device="cpu")
    done = predict_video(predictor, str(tmp_path / "pan.mp4"), tmp_path / "out", style=Style(), smooth=True)
    table = table_of(tmp_path / "out" / "pan.csv")
    assert [row["raw_flicker"] == "" for row in table] == [k in (0, 5, 6) for k in range(8)]
    for name, mean in (("raw_flicker", done.raw_flicker), ("smooth_flicker", done.smooth_flicker)):
        assert np.mean([float(row[name]) for row in table if row[name]]) == pytest.approx(mean, abs=1e-4)


def test_masks_of_frames_are_written_if_asked_for(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    predict_video(predictor, str(clip), tmp_path / "out", style=Style(), masks=True)
    masks = sorted((tmp_path / "out" / "masks" / "clip").iterdir())
    assert [mask.name for mask in masks] == [f"{k:06d}.png" for k in range(12)]
    assert np.array_equal(np.array(Image.open(masks[3])), predictor(frames_of(clip)[3].image))
    refuse_existing(str(clip), tmp_path / "out", overwrite=True)
    with pytest.raises(RunFolderError, match="holds masks already"):
        refuse_existing(str(clip), tmp_path / "out", overwrite=True, masks=True)


def test_the_source_is_never_written_over(clip: Path) -> None:
    with pytest.raises(RunFolderError, match="is the video to be predicted"):
        refuse_existing(str(clip), clip.parent, overwrite=True)


def test_missing_frames_are_told(checkpoint: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = create_video(tmp_path / "cut.mp4", fps=25, size_hw=(48, 64))
    for number in range(60):
        writer.write(Frame(number, number / 25, rng.integers(0, 255, (48, 64, 3), np.uint8)))
    writer.close()
    os.truncate(tmp_path / "cut.mp4", (tmp_path / "cut.mp4").stat().st_size // 2)
    done = predict_video(
        Predictor.load(checkpoint, device="cpu"), str(tmp_path / "cut.mp4"), tmp_path / "out", style=Style("mask")
    )
    assert f"{done.num_frames} of 60 frames can be decoded" in done.problem
    assert len(frames_of(done.path)) == done.num_frames < 60


def test_few_frames_are_in_memory_at_a_time(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = create_video(tmp_path / "long.mp4", fps=25, size_hw=(48, 64))
    for number in range(50):
        writer.write(Frame(number, number / 25, np.zeros((48, 64, 3), np.uint8)))
    writer.close()
    monkeypatch.setattr(video_job, "count_threads", lambda: 2)
    read, most = [], []
    predictor = Predictor.load(checkpoint, device="cpu")
    letterbox, save = predictor.letterbox, video_job._Saver.save

    def count_read(image: np.ndarray) -> object:
        read.append(1)
        return letterbox(image)

    def count_written(saver: video_job._Saver, current: video_job._InFlight) -> None:
        save(saver, current)
        most.append(len(read) - saver.num_frames)

    monkeypatch.setattr(predictor, "letterbox", count_read)
    monkeypatch.setattr(video_job._Saver, "save", count_written)
    predict_video(predictor, str(tmp_path / "long.mp4"), tmp_path / "out", style=Style("mask"), smooth=True)
    assert len(read) == len(most) == 50
    assert max(most) <= 16


def test_a_file_that_is_no_video_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert main(["predict", str(checkpoint), str(tmp_path / "bad.mp4"), "--output", str(tmp_path / "out")]) == 2
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("flag", ["--labelme", "--skip-existing", "--no-overlays"])
def test_outputs_of_images_are_refused_for_a_video(
    checkpoint: Path, clip: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(checkpoint), str(clip), "--output", str(clip.parent / "out"), flag]) == 2
    assert "a video becomes one video and a table" in capsys.readouterr().err


def test_a_truncated_video_ends_with_1_and_keeps_what_it_holds(checkpoint: Path, clip: Path) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) * 2 // 3])
    output = clip.parent / "out"
    assert main(["predict", str(checkpoint), str(clip), "--output", str(output), "--frame-masks"]) == 1
    frames = frames_of(output / "clip.mp4")
    assert 0 < len(frames) < 12
    assert len(list((output / "masks" / "clip").iterdir())) == len(frames)
