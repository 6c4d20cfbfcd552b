"""A model behind HTTP: what it answers, and what it refuses with a sentence."""

import base64
import io
import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from segkit.datasets.images import read_image
from segkit.inference.predictor import Predictor
from segkit.serving.app import LOCAL_HOSTS, build_app
from segkit.serving.batching import Batcher
from segkit.serving.upload import Limits, Refused


@pytest.fixture(scope="module")
def predictor(exported: Callable[..., Path]) -> Predictor:
    return Predictor.load(exported("model.onnx"))


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[TestClient]:
    app = build_app(predictor, name="model.onnx", limits=Limits(max_bytes=200_000, max_megapixels=1.0))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    app.state.batcher.close()


@pytest.fixture(scope="module")
def photo(shapes: Path) -> Path:
    return sorted((shapes / "JPEGImages").iterdir())[0]


def ids_of(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


# ---- answers


def test_a_mask_is_that_of_the_predictor_as_a_palette_png(
    client: TestClient, predictor: Predictor, photo: Path
) -> None:
    answer = client.post("/predict?output=mask", files={"image": photo.read_bytes()})
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).mode == "P"
    assert np.array_equal(ids_of(answer.content), predictor(read_image(photo)))


def test_a_body_that_is_an_image_does_as_well_as_a_form(client: TestClient, photo: Path) -> None:
    form = client.post("/predict?output=mask", files={"image": photo.read_bytes()})
    plain = client.post("/predict?output=mask", content=photo.read_bytes(), headers={"Content-Type": "image/png"})
    assert plain.content == form.content


def test_areas_add_up_and_polygons_cover_them(client: TestClient, predictor: Predictor, photo: Path) -> None:
    content = client.post("/predict", files={"image": photo.read_bytes()}).json()
    mask = predictor(read_image(photo))
    assert [entry["pixels"] for entry in content["classes"]] == np.bincount(mask.ravel(), minlength=4).tolist()
    assert sum(entry["share"] for entry in content["classes"]) == pytest.approx(1)
    regions = content["polygons"]["features"]
    assert sum(region["properties"]["pixels"] for region in regions) == np.count_nonzero(mask)


def test_an_overlay_has_the_images_size_and_follows_the_opacity(client: TestClient, photo: Path) -> None:
    image = read_image(photo).astype(int)
    changes = []
    for opacity in (0, 1):
        answer = client.post(f"/predict?output=overlay&opacity={opacity}", files={"image": photo.read_bytes()})
        drawn = np.array(Image.open(io.BytesIO(answer.content))).astype(int)
        assert drawn.shape == image.shape
        changes.append(np.abs(drawn - image).mean())
    assert changes[0] < changes[1]


def test_the_page_gets_mask_confidence_and_uncertainty(client: TestClient, predictor: Predictor, photo: Path) -> None:
    content = client.post("/predict?output=all", files={"image": photo.read_bytes()}).json()
    planes = {
        name: ids_of(base64.b64decode(content[name].split(",")[1])) for name in ("mask", "confidence", "uncertainty")
    }
    segmentation = predictor.segment(read_image(photo))
    assert np.array_equal(planes["mask"], segmentation.mask)
    assert np.abs(planes["confidence"] / 255 - segmentation.confidence).max() <= 0.5 / 255 + 1e-6
    assert planes["uncertainty"].shape == segmentation.mask.shape


def test_classes_health_and_figures_are_told(client: TestClient, predictor: Predictor, photo: Path) -> None:
    assert client.get("/health").json()["model"] == "model.onnx"
    assert client.get("/classes").json()["names"] == list(predictor.classes.names)
    client.post("/predict", files={"image": photo.read_bytes()})
    figures = client.get("/metrics").text
    assert 'segkit_requests_total{path="/predict",status="200"}' in figures
    assert "segkit_predict_seconds_bucket" in figures
    assert "/predict" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("path", ["/", "/page.js", "/backend.js", "/png.js", "/page.css"])
