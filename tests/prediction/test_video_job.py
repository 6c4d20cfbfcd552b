import csv
from pathlib import Path

import numpy as np
import pytest

from segkit.cli import main
from segkit.inference.predictor import Predictor
from segkit.prediction import video_job
from segkit.prediction.outputs import Style
from segkit.prediction.video import Frame, create_video, open_video
from segkit.prediction.video_job import predict_video


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


def test_ctrl_c_keeps_a_video_that_plays(
    checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    segment, calls = video_job._segment, []

    def stop_at_the_eighth(*words: object) -> object:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return segment(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(video_job, "_segment", stop_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        predict_video(predictor, str(clip), tmp_path / "out", style=Style())
    frames, table = frames_of(tmp_path / "out" / "clip.mp4"), table_of(tmp_path / "out" / "clip.csv")
    assert 0 < len(frames) == len(table) < 8


def test_smoothing_reports_flicker_before_and_after(
    checkpoint: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(checkpoint), str(clip), "--output", str(clip.parent / "out"), "--smooth"]
    assert main(words) == 0
    assert "12 frames predicted" in capsys.readouterr().out
    assert main(words) == 2
    assert "clip.mp4: exists; replace it with --overwrite" in capsys.readouterr().err


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
