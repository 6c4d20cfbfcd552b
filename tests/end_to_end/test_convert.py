"""A data set made into shards, and trained and scored from them."""

import functools
import http.server
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segkit import train as module
from segkit.cli import main
from segkit.config.reading import dump_config
from segkit.config.schema import DataConfig, RunConfig
from segkit.datasets.layouts import list_items
from segkit.datasets.masks import read_label_values
from segkit.errors import ConfigError
from segkit.eval_miou import eval_miou
from segkit.formats.table import FORMATS
from segkit.models.checkpoint import Checkpoint
from segkit.train import TrainResult, train

MakeConfig = Callable[..., RunConfig]


def make_shards(make_config: MakeConfig, tmp_path: Path) -> Path:
    (tmp_path / "source.yaml").write_text(dump_config(make_config(tmp_path / "run")))
    words = ["convert", str(tmp_path / "source.yaml"), "--to", "webdataset", str(tmp_path / "shards")]
    assert main([*words, "--samples-per-shard", "5"]) == 0
    return tmp_path / "shards"


@pytest.fixture
def sharded(make_config: MakeConfig, tmp_path: Path) -> Path:
    """The drawn data set in shards of 5, made by the command."""
    return make_shards(make_config, tmp_path)


def test_the_command_says_what_it_made_and_how_to_train_on_it(
    make_config: MakeConfig, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sharded = make_shards(make_config, tmp_path)
    said = capsys.readouterr().out
    assert "train: 12 images" in said
    assert "train: 3 shards, " in said
    assert "val: 2 shards, " in said
    assert "with more processes than a split has shards" in said
    assert f"data.layout=webdataset data.root={sharded}" in said
    words = ["convert", str(tmp_path / "source.yaml"), "--to", "webdataset", str(sharded)]
    assert main(words) == 2
    assert "expected an empty folder" in capsys.readouterr().err
    words[-1] = str(tmp_path / "other")
    assert main([*words, "--splits", "val", f"data.root={shapes}"]) == 0
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["classes.txt", "val-000000.tar", "val.json"]


@pytest.mark.parametrize(
    "words", [["--from", "id-masks"], ["--from", "id-masks", "--classes", "a,b"], ["--from", "voc"]]
)
def test_masks_of_0_and_255_are_not_converted_to_nothing(
    write_folders: Callable[..., DataConfig], tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders({name: np.array([[0, 255]], np.uint8) for name in "abc"}).root
    assert main(["convert", root, *words, "--to", "voc", str(tmp_path / "out")]) == 2
    assert "say --from binary-masks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["convert", root, "--from", "binary-masks", "--to", "voc", str(tmp_path / "out")]) == 0
    assert read_label_values(tmp_path / "out" / "SegmentationClass" / "a.png").tolist() == [[0, 1]]


def test_the_source_is_never_written_to(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(shapes), "--to", "voc", str(shapes / "out")]) == 2
    assert "which is only read" in capsys.readouterr().err
    assert not (shapes / "out").exists()


def test_a_class_that_no_label_shows_is_noted(
    write_folders: Callable[..., DataConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders({name: np.array([[0, 1]], np.uint8) for name in "abc"}).root
    words = ["convert", root, "--from", "id-masks", "--classes", "sky,sea,land", "--to", "voc", str(tmp_path / "out")]
    assert main(words) == 0
    assert "note: no pixel of land" in capsys.readouterr().out


def test_the_hint_without_a_format_is_given_where_nothing_else_tells(
    write_folders: Callable[..., DataConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders({name: np.array([[0, 255]], np.uint8) for name in "abc"}).root
    assert main(["convert", root, "--to", "voc", str(tmp_path / "out")]) == 2
    assert "say so: --from binary-masks" in capsys.readouterr().err
    assert main(["convert", root, "--to", "voc", str(tmp_path / "out"), "--classes", "nowhere.txt"]) == 2
    assert "nowhere.txt: can't read this class file" in capsys.readouterr().err


def test_the_help_names_every_format(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "999")  # no line ends inside of a name
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    words = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert set(FORMATS) <= words


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_a_checkpoint_scores_the_same_to_the_last_digit(
    trained: TrainResult, sharded: Path, tmp_path: Path, split: str
) -> None:
    overrides = [f"data.root={sharded}", "data.layout=webdataset"]
    first = eval_miou(trained.best, split=split, output=tmp_path / "folder")
    second = eval_miou(trained.best, overrides, split=split, output=tmp_path / "sharded")
    assert (first.scores.counts == second.scores.counts).all()
    assert all((tmp_path / "folder" / f).read_bytes() == (tmp_path / "sharded" / f).read_bytes()
               for f in ("metrics.json", "confusion.csv"))  # fmt: skip


def test_a_run_from_shards_trains_on_the_same_items_and_scores_itself_as_the_folder_does(
    make_config: MakeConfig, sharded: Path, tmp_path: Path
) -> None:
    settings = (f"data.root={sharded}", "data.layout=webdataset", "data.cache=ram", "train.epochs=1")
    config = make_config(tmp_path / "from_shards", *settings)
    folder = make_config(tmp_path / "from_folder")
    assert [item.name for item in list_items(config.data, "train")] == [
        item.name for item in list_items(folder.data, "train")
    ]
    result = train(config)
    assert result.scores is not None
    again = eval_miou(result.best, [f"data.root={folder.data.root}", "data.layout=voc"], output=tmp_path / "scores")
    assert (again.scores.counts == result.scores.counts).all()


@pytest.mark.parametrize("target", ["labelme", "coco"])
def test_predictions_go_out_to_be_corrected_and_come_back_as_they_are(
    trained: TrainResult, shapes: Path, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, fixed, back = (str(tmp_path / name) for name in ("out", "fixed", "back"))
    images = str(shapes / "JPEGImages")
    assert main(["predict", str(trained.best), images, "--output", out]) == 0
    said = f"segkit convert {out} --from id-masks --images {images} --to labelme FIXED"
    assert said in capsys.readouterr().out
    assert main(["convert", out, "--from", "id-masks", "--images", images, "--to", target, fixed]) == 0
    assert main(["convert", fixed, "--from", target, "--to", "voc", back]) == 0
    masks = sorted((tmp_path / "out" / "masks").iterdir())
    assert len(masks) == 18
    for mask in masks:
        again = tmp_path / "back" / "SegmentationClass" / mask.name
        assert (read_label_values(again) == read_label_values(mask)).all()
    assert (tmp_path / "back" / "classes.txt").read_text() == "".join(f"{n}\n" for n in trained.classes.names)


def test_a_command_in_a_checkpoint_is_not_run_unless_the_user_repeats_it(
    trained: TrainResult, sharded: Path, tmp_path: Path
) -> None:
    root = f"pipe:touch {tmp_path}/ran; cat {sharded}/"
    checkpoint = Checkpoint.load(trained.best)
    data = replace(checkpoint.config.data, root=root, layout="webdataset")
    replace(checkpoint, config=replace(checkpoint.config, data=data)).save(tmp_path / "evil.pt")
    with pytest.raises(ConfigError, match=r"evil\.pt: its data\.root is a shell command"):
        eval_miou(tmp_path / "evil.pt", output=tmp_path / "scores")
    assert not (tmp_path / "ran").exists()
    assert eval_miou(tmp_path / "evil.pt", [f"data.root={root}"], output=tmp_path / "scores").scores.num_images == 6
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("sampler", ["uniform", "class_balanced"])
def test_a_stopped_run_from_shards_resumes_bit_for_bit(
    make_config: MakeConfig, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    settings = (f"data.root={sharded}", "data.layout=webdataset", f"data.sampler={sampler}")
    train(make_config(tmp_path / "straight", *settings))
    original = module.seed_step

    def seed_and_signal(seed: int, step: int, rank: int) -> None:
        if step == 1:  # of three in an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        original(seed, step, rank)

    with monkeypatch.context() as patch:
        patch.setattr(module, "seed_step", seed_and_signal)
        assert train(make_config(tmp_path / "stopped", *settings)).stopped
    assert train(make_config(tmp_path / "stopped", *settings), resume=True).finished
    first, second = (Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("straight", "stopped"))
    assert first.progress.step == second.progress.step == 6
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_run_from_remote_shards_is_the_run_from_local_ones(
    make_config: MakeConfig, sharded: Path, tmp_path: Path
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(sharded)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        for name, root in (("local", str(sharded)), ("remote", f"http://127.0.0.1:{server.server_port}")):
            settings = (f"data.root={root}", "data.layout=webdataset", "train.epochs=1", "train.workers=2")
            train(make_config(tmp_path / name, *settings))
    finally:
        server.shutdown()
        server.server_close()
    first, second = (Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("local", "remote"))
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
