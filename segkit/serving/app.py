"""The addresses of a server: what each takes and gives, who may ask, what is refused.

Every refusal is a 4xx or 503 with one sentence, {"error": ...}; no path of this machine and no traceback is in any
answer. Not here: the pages of FastAPI that draw /openapi.json, which load scripts from elsewhere.
"""

import asyncio
import hmac
import importlib.resources
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from segkit import __version__
from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.serving import answers
from segkit.serving.batching import Batcher
from segkit.serving.figures import Figures
from segkit.serving.upload import Limits, Refused, decode, read_upload

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/backend.js": ("backend.js", "text/javascript"),
    "/png.js": ("png.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
OPEN = ("/health", *PAGE)  # without a token: they tell nothing of images or model
WAITING = 8  # largest images whose pixels may wait for the network

Next = Callable[[Request], Awaitable[Response]]


def build_app(
    predictor: Predictor,
    *,
    name: str,
    limits: Limits | None = None,
    batch_size: int | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] | None = None,
) -> FastAPI:
    """Return the server of a model as an ASGI app.

    `name` is what /health calls the model. With `token`, all but /health and the page need it as bearer token. `hosts`
    are the names by which it may be called, None for any: a page of another site, whose name leads to this machine,
    could otherwise read answers (DNS rebinding).
    """
    limits = limits or Limits()
    batcher = Batcher(
        predictor,
        batch_size=batch_size or predictor.usual_batch_size,
        limit=limits.queue,
        max_pixels=WAITING * limits.max_megapixels * 1e6,
    )
    app = FastAPI(title=f"segkit: {name}", version=__version__, docs_url=None, redoc_url=None)
    app.state.batcher = batcher

    figures = guarded(app, token=token, hosts=hosts, batcher=batcher)

    async def segmented(request: Request) -> tuple[Any, Segmentation]:
        """Return the image of a request, and what the model says of it."""
        content = await read_upload(request, limits)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(limits.seconds):
                image = await run_in_threadpool(decode, content, limits)
                segmentation = await asyncio.wrap_future(batcher.submit(image))
                await run_in_threadpool(lambda: segmentation.mask)
        except TimeoutError as error:
            raise Refused(503, f"the answer took longer than {limits.seconds:g} seconds; try again later") from error
        figures.seconds.observe(time.perf_counter() - started)
        figures.pixels.inc(segmentation.mask.size)
        return image, segmentation

    body = {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {"image": {"type": "string", "format": "binary"}},
                    }
                },
                "image/*": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }

    @app.post("/predict", openapi_extra=body, summary="An image in, what the model says of it out")
    async def predict(
        request: Request,
        output: Annotated[
            Literal["json", "mask", "overlay", "all"],
            Query(description="json: areas and polygons; mask: palette PNG of class ids; overlay: JPEG; all: json "
                  "without polygons, with mask, confidence and uncertainty as grey PNGs (data URLs)"),
        ] = "json",
        opacity: Annotated[float, Query(ge=0, le=1, description="of the colours of an overlay")] = 0.6,
    ) -> Response:  # fmt: skip
        image, segmentation = await segmented(request)
        classes, mask = predictor.classes, segmentation.mask
        if output == "mask":
            return Response(await run_in_threadpool(answers.mask_png, mask, classes), media_type="image/png")
        if output == "overlay":
            drawn, kind = await run_in_threadpool(answers.overlay_image, image, mask, classes, opacity=opacity)
            return Response(drawn, media_type=kind)
        content = await run_in_threadpool(answers.describe, mask, classes, polygons=output == "json")
        if output == "all":
            content |= await run_in_threadpool(answers.planes, segmentation)
        return JSONResponse(content)

    @app.get("/health", summary="Is the server up, and which model does it hold?")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": name, "version": __version__}

    @app.get("/classes", summary="The classes by id, with their colours")
    async def classes() -> dict[str, Any]:
        return predictor.classes.to_dict() | {"canvas": list(predictor.canvas_hw)}

    @app.get("/metrics", summary="Counts and times, for Prometheus")
    async def metrics() -> Response:
        return Response(figures.text(), media_type="text/plain; version=0.0.4")

    for path, (file, kind) in PAGE.items():
        _serve_file(app, path, file, kind)
    return app


def guarded(app: FastAPI, *, token: str | None, hosts: tuple[str, ...] | None, batcher: Batcher) -> Figures:
    """Give an app its door: who may ask, sentences for what is refused, headers, counts; return these."""
    figures = Figures(batcher)

    @app.middleware("http")
    async def guard(request: Request, call_next: Next) -> Response:
        try:
            _admit(request, token, hosts)
            response = await call_next(request)
        except Refused as refused:
            response = _sentence(refused.status, refused.sentence)
        except Exception:  # the client learns nothing of it, the log all
            log.exception("error: %s %s", request.method, request.url.path)
            response = _sentence(500, "internal error; the server's log says more")
        response.headers.update(HEADERS)
        known = getattr(request.scope.get("route"), "path", "other")
        figures.requests.labels(known, str(response.status_code)).inc()
        return response

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> Response:
        return _sentence(refused.status, refused.sentence)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _sentence(error.status_code, f"{request.method} {request.url.path[:80]}: {error.detail}")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _sentence(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    return figures


def _serve_file(app: FastAPI, path: str, file: str, kind: str) -> None:
    content = importlib.resources.files("segkit.serving").joinpath("page", file).read_bytes()

    @app.get(path, include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type=kind)


def _admit(request: Request, token: str | None, hosts: tuple[str, ...] | None) -> None:
    """Raises Refused for a host name that isn't this server's, and for a missing or wrong token."""
    host = request.headers.get("host", "")
    bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if hosts is not None and bare not in hosts:
        raise Refused(400, f"found the host name '{bare[:80]}', expected {' or '.join(hosts)}")
    if token is None or request.url.path in OPEN:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refused(401, "a token is needed, expected the header Authorization: Bearer TOKEN")


def _sentence(status: int, sentence: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": sentence}, status, headers)
