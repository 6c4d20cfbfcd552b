"""The page of `segkit export --format web`: a model that segments in the browser, by onnxruntime-web from npm."""

import base64
import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segkit.datasets.images import read_image
from segkit.export.job import ExportSettings, export_model
from segkit.inference.predictor import Predictor

pytestmark = pytest.mark.slow  # npm fetches a package


@pytest.fixture(scope="module")
def url(varied: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The exported folder with npm's packages, behind a server of files."""
    site = tmp_path_factory.mktemp("web") / "site"
    settings = ExportSettings("web", site, images=str(shapes / "JPEGImages"), num_images=1)
    export_model([varied], [], settings)
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which is missing: it installs onnxruntime-web")
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"], cwd=site, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"npm can't install onnxruntime-web here: {done.stderr[-200:]}")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    Quiet.extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def predicted(tab: Any, content: bytes) -> dict[str, Any]:
    """Return what the page's backend says of an image, as the page asks it."""
    text = base64.b64encode(content).decode()
    answer = tab.js(
        f"""(async () => {{
        const backend = await import("./backend.js");
        const bytes = Uint8Array.from(atob({json.dumps(text)}), c => c.charCodeAt(0));
        const found = await backend.predict(new File([bytes], "x.png", {{type: "image/png"}}));
        const coded = (values) => btoa(Array.from(values, (v) => String.fromCharCode(v)).join(""));
        return {{width: found.width, height: found.height, ids: coded(found.ids), confidence: coded(found.confidence)}};
        }})()"""
    )
    size = (answer["height"], answer["width"])
    return {
        name: np.frombuffer(base64.b64decode(answer[name]), np.uint8).reshape(size) for name in ("ids", "confidence")
    }


@pytest.mark.parametrize("scale", [1.0, 0.4, 2.5])  # the canvas is 64x64: as it is, enlarged, shrunk by area
def test_the_browser_gives_the_mask_that_pytorch_gives(
    scale: float, url: str, tab: Any, varied: Path, shapes: Path
) -> None:
    ours = Predictor.load(varied, device="cpu")
    tab.go(url)
    for path in sorted((shapes / "JPEGImages").iterdir())[:2]:
        image = cv2.resize(read_image(path), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = predicted(tab, cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
        segmentation = ours.segment(image)
        assert found["ids"].shape == segmentation.mask.shape
        assert np.mean(found["ids"] == segmentation.mask) >= 0.99
        assert np.abs(found["confidence"] / 255 - segmentation.confidence).mean() < 0.01
    assert tab.errors == []


def test_the_page_asks_nobody_but_the_folder(url: str, tab: Any, shapes: Path) -> None:
    tab.go(url)
    path = sorted((shapes / "JPEGImages").iterdir())[0]
    predicted(tab, path.read_bytes())
    tab.wait("document.getElementById('model').textContent.startsWith('in this browser')")
    assert {request.partition(":")[0] for request in tab.requests if not request.startswith(url)} <= {"data", "blob"}
