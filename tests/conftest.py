"""Fixtures: a tiny drawn data set, real data where it is at hand, and a checkpoint of random weights."""

import contextlib
import dataclasses
import faulthandler
import http.server
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.config.schema import DataConfig

if TYPE_CHECKING:
    from segkit.config.schema import RunConfig
    from segkit.train import TrainResult

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command does, before torch is imported
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes, which share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


pytest_plugins = ["chromium"]  # a browser, for the pages


def pytest_unconfigure() -> None:
    """Should something keep the interpreter from ending after the tests, show what, and end with an error."""
    faulthandler.dump_traceback_later(120, exit=True)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the memory of surveys out of the developer's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return the folder of a real data set in ../shared/data; the test is skipped where it is missing."""

    def find(name: str) -> Path:
        folder = SHARED / name
        if not folder.is_dir():
            pytest.skip(f"needs the real data set {folder}, which is missing")
        return folder

    return find


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set in VOC layout, 12 to train on and 6 to validate, about 64x80 pixels. Not to be changed."""
    from segkit.datasets.shapes import draw_data_set

    root = tmp_path_factory.mktemp("shapes")
    draw_data_set(root, num_train=12, num_val=6, size_hw=(64, 80))
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three classes and a 64x64 canvas, with random weights. Not to be changed."""
    import torch

    from segkit.config.schema import ModelConfig, RunConfig, TrainConfig
    from segkit.models.checkpoint import Checkpoint
    from segkit.models.table import build_model

    classes = Classes.build(["background", "disc", "square"], colors=[(0, 0, 0), (250, 0, 0), (0, 0, 250)])
    config = RunConfig(
        data=DataConfig(canvas=(64, 64)),
        model=ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none"),
        train=TrainConfig(precision="fp32"),
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "best.pt"
    Checkpoint(weights=build_model(config.model, 3).state_dict(), config=config, classes=classes).save(path)
    return path


@pytest.fixture(scope="session")
def varied(checkpoint: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the drawn set's classes, whose random weights give masks of all of them. Not to be changed."""
    import torch

    from segkit.datasets.images import read_image
    from segkit.inference.predictor import Predictor
    from segkit.models.checkpoint import Checkpoint
    from segkit.models.table import build_model

    path = tmp_path_factory.mktemp("varied") / "varied.pt"
    config = dataclasses.replace(Checkpoint.load(checkpoint).config, data=DataConfig(str(shapes), canvas=(64, 64)))
    classes = Classes.build(["background", "disc", "square", "star"])
    torch.manual_seed(0)
    varied = Checkpoint(build_model(config.model, len(classes)).state_dict(), config, classes)
    varied.save(path)
    images = [read_image(image) for image in sorted((shapes / "JPEGImages").iterdir())[:6]]
    means = [torch.as_tensor(Predictor.load(path, device="cpu").logits(image)).mean(dim=(1, 2)) for image in images]
    varied.weights["network.head.bias"] -= torch.stack(means).mean(dim=0)
    varied.save(path)
    return path


@pytest.fixture(scope="session")
def exported(varied: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the varied checkpoint, exported to a file of a name such as model.onnx; each once in a session."""
    folder = tmp_path_factory.mktemp("exported")

    def export(name: str, **settings: object) -> Path:
        from segkit.export.job import ExportSettings, export_model
        from segkit.export.table import format_of

        output = folder / name
        if not output.is_file():
            chosen = ExportSettings(format_of(output), output, images=str(shapes / "JPEGImages"), num_images=2)
            export_model([varied], [], dataclasses.replace(chosen, **settings))  # type: ignore[arg-type]
        return output

    return export


@pytest.fixture
def two_classes() -> Classes:
    return Classes.build(["background", "object"])


@pytest.fixture
def write_folders(tmp_path: Path) -> Callable[..., DataConfig]:
    """Write a data set in `folders` layout from {name: mask array}, images drawn to match; return its config."""

    def write(masks: dict[str, np.ndarray], **settings: object) -> DataConfig:
        root = tmp_path / "data"
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name, mask in masks.items():
            pixels = rng.integers(0, 255, (*mask.shape[:2], 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        defaults: dict[str, object] = {"classes": ("background", "object"), "val_fraction": 0.25, "canvas": (32, 32)}
        return DataConfig(root=str(root), layout="folders", **{**defaults, **settings})  # type: ignore[arg-type]

    return write


@pytest.fixture(scope="session")
def make_config(shapes: Path) -> "Callable[..., RunConfig]":
    """Return a small config on the drawn data set for a run folder, with overrides."""
    from segkit.config.reading import override_config
    from segkit.config.schema import RunConfig

    def make(run: Path, *overrides: str) -> "RunConfig":
        settings = [
            f"data.root={shapes}", "data.canvas=[64, 64]", "model.name=lite_unet",
            "model.encoder=tu-mobilenetv3_small_050", "model.pretrained=none",
            "model.options.decoder_channels=[16, 16, 16, 16, 16]", "optim.lr=0.003", "train.epochs=2",
            "train.batch_size=4", "train.workers=0", "train.device=cpu", "eval.batch_size=4", "eval.pictures=2",
            *overrides,
        ]  # fmt: skip
        return override_config(dataclasses.replace(RunConfig(), run=str(run)), settings, where="test")

    return make


@pytest.fixture(scope="session")
def trained(make_config: "Callable[..., RunConfig]", tmp_path_factory: pytest.TempPathFactory) -> "TrainResult":
    """A finished run with a moving average and two losses. Read it, don't change it."""
    from segkit.train import train

    config = make_config(
        tmp_path_factory.mktemp("trained") / "run", "train.ema=0.5", "loss.dice=0.5", "loss.class_weights=log"
    )
    return train(config)


@dataclass
class Web:
    """What a server on loopback gives, and what it was asked for. `cuts` are the bytes after which its next answers
    break off; `statuses` what it answers first instead of a file."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: str | None = '"1"'
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # name, Range
    sent: int = 0


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server on loopback that knows ranges and versions, and loses connections on demand."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shown = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            name, asked = self.path.lstrip("/"), self.headers.get("Range")
            shown.requests.append((name, asked))
            content = shown.files.get(name)
            status = shown.statuses.pop(0) if shown.statuses else 200 if content is not None else 404
            if status != 200:
                self.send_error(status)
                return
            assert content is not None
            start = 0
            if asked and shown.ranges and self.headers.get("If-Range") in (None, shown.etag):
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                assert found, asked
                start = int(found[1])
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            if shown.etag:
                self.send_header("ETag", shown.etag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + shown.cuts.pop(0) if shown.cuts else len(content)
            shown.sent += len(content[start:end])
            with contextlib.suppress(OSError):  # the client has left, as after Ctrl-C
                self.wfile.write(content[start:end])

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shown.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
