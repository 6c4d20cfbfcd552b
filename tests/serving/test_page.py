"""The page of `segkit serve`, driven in a headless Chromium."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from segkit.datasets.images import read_image
from segkit.inference.predictor import Predictor
from segkit.serving.app import LOCAL_HOSTS, build_app

BOX = "(({left, top, width, height}) => [left, top, width, height])(canvas.getBoundingClientRect())"


@pytest.fixture(scope="module")
def predictor(exported: Callable[..., Path]) -> Predictor:
    return Predictor.load(exported("model.onnx"))


@pytest.fixture(scope="module")
def photos(shapes: Path) -> list[Path]:
    return sorted((shapes / "JPEGImages").iterdir())[:3]


@pytest.fixture(scope="module")
def url(predictor: Predictor) -> Iterator[str]:
    app = build_app(predictor, name="model.onnx", hosts=LOCAL_HOSTS)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    app.state.batcher.close()


def drop(tab: Any, photos: list[Path], *, until: str = "textContent.endsWith('pixels')") -> None:
    """Drop files on the page, as a user does, and wait until its status says so of the last one."""
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in photos]
    tab.js(
        f"""(() => {{
        const data = new DataTransfer();
        for (const [name, text] of {json.dumps(files)})
          data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, {{type: "image/png"}}));
        const target = document.querySelector("#drop:not([hidden])") || document.getElementById("view");
        target.dispatchEvent(new DragEvent("drop", {{dataTransfer: data, bubbles: true, cancelable: true}}));
        }})()"""
    )
    status = "document.getElementById('status')"
    tab.wait(f"{status}.textContent.startsWith({json.dumps(photos[-1].name)}) && {status}.{until}")


@pytest.fixture
def page(tab: Any, url: str, photos: list[Path]) -> Iterator[Any]:
    """The page with one image on it. At the end nothing went wrong in it, and it has asked this server alone."""
    tab.size(1280, 800)
    tab.go(url)
    drop(tab, photos[:1])
    yield tab
    assert tab.errors == []
    assert {request.partition(":")[0] for request in tab.requests if not request.startswith(url)} <= {"data", "blob"}


def pixels(tab: Any) -> np.ndarray:
    """Return what the canvas shows, uint8 RGBA [h, w, 4]."""
    text = tab.js("canvas.toDataURL('image/png')")
    return np.array(Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))))


def downloaded(tab: Any, folder: Path, button: str) -> Path:
    """Press a button, and return the file that comes of it."""
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    tab.js(f"document.getElementById('{button}').click()")
    end = time.monotonic() + 10
    while not (found := [path for path in folder.iterdir() if path.suffix in (".png", ".json")]):
        assert time.monotonic() < end, "nothing was downloaded"
        time.sleep(0.05)
    return found[0]


def test_a_dropped_image_gets_its_mask_and_a_legend_with_areas(
    page: Any, predictor: Predictor, photos: list[Path]
) -> None:
    mask = predictor(read_image(photos[0]))
    shares = page.js("[...document.querySelectorAll('#legend .share')].map(e => e.textContent)")
    for share, count in zip(shares, np.bincount(mask.ravel(), minlength=4), strict=True):
        assert share == "-" if count == 0 else share == f"{100 * count / mask.size:.1f} %" or share == "< 0.1 %"
    assert (page.js("canvas.width"), page.js("canvas.height")) == mask.shape[::-1]


def test_the_slider_takes_the_colours_away(page: Any, photos: list[Path]) -> None:
    before = pixels(page)
    page.js("opacity.value = 0; opacity.dispatchEvent(new Event('input'))")
    page.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    after = pixels(page)
    assert np.array_equal(after[:, :, :3], read_image(photos[0]))
    assert not np.array_equal(before, after)


def test_a_class_that_is_switched_off_is_not_drawn(page: Any, predictor: Predictor, photos: list[Path]) -> None:
    mask = predictor(read_image(photos[0]))
    page.js("document.querySelector('input[value=mask]').click()")
    shown = pixels(page)
    class_id = int(np.bincount(mask[mask > 0]).argmax())
    page.js(f"document.querySelectorAll('#legend input')[{class_id}].click()")
    hidden = pixels(page)
    changed = (shown != hidden).any(axis=2)
    assert changed.any()
    assert (mask[changed] == class_id).all()


def test_the_pointer_is_told_class_and_confidence(page: Any, predictor: Predictor, photos: list[Path]) -> None:
    segmentation = predictor.segment(read_image(photos[0]))
    left, top, width, height = page.js(BOX)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + width / 2, y=top + height / 2)
    said = page.js("document.getElementById('status').textContent")
    x, y = (int(number) for number in said[1 : said.index(")")].split(","))
    assert predictor.classes.names[segmentation.mask[y, x]] in said
    assert f"{100 * segmentation.confidence[y, x]:.0f} %" in said


def test_the_brush_changes_the_mask_that_is_saved_and_undo_takes_it_back(
    page: Any, predictor: Predictor, photos: list[Path], tmp_path: Path
) -> None:
    mask = predictor(read_image(photos[0]))
    page.js("brush.click(); document.getElementById('brush-class').value = '2'")
    left, top, width, height = page.js(BOX)
    page.drag((left + width * 0.3, top + height * 0.5), (left + width * 0.7, top + height * 0.5))
    saved = Image.open(downloaded(page, tmp_path, "save-mask"))
    assert saved.mode == "P"
    assert saved.getpalette() == predictor.classes.palette()
    painted = np.array(saved)
    middle = mask.shape[0] // 2
    assert (painted[middle, round(mask.shape[1] * 0.3) : round(mask.shape[1] * 0.7)] == 2).all()
    assert set(np.unique(painted[painted != mask])) <= {2}
    page.js("undo.click()")
    (tmp_path / "again").mkdir()
    assert np.array_equal(np.array(Image.open(downloaded(page, tmp_path / "again", "save-mask"))), mask)


def test_areas_are_saved_as_json(page: Any, predictor: Predictor, photos: list[Path], tmp_path: Path) -> None:
    content = json.loads(downloaded(page, tmp_path, "save-json").read_text())
    mask = predictor(read_image(photos[0]))
    assert [entry["pixels"] for entry in content["classes"]] == np.bincount(mask.ravel(), minlength=4).tolist()


def test_the_keyboard_reaches_the_image_and_moves_over_it(page: Any) -> None:
    page.js("document.getElementById('canvas').focus()")
    page.key("ArrowRight")
    first = page.js("document.getElementById('status').textContent")
    page.key("ArrowDown")
    assert page.js("document.getElementById('status').textContent") != first
    reached = set()
    for _ in range(25):
        page.key("Tab")
        reached.add(page.js("document.activeElement.id || document.activeElement.value"))
    assert {"opacity", "patterns", "brush", "save-mask", "save-json", "more"} <= reached


def test_several_images_are_chosen_from_a_strip(page: Any, photos: list[Path]) -> None:
    drop(page, photos[1:])
    assert page.js("document.querySelectorAll('#strip button').length") == 3
    page.js("document.querySelectorAll('#strip button')[0].click()")
    assert page.js("document.querySelectorAll('#strip button')[0].getAttribute('aria-pressed')") == "true"


def test_patterns_tell_classes_apart_without_colour(page: Any) -> None:
    before = pixels(page)
    page.js("patterns.click()")
    assert not np.array_equal(before, pixels(page))


def test_a_phone_shows_all_of_it_in_one_column(page: Any) -> None:
    page.size(390, 844, phone=True)
    assert page.js("document.documentElement.scrollWidth <= 390")
    assert page.js("panel.getBoundingClientRect().top >= canvas.getBoundingClientRect().bottom")


def test_the_camera_is_an_image_as_well(tab: Any, url: str) -> None:
    tab.go(url)
    tab.js("camera.click()")
    tab.wait("document.getElementById('status').textContent.startsWith('camera.jpg') && canvas.width > 0 && "
             "document.getElementById('status').textContent.endsWith('pixels')")  # fmt: skip
    assert tab.errors == []


def test_what_is_no_image_gets_the_servers_sentence(tab: Any, url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"not an image")
    tab.go(url)
    drop(tab, [tmp_path / "notes.png"], until="className === 'error'")
    assert "not an image that can be read" in tab.js("document.getElementById('status').textContent")
