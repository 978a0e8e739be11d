"""Bodies on the wire: JSON, text, bytes, streams and images as DVID's clients expect them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
import orjson
from fastapi.responses import Response, StreamingResponse
from numpy.typing import NDArray
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from vzarr.api.params import ImageFormat
from vzarr.errors import InvalidInputError

OCTETS = "application/octet-stream"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
ND_DATA = "application/vnd.dvid-nd-data+json"

MAX_PAYLOAD = 3 << 30  # DVID's own limit for one buffered answer, in bytes
_PIECE = 1 << 18
_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def check_payload(nbytes: int) -> None:
    """Refuse an answer of more than 3 GiB before anything is read."""
    if nbytes > MAX_PAYLOAD:
        raise InvalidInputError(
            f"Requested payload ({nbytes} bytes) exceeds this DVID server's set limit ({MAX_PAYLOAD})"
        )


class Whole(Response):
    """An answer that is there: the same as the framework's own, whose making costs as much as a short answer.

    Parameters
    ----------
    body
        Its bytes.
    media_type
        What they are.
    status
        Status of the answer.
    """

    def __init__(self, body: bytes | memoryview, media_type: str, status: int = 200) -> None:
        self.status_code, self.body, self.media_type, self.background = status, body, media_type, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", media_type.encode("latin-1"))]


def empty() -> Response:
    """Success with nothing to say: 200, no body, no content type."""
    return Response()


def text(body: str, status: int = 200) -> Response:
    """Plain UTF-8 text."""
    return Whole(body.encode(), TEXT, status)


def json(value: Any, media_type: str = JSON) -> Response:
    """JSON; integers up to 2^64 - 1 stay plain integers, numpy values and arrays are welcome."""
    return Whole(orjson.dumps(value, option=_JSON_OPTIONS), media_type)


def octets(
    body: bytes | memoryview | NDArray[Any], media_type: str = OCTETS, headers: dict[str, str] | None = None
) -> Response:
    """Raw bytes; an array goes out in C order and little-endian, as it lies in memory."""
    if isinstance(body, np.ndarray):
        body = little_endian(body).data.cast("B") if body.size else b""
    return Whole(body, media_type) if headers is None else Response(body, media_type=media_type, headers=headers)


def stream(
    parts: Iterable[bytes], media_type: str = OCTETS, headers: dict[str, str] | None = None, status: int = 200
) -> Response:
    """Bytes as they come, collected into larger pieces; see `Stream`."""
    return Stream(parts, media_type, headers, status)


class Stream(Response):
    """An answer in parts, which are made in a thread as they are sent; a short one is sent as a whole.

    Whatever goes wrong before the first `_PIECE` bytes are there is still answered as an error.

    Parameters
    ----------
    parts
        The bytes.
    media_type
        What they are.
    headers
        What else is said of them.
    status
        Status of the answer.
    """

    def __init__(
        self, parts: Iterable[bytes], media_type: str, headers: dict[str, str] | None = None, status: int = 200
    ) -> None:
        super().__init__(status_code=status, media_type=media_type)
        self._parts, self._said = iter(parts), headers
        self._first: bytes | None = None
        self._ended = False

    def begin(self) -> None:
        """Make the beginning now, in the caller's thread."""
        if self._first is None:
            self._first = self._piece()

    def settled(self) -> Response:
        """The stream as it is to be sent, after its beginning was made: a short one as a whole answer."""
        first, status, kind = self._first or b"", self.status_code, self.media_type or OCTETS
        if not self._ended:
            return StreamingResponse(self._rest(first), status, self._said, kind)
        return Response(first, status, self._said, kind) if self._said else Whole(first, kind, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        if self._first is None:
            await run_in_threadpool(self.begin)
        await self.settled()(scope, receive, send)

    async def _rest(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        while not self._ended:
            yield await run_in_threadpool(self._piece)

    def _piece(self) -> bytes:
        """The next parts, together about `_PIECE` bytes."""
        some, size = [], 0
        for part in self._parts:
            some.append(part)
            size += len(part)
            if size >= _PIECE:
                return b"".join(some)
        self._ended = True
        return b"".join(some)


def image(pixels: NDArray[Any], fmt: ImageFormat | None = None) -> Response:
    """A two-dimensional image, PNG unless `fmt` says otherwise (see `encode_image`)."""
    fmt = fmt or ImageFormat()
    return Response(encode_image(pixels, fmt), media_type=f"image/{fmt.name}")


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """`array` in C order with little-endian numbers; itself when it is so already."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def stack_slices(volume: NDArray[Any]) -> NDArray[Any]:
    """Slices of a (z, y, x) volume below each other, shape (z * y, x): how a volume travels as one JPEG."""
    return volume.reshape(volume.shape[0] * volume.shape[1], *volume.shape[2:])


def encode_image(pixels: NDArray[Any], fmt: ImageFormat) -> bytes:
    """Encode one image.

    Parameters
    ----------
    pixels
        Shape (rows, columns): uint8 becomes gray, uint16 16-bit gray (PNG and TIFF), 32-bit types four
        channels of 8 bits (their bytes in little-endian order, as DVID does), uint64 four channels of 16
        bits (PNG and TIFF).  Shape (rows, columns, 3 or 4) of uint8 is colour.  Formats that cannot hold a type get
        its high bytes, without alpha.
    fmt
        Format and quality.
    """
    if pixels.dtype.itemsize == 8 and fmt.name in _RGBA16:
        return _RGBA16[fmt.name](little_endian(pixels).view("u1").reshape(*pixels.shape, 8))
    buffer = io.BytesIO()
    options = {"quality": fmt.quality} if fmt.name == "jpeg" else {}
    Image.fromarray(_pillow_array(pixels, fmt.name)).save(buffer, fmt.name, **options)
    return buffer.getvalue()


def _pillow_array(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """The same picture in a type that Pillow can write in the format `name`."""
    pixels = little_endian(pixels)
    if pixels.dtype.itemsize == 8:
        return np.ascontiguousarray(pixels.view("u1").reshape(*pixels.shape, 8)[..., 0:6:2])
    if pixels.dtype.itemsize == 4:
        pixels = pixels.view("u1").reshape(*pixels.shape, 4)
    if pixels.dtype.itemsize == 2 and name not in {"png", "tiff"}:
        return (pixels.view("<u2") >> 8).astype("u1")
    if pixels.ndim == 3 and name == "jpeg":
        return np.ascontiguousarray(pixels[..., :3])
    return pixels


def _png_rgba16(pixels: NDArray[np.uint8]) -> bytes:
    """PNG of 16-bit RGBA (PNG specification, third edition, colour type 6): 8 bytes of a label per pixel.

    Pillow writes no 16-bit colour.
    """
    rows, columns, _ = pixels.shape
    lines = np.zeros((rows, 1 + 8 * columns), "u1")  # each line starts with filter type 0
    lines[:, 1:] = pixels.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 3)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _tiff_rgba16(pixels: NDArray[np.uint8]) -> bytes:
    """TIFF of 16-bit RGBA (TIFF 6.0, big-endian, one strip, deflated): 8 bytes of a label per pixel.

    Pillow writes no 16-bit colour.
    """
    rows, columns, _ = pixels.shape
    strip = zlib.compress(pixels.tobytes(), 3)
    begin, depths = 8, struct.pack(">4H", 16, 16, 16, 16)
    fields = [
        (256, _LONG, 1, columns),
        (257, _LONG, 1, rows),
        (258, _SHORT, 4, begin),  # bits per sample, which do not fit into the field itself
        (259, _LONG, 1, 8),  # deflate
        (262, _LONG, 1, 2),  # RGB
        (273, _LONG, 1, begin + len(depths)),
        (277, _LONG, 1, 4),
        (278, _LONG, 1, rows),
        (279, _LONG, 1, len(strip)),
        (338, _LONG, 1, 2),  # the fourth sample is an alpha that no other was multiplied with
    ]
    directory = struct.pack(">H", len(fields)) + b"".join(struct.pack(">HHII", *f) for f in fields) + bytes(4)
    body = depths + strip + bytes(len(strip) % 2)
    return b"MM\0*" + struct.pack(">I", begin + len(body)) + body + directory


_SHORT, _LONG = 3, 4
_RGBA16 = {"png": _png_rgba16, "tiff": _tiff_rgba16}
