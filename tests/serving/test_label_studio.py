"""The ML backend of Label Studio: its bodies, its strokes, and where images may come from."""

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from segkit.datasets.images import read_image
from segkit.formats.annotations.labelstudio import decode_brush
from segkit.inference.predictor import Predictor
from segkit.serving.brush import encode_brush
from segkit.serving.label_studio import KEY, URL, build_backend
from segkit.serving.upload import Limits

CONFIG = """<View><Image name="photo" value="$picture"/>
<BrushLabels name="tag" toName="photo"><Label value="disc"/><Label value="star"/></BrushLabels></View>"""


@pytest.fixture(scope="module")
def predictor(exported: Callable[..., Path]) -> Predictor:
    return Predictor.load(exported("model.onnx"))


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[TestClient]:
    app = build_backend(predictor, name="model.onnx", limits=Limits(max_bytes=200_000))
    with TestClient(app) as client:
        yield client
    app.state.batcher.close()


@pytest.fixture(scope="module")
def photo(shapes: Path) -> Path:
    return sorted((shapes / "JPEGImages").iterdir())[0]


def ask(client: TestClient, address: str) -> dict[str, object]:
    body = {"tasks": [{"id": 7, "data": {"picture": address}}], "label_config": CONFIG}
    return client.post("/predict", json=body).json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (64, 80), (300, 400)])
def test_strokes_that_are_read_are_the_mask_that_was_written(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random(size_hw) > 0.5, np.ones(size_hw, bool), np.zeros(size_hw, bool)):
        assert np.array_equal(decode_brush(encode_brush(mask), size_hw, where="test"), mask)


def test_each_label_of_the_config_gets_the_pixels_of_its_class(
    client: TestClient, predictor: Predictor, photo: Path
) -> None:
    answer = ask(client, f"data:image/png;base64,{base64.b64encode(photo.read_bytes()).decode()}")
    mask = predictor(read_image(photo))
    (prediction,) = answer["results"]  # type: ignore[misc]
    found = {region["value"]["brushlabels"][0]: region for region in prediction["result"]}  # type: ignore[index]
    names = list(predictor.classes.names)
    assert set(found) == {name for name in ("disc", "star") if (mask == names.index(name)).any()}  # square isn't asked
    for name, region in found.items():
        assert (region["from_name"], region["to_name"]) == ("tag", "photo")
        painted = decode_brush(region["value"]["rle"], mask.shape, where="test")
        assert np.array_equal(painted, mask == names.index(name))


def test_setup_and_health_answer_as_label_studio_expects(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "UP"
    assert "model.onnx" in client.post("/setup", json={"schema": CONFIG, "project": "1.2"}).json()["model_version"]


@pytest.mark.parametrize(
    "config",
    [None, "", "<View>", "<View/>", '<!DOCTYPE x [<!ENTITY a "b">]><View/>',
     '<View><BrushLabels name="a" toName="missing"/></View>'],
)  # fmt: skip
def test_label_configs_without_brushes_on_an_image_are_refused(config: str | None, client: TestClient) -> None:
    answer = client.post("/predict", json={"tasks": [], "label_config": config})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("label_config: ")


@pytest.mark.parametrize("address", ["http://169.254.169.254/latest", "file:///etc/passwd", "/data/x.png", "//evil/x"])
def test_without_a_label_studio_no_address_is_read(
    address: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL, raising=False)
    assert "found an image at another address than LABEL_STUDIO_URL" in str(ask(client, address)["error"])


@pytest.fixture
def label_studio(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that gives the photo to who has the key, and redirects elsewhere; the keys it was given."""
    keys: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["Authorization"])
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "http://127.0.0.1:1/secret")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(photo.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(URL, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv(KEY, "k3y")
        yield keys
        server.shutdown()


def test_files_of_the_label_studio_that_is_configured_are_read_by_its_key(
    client: TestClient, label_studio: list[str]
) -> None:
    assert "results" in ask(client, "/data/upload/1/photo.png")
    assert label_studio == ["Token k3y"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x.png", "//127.0.0.1:1/x.png", "http://127.0.0.1.evil/x"])
def test_other_addresses_are_refused_all_the_same(address: str, client: TestClient, label_studio: list[str]) -> None:
    assert "another address" in str(ask(client, address)["error"])
    assert label_studio == []


def test_a_redirect_is_not_followed(client: TestClient, label_studio: list[str]) -> None:
    assert "Label Studio doesn't give the image" in str(ask(client, "/away")["error"])
