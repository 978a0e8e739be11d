"""What `labels.py` measures on: a segmentation in a repo, its server, a server that does nothing, and a lean client."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import volumes
from numpy.typing import NDArray

import vzarr
from vzarr.types import registry
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.rows import unpack_blocks

BLOCK = 64
_IDLE_SECONDS = 2
"""A connection that was not used for longer is made anew: servers close idle ones after five seconds."""
NAME = "segmentation"
Labels = NDArray[np.uint64]
Coord = tuple[int, int, int]


def source() -> tuple[str, Labels]:
    """Real labels (fib25, by ``VZARR_TEST_DATA``) or synthetic ones, 256 voxels a side, and which they are."""
    folder = os.environ.get("VZARR_TEST_DATA")
    if not folder:
        return "synthetic labels", volumes.labels(256)
    packed = (Path(folder) / "fib25" / "oversegmented_stack_labels.h5.gz").read_bytes()
    with h5py.File(io.BytesIO(gzip.decompress(packed)), "r") as file:
        stack = file["stack"][:].astype(np.uint64)
    return "fib25", np.pad(stack, [(0, 256 - n) for n in stack.shape])


@dataclass
class Segmentation:
    """A labelmap of many blocks: the source volume repeated, with other ids in each copy.

    Parameters
    ----------
    handle
        The labelmap, at an open version that inherits all voxels from a sealed one.
    where
        Supervoxel -> the blocks that hold some of it, packed.
    large, small, median
        Bodies: of a thousand blocks (or as many as there are), of about ten, and of the median size.
    """

    handle: LabelMap
    where: dict[int, list[Coord]] = field(default_factory=dict)
    large: int = 0
    small: int = 0
    median: int = 0

    @classmethod
    def build(cls, folder: Path, volume: Labels, side: int) -> Segmentation:
        """Write `side`^3 blocks into a root, seal it, and merge two bodies in a child."""
        repo = vzarr.create(str(folder))
        handle = registry.create(repo.root, NAME, "labelmap", config={"MaxDownresLevel": "2"})
        assert isinstance(handle, LabelMap)
        made = cls(handle)
        biggest = []
        for z in range(side):
            layer = {(z, y, x): tile(volume, (z, y, x)) for y in range(side) for x in range(side)}
            handle.write_blocks(layer)
            for coord, block in layer.items():
                labels, counts = np.unique(block, return_counts=True)
                for label in labels[labels > 0].tolist():
                    made.where.setdefault(label, []).append(coord)
                biggest.append(int(labels[np.argmax(counts * (labels > 0))]))
        repo.root.commit()
        made.handle = repo["master"].newversion()[NAME]
        made._merge(list(dict.fromkeys(biggest)))
        return made

    def _merge(self, biggest: list[int]) -> None:
        self.large = biggest[0]
        self.handle.merge(self.large, biggest[1:])
        free = [label for label in self.where if label not in set(biggest)]
        self.small = max((label for label in free if len(self.where[label]) <= 10), key=lambda n: len(self.where[n]))
        near = sorted(free, key=lambda label: len(self.where[label]))[-1]
        if near != self.small and len(self.where[self.small]) < 10:
            self.handle.merge(self.small, [n for n in free if len(self.where[n]) == 3 and n != self.small][:3])
        sizes = dict(self.handle.list_bodies())
        self.median = sorted(sizes, key=sizes.__getitem__)[len(sizes) // 2]

    @property
    def supervoxels(self) -> list[int]:
        """All of them."""
        return list(self.where)

    def blocks_of(self, body: int) -> list[Coord]:
        """Blocks that hold some of a body."""
        return [tuple(c) for c in unpack_blocks(self.handle.find(body).blocks[0]).tolist()]


def tile(volume: Labels, coord: Coord) -> Labels:
    """Block of the source that a block coordinate falls on, its ids moved by the number of the copy."""
    sides = [n // BLOCK for n in volume.shape]
    at = [c % n * BLOCK for c, n in zip(coord, sides, strict=True)]
    copy = sum(c // n * 100**i for i, (c, n) in enumerate(zip(coord, sides, strict=True)))
    block = volume[tuple(slice(a, a + BLOCK) for a in at)]
    return np.where(block > 0, block + np.uint64(copy << 40), np.uint64(0))


# ---------------------------------------------------------------- servers and a client


BARE = """
from vzarr.api.serving import serve

from functools import cache

@cache
def answer(path):
    size = path[1:].encode()
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", size)]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    return start, {"type": "http.response.body", "body": bytes(int(size))}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    for message in answer(scope["path"]):
        await send(message)

serve(app, "127.0.0.1", 0, lambda url: print("on", url, flush=True))
"""
"""The least that an application can do: ``GET /100`` answers 100 bytes that are there already."""


def seconds(job: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


@contextmanager
def running(*command: str) -> Iterator[int]:
    """Port of a server that says its address at the end of its first line."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().strip().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Client:
    """One keep-alive connection: a request is one write, and nothing of the answer is parsed that need not be.

    A client library would cost as much as a short answer and hide the difference.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used = time.monotonic()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def ask(self, path: str, body: bytes = b"", method: str = "GET") -> bytes:
        """Body of the answer; raises `RuntimeError` unless it is 200."""
        if time.monotonic() - self._used > _IDLE_SECONDS:
            self.close()
            self._connect()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        data = self._socket.recv(1 << 20)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        headers, content = data[:end].lower(), data[end + 4 :]
        length = headers.find(b"content-length:")
        if length >= 0:
            content = self._exactly(content, int(headers[length + 15 :].split(b"\r\n")[0]))
        elif b"chunked" in headers:
            content = self._chunks(content)
        if not headers.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{method} {path}: {headers[:12].decode()}: {content[:200].decode()}")
        self._used = time.monotonic()
        return content

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise RuntimeError("the server closed the connection")
        return data

    def _exactly(self, content: bytes, size: int) -> bytes:
        parts, missing = [content], size - len(content)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return b"".join(parts)

    def _chunks(self, content: bytes) -> bytes:
        """Chunked bytes as they come, up to the last chunk."""
        parts = [content]
        while not b"".join(parts[-2:]).endswith(b"\r\n0\r\n\r\n") and parts != [b"0\r\n\r\n"]:
            parts.append(self._more())
        return b"".join(parts)