def test_the_page_asks_nobody_else(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


# ---- refusals


def claims(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes, whose header claims a size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "status", "sentence"),
    [
        ({"files": {"image": b"not an image at all"}}, 415, "not an image that can be read"),
        ({"files": {"image": b""}}, 415, "the file is empty"),
        ({"files": {"image": claims(10_000, 10_000)}}, 413, "10000x10000 = 100 megapixels, expected at most 1"),
        ({"files": {"image": bytes(300_000)}}, 413, "more than 200000 bytes"),
        ({"files": {"photo": b"x"}}, 422, "found no file in the form's field image"),
        ({"data": {"image": "text"}}, 415, "found the content type 'application/x-www-form-urlencoded'"),
        ({"content": b"{}", "headers": {"Content-Type": "application/json"}}, 415, "expected multipart/form-data"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "the form can't be read"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "can't be read"),
    ],
)
def test_a_bad_body_gets_a_sentence_and_the_server_goes_on(
    sent: dict[str, Any], status: int, sentence: str, client: TestClient, photo: Path
) -> None:
    answer = client.post("/predict", **sent)
    assert answer.status_code == status, answer.text
    assert sentence in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert client.post("/predict", files={"image": photo.read_bytes()}).status_code == 200


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1)])
def test_images_of_a_pixel_or_a_line_are_answered(size_hw: tuple[int, int], client: TestClient) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((*size_hw, 3), np.uint8)).save(file, "PNG")
    assert ids_of(client.post("/predict?output=mask", files={"image": file.getvalue()}).content).shape == size_hw


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\..\\b", "x" * 500, 'q"uote', "\u202egpj.exe"])
def test_a_files_name_means_nothing(name: str, client: TestClient, photo: Path) -> None:
    answer = client.post("/predict", files={"image": (name, photo.read_bytes(), "image/png")})
    assert answer.status_code == 200
    assert (
        client.post("/predict", files={"image": (name, b"no", "image/png")}).json()["error"].startswith("the image: ")
    )


