"""What a client sends: a body that is read within limits, and the image in it."""

import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from segkit.datasets.images import read_image
from segkit.errors import DataError


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; each field is an option of `segkit serve`."""

    max_bytes: int = 32 * 2**20  # of a body
    max_megapixels: float = 50.0  # of an image, by its header
    seconds: float = 30.0  # that a body may take to arrive, and an answer to be made
    queue: int = 256  # images that wait for the network


class Refused(Exception):
    """A request that isn't answered: an HTTP status, and a sentence for the client."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Upload:
    """Bytes that came over the network, as a file for the readers of images. Errors call it "the image"."""

    content: bytes
    name: str = "the image"

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        return len(self.content)

    def read_bytes(self) -> bytes:
        """Return all of it."""
        return self.content

    def open(self, mode: Literal["rb"], buffering: Literal[0]) -> BinaryIO:
        """Return a stream that can seek."""
        return io.BytesIO(self.content)

    def fingerprint(self) -> str:
        """Return what changes whenever it does."""
        return str(hash(self.content))

    def __str__(self) -> str:
        return self.name


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return a request's body.

    Raises:
        Refused: 413 for more than max_bytes, by its header or as it arrives; 408 for one that is too slow.
    """
    too_large = Refused(
        413, f"the body has more than {limits.max_bytes} bytes; send a smaller or more compressed image"
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.max_bytes:
                    raise too_large
    except TimeoutError as error:
        raise Refused(408, f"the body took longer than {limits.seconds:g} seconds to arrive; try again") from error
    except ClientDisconnect as error:
        raise Refused(400, "the connection ended within the body") from error
    return bytes(body)


async def read_upload(request: Request, limits: Limits) -> bytes:
    """Return the bytes of the image that a request carries: a form's field `image`, or a body that is an image.

    Raises:
        Refused: as `read_body`; 415 for another type of body, 422 for a form without the field.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await read_body(request, limits)
    if kind != "multipart/form-data":
        raise Refused(
            415, f"found the content type '{kind[:80]}', expected multipart/form-data with a field image, or image/..."
        )
    body = await read_body(request, limits)
    try:
        form = await MultiPartParser(
            request.headers, _once(body), max_files=1, max_fields=8, max_part_size=limits.max_bytes
        ).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(
            400, "the form can't be read; is the body whole, and its boundary the one of the header?"
        ) from error
    async with contextlib.aclosing(_Closing(form)):
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise Refused(422, "found no file in the form's field image, expected one")
        return await image.read()


class _Closing:
    def __init__(self, form: object) -> None:
        self.form = form

    async def aclose(self) -> None:
        await self.form.close()  # type: ignore[attr-defined]


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def decode(content: bytes, limits: Limits) -> np.ndarray:
    """Return an image, uint8 RGB [h, w, 3].

    Raises:
        Refused: 413 for more pixels than are allowed, by its header; 415 for what is no image.
    """
    try:
        return read_image(Upload(content), max_pixels=round(limits.max_megapixels * 1e6))
    except DataError as error:
        sentence = str(error)
        raise Refused(413 if "megapixels" in sentence else 415, sentence) from error
