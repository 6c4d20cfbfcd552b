"""A trained model as Label Studio's ML backend: predictions as brush strokes, to be corrected there.

The addresses and bodies are those of its ML backend interface: POST /predict with tasks and the label config, POST
/setup, GET /health. Images come as data: URLs, or from the Label Studio that LABEL_STUDIO_URL names, by the key in
LABEL_STUDIO_API_KEY; any other address is refused, for whoever can ask this server could else have it read what only
it can reach.
"""

import asyncio
import base64
import binascii
import json
import os
import urllib.error
import urllib.parse
import urllib.request
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from segkit import __version__
from segkit.classes import Classes
from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.serving.app import guarded
from segkit.serving.batching import Batcher
from segkit.serving.brush import encode_brush
from segkit.serving.upload import Limits, Refused, decode, read_body

URL, KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
LARGEST_CONFIG = 2**20  # characters of a label config


@dataclass(frozen=True)
class Tags:
    """What a label config says: the names of the BrushLabels tag and of the image, its field, and the labels."""

    labels_tag: str
    image_tag: str
    field: str
    labels: frozenset[str]


def build_backend(predictor: Predictor, *, name: str, limits: Limits, token: str | None = None) -> FastAPI:
    """Return the ML backend as an ASGI app. Its predictions are of the model `name`."""
    batcher = Batcher(predictor, batch_size=predictor.usual_batch_size, limit=limits.queue)
    app = FastAPI(title=f"segkit: {name}", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.batcher = batcher
    guarded(app, token=token, hosts=None, batcher=batcher)
    version = f"{name} (segkit {__version__})"

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        content = _parsed(await read_body(request, limits))
        tasks, tags = content.get("tasks"), parse_config(content.get("label_config"))
        if not isinstance(tasks, list):
            raise Refused(422, "found no list of tasks, expected {tasks: [...], label_config: ...}")
        results = []
        for task in tasks:
            encoded = await run_in_threadpool(fetch, _address(task, tags), limits)
            image = await run_in_threadpool(decode, encoded, limits)
            async with asyncio.timeout(limits.seconds):
                segmentation = await asyncio.wrap_future(batcher.submit(image))
            results.append(await run_in_threadpool(strokes, segmentation, predictor.classes, tags, version))
        return JSONResponse({"results": results, "model_version": version})

    @app.post("/setup")
    async def setup(request: Request) -> dict[str, Any]:
        parse_config(_parsed(await read_body(request, limits)).get("schema"))
        return {"model_version": version}

    @app.post("/webhook")
    async def webhook() -> dict[str, Any]:
        return {}  # annotations that were made; the model doesn't learn from them

    @app.get("/health")
    @app.get("/")
    async def health() -> dict[str, Any]:
        return {"status": "UP", "model_class": "segkit", "model_version": version}

    return app


def parse_config(text: Any) -> Tags:
    """Return what a label config, XML, says.

    Raises:
        Refused: 422 for one without BrushLabels on an Image.
    """
    expected = "expected <View> with <Image name=.. value=$..> and <BrushLabels name=.. toName=..>"
    if not isinstance(text, str) or len(text) > LARGEST_CONFIG or "<!" in text:  # no document types, no entities
        raise Refused(422, f"label_config: found none that can be read, {expected}")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise Refused(422, f"label_config: not XML ({error}), {expected}") from error
    brush = next(iter(root.iter("BrushLabels")), None)
    images = {image.get("name"): image.get("value", "") for image in root.iter("Image")}
    if brush is None or brush.get("toName") not in images:
        raise Refused(422, f"label_config: found no BrushLabels for an Image, {expected}")
    labels = frozenset(label.get("value", "") for label in brush.iter("Label"))
    target = str(brush.get("toName"))
    return Tags(str(brush.get("name")), target, images[target].lstrip("$"), labels)


def fetch(address: str, limits: Limits) -> bytes:
    """Return the bytes of a task's image: of a data: URL, or of a file of the Label Studio that is configured.

    Raises:
        Refused: 422 for another address, 502 for a file that Label Studio doesn't give, 413 for one that is too large.
    """
    if address.startswith("data:"):
        try:
            return base64.b64decode(address.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise Refused(422, "the image's data: URL isn't base64") from error
    base = os.environ.get(URL, "").rstrip("/")
    whole = urllib.parse.urljoin(f"{base}/", address)
    if not base.startswith(("http://", "https://")) or not whole.startswith(f"{base}/"):
        raise Refused(
            422, f"found an image at another address than {URL}, expected one of that Label Studio; set {URL} and {KEY}"
        )
    request = urllib.request.Request(whole, headers={"Authorization": f"Token {os.environ.get(KEY, '')}"})
    try:
        with _opener.open(request, timeout=limits.seconds) as answer:
            content: bytes = answer.read(limits.max_bytes + 1)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise Refused(502, f"Label Studio doesn't give the image; is {KEY} right?") from error
    if len(content) > limits.max_bytes:
        raise Refused(413, f"the image has more than {limits.max_bytes} bytes")
    return content


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to any address."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def strokes(segmentation: Segmentation, classes: Classes, tags: Tags, version: str) -> dict[str, Any]:
    """Return a task's prediction: a region of brush strokes for each class that the label config names."""
    mask = segmentation.mask
    regions = []
    for class_id, label in enumerate(classes.names):
        painted = mask == class_id
        if label not in tags.labels or not painted.any():
            continue
        regions.append(
            {
                "id": uuid.uuid4().hex[:10],
                "type": "brushlabels",
                "from_name": tags.labels_tag,
                "to_name": tags.image_tag,
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
                "image_rotation": 0,
                "value": {"format": "rle", "rle": encode_brush(painted), "brushlabels": [label]},
                "score": float(segmentation.confidence[painted].mean()),
            }
        )
    return {"result": regions, "score": float(np.mean(segmentation.confidence)), "model_version": version}


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError as error:
        raise Refused(400, "the body isn't JSON") from error
    if not isinstance(content, dict):
        raise Refused(422, "found JSON that is no object, expected {tasks: [...], label_config: ...}")
    return content


def _address(task: Any, tags: Tags) -> str:
    data = task.get("data") if isinstance(task, dict) else None
    address = data.get(tags.field) if isinstance(data, dict) else None
    if not isinstance(address, str):
        raise Refused(422, f"found a task without data.{tags.field}, which the label config's Image names")
    return address