def test_a_query_that_means_nothing_is_named(client: TestClient, photo: Path) -> None:
    answer = client.post("/predict?output=everything", files={"image": photo.read_bytes()})
    assert (answer.status_code, answer.json()["error"][:8]) == (422, "output: ")
    assert client.post("/predict?opacity=2", files={"image": photo.read_bytes()}).status_code == 422


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/predict", 405), ("GET", "/../app.py", 404)])
def test_addresses_that_mean_nothing_are_refused(method: str, path: str, status: int, client: TestClient) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_what_goes_wrong_inside_is_told_to_the_log_only(
    predictor: Predictor, photo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = build_app(predictor, name="m")
    monkeypatch.setattr(Predictor, "canvases_logits", lambda *_: 1 / 0)
    answer = TestClient(app, raise_server_exceptions=False).post("/predict", files={"image": photo.read_bytes()})
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error; the server's log says more"})
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert TestClient(app).post("/predict", files={"image": photo.read_bytes()}).status_code == 200
    app.state.batcher.close()


# ---- who may ask


def test_a_token_opens_all_but_health_and_the_page(predictor: Predictor, photo: Path) -> None:
    app = build_app(predictor, name="m", token="s3cret")
    client = TestClient(app)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        answer = client.post("/predict", files={"image": photo.read_bytes()}, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/classes", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
    assert client.get("/health").status_code == client.get("/").status_code == 200
    assert client.get("/classes", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    app.state.batcher.close()


def test_a_server_for_this_machine_answers_to_its_own_names_only(predictor: Predictor) -> None:
    app = build_app(predictor, name="m", hosts=LOCAL_HOSTS)
    assert TestClient(app, base_url="http://localhost:8000").get("/health").status_code == 200
    answer = TestClient(app, base_url="http://evil.example").get("/health")
    assert answer.status_code == 400
    assert "found the host name 'evil.example'" in answer.json()["error"]
    app.state.batcher.close()


# ---- many at once


class Slow:
    """A predictor whose network waits until it may go on, and notes the sizes of its batches."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.go, self.sizes = predictor, threading.Event(), list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def canvases_logits(self, canvases: np.ndarray) -> Any:
        self.go.wait(10)
        self.sizes.append(len(canvases))
        return self.predictor.canvases_logits(canvases)


def test_what_waits_is_computed_together_and_each_gets_its_own(predictor: Predictor, shapes: Path) -> None:
    slow = Slow(predictor)
    batcher = Batcher(slow, batch_size=4, limit=10)  # type: ignore[arg-type]
    images = [read_image(path) for path in sorted((shapes / "JPEGImages").iterdir())[:6]]
    futures = [batcher.submit(image) for image in images]
    slow.go.set()
    for future, image in zip(futures, images, strict=True):
        assert np.array_equal(future.result(10).mask, predictor(image))
    assert sum(slow.sizes) == 6
    assert max(slow.sizes) > 1
    batcher.close()


def test_a_full_queue_is_told_and_empties(predictor: Predictor, photo: Path) -> None:
    slow = Slow(predictor)
    batcher = Batcher(slow, batch_size=1, limit=2)  # type: ignore[arg-type]
    image = read_image(photo)
    futures = []
    with pytest.raises(Refused, match="2 images wait already"):
        futures += [batcher.submit(image) for _ in range(4)]
    slow.go.set()
    batcher.close()


def test_no_more_pixels_wait_than_memory_is_meant_to_hold(predictor: Predictor, photo: Path) -> None:
    slow = Slow(predictor)
    image = read_image(photo)
    pixels = image.shape[0] * image.shape[1]
    batcher = Batcher(slow, batch_size=1, limit=10, max_pixels=1.5 * pixels)  # type: ignore[arg-type]
    futures = []
    with pytest.raises(Refused, match="megapixels wait already"):
        futures += [batcher.submit(image) for _ in range(4)]
    slow.go.set()
    batcher.close()
    assert all(future.done() for future in futures)


def test_an_answer_that_takes_too_long_is_given_up(predictor: Predictor, photo: Path) -> None:
    slow = Slow(predictor)
    app = build_app(slow, name="m", limits=Limits(seconds=0.3))  # type: ignore[arg-type]
    answer = TestClient(app).post("/predict", files={"image": photo.read_bytes()})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "longer than 0.3 seconds" in answer.json()["error"]
    slow.go.set()
    app.state.batcher.close()


def test_two_hundred_at_once_are_all_answered(predictor: Predictor, photo: Path) -> None:
    app = build_app(predictor, name="m", limits=Limits(queue=256))
    content = photo.read_bytes()
    with TestClient(app) as client, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: client.post("/predict?output=mask", files={"image": content}), range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    app.state.batcher.close()


def test_the_schema_describes_both_bodies(client: TestClient) -> None:
    body = json.loads(client.get("/openapi.json").text)["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "image/*"}


# ---- over a real connection


@pytest.fixture(scope="module")
def port(predictor: Predictor) -> Iterator[int]:
    app = build_app(predictor, name="m", limits=Limits(seconds=0.5))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    app.state.batcher.close()


def head(length: int) -> bytes:
    lines = (
        "POST /predict?output=mask HTTP/1.1",
        "Host: localhost",
        "Content-Type: image/png",
        f"Content-Length: {length}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def test_a_body_that_does_not_arrive_is_not_waited_for(port: int, photo: Path) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.sendall(head(100_000) + b"half of it")
        assert b" 408 " in slow.recv(4096).splitlines()[0]
    assert_goes_on(port, photo)


def test_a_client_that_leaves_in_the_middle_leaves_the_server_as_it_was(port: int, photo: Path) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as gone:
            gone.sendall(head(100_000) + b"half of it")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as gone:
        gone.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert b" 400 " in gone.recv(4096).splitlines()[0]
    assert_goes_on(port, photo)


def assert_goes_on(port: int, photo: Path) -> None:
    content = photo.read_bytes()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as next_one:
        next_one.sendall(head(len(content)) + content)
        assert b" 200 " in next_one.recv(4096).splitlines()[0]
