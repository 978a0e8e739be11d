"""One client that proofreads its own part of a labelmap over HTTP, and knows what must be there afterwards."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import numpy as np

from vzarr.types.bytecodecs import gzip_raw
from vzarr.types.labelmap.blocks import encode_block
from vzarr.types.labelmap.streams import pack_stream

BLOCK = 16
SLAB = (2, 2, 2)
"""Blocks of a client's part, zyx."""
IDS = 24
LOST = (http.client.HTTPException, ConnectionError, socket.timeout)
"""What a client sees of a server that was killed."""
UNKNOWN = 0
"""Stands for the body of a cleave whose answer never came."""


@dataclass(frozen=True)
class Model:
    """What a client's part holds.

    Parameters
    ----------
    voxels
        Supervoxels, zyx.
    body_of
        Supervoxel -> body; `UNKNOWN` for a new one whose number was not heard.
    """

    voxels: np.ndarray
    body_of: dict[int, int]

    def bodies(self) -> dict[int, list[int]]:
        """Body -> those of its supervoxels that have a voxel."""
        found: dict[int, list[int]] = {}
        for supervoxel in np.unique(self.voxels).tolist():
            found.setdefault(self.body_of[supervoxel], []).append(supervoxel)
        return found

    def mapped(self, supervoxels: list[int], body: int) -> Model:
        return replace(self, body_of={**self.body_of, **dict.fromkeys(supervoxels, body)})

    def painted(self, blocks: dict[tuple[int, int, int], np.ndarray]) -> Model:
        voxels = self.voxels.copy()
        for (z, y, x), block in blocks.items():
            at = (slice(BLOCK * n, BLOCK * (n + 1)) for n in (z, y, x))
            voxels[tuple(at)] = block
        return replace(self, voxels=voxels)


@dataclass
class Proofreader:
    """A client with the ids ``1000 * number`` on, on blocks that nobody else has.

    Parameters
    ----------
    number
        Which client, from 1 on.
    path
        URL of the instance below the server.
    """

    number: int
    path: str
    acknowledged: int = 0
    begun: Model | None = None
    model: Model = field(init=False)

    def __post_init__(self) -> None:
        self.http = http.client.HTTPConnection("localhost")
        self.rng = np.random.default_rng(self.number)
        self.ids = list(range(1000 * self.number, 1000 * self.number + IDS))
        empty = np.zeros([BLOCK * n for n in SLAB], np.uint64)
        start = Model(empty, {i: i for i in self.ids})
        self.first = {c: self._block() for c in np.ndindex(SLAB)}
        self.model = start.painted(self.first)

    # -- talking

    def connect(self, url: str) -> None:
        self.http.close()
        place = urlsplit(url)
        self.http = http.client.HTTPConnection(place.hostname, place.port, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self.http.request(method, f"{self.path}/{path}", body)
        answer = self.http.getresponse()
        content = answer.read()
        assert answer.status == 200, (method, path, answer.status, content)
        return content

    # -- editing

    def paint_all(self) -> None:
        """Store the first state."""
        self.ask("POST", "blocks?downres=true", self._stream(self.first))

    def work(self, url: str, acknowledge: Callable[[], bool]) -> None:
        """Edit until told to stop, or until the server is gone."""
        self.connect(url)
        going = True
        while going:
            edit = (self.merge, self.cleave, self.post)[self.rng.integers(3)]
            try:
                edit()
            except LOST:
                self.http.close()
                return
            self.begun = None
            self.acknowledged += 1
            going = acknowledge()

    def merge(self) -> None:
        bodies = self.model.bodies()
        if len(bodies) < 3:
            self.post()
            return
        target, *merged = self.rng.permutation(list(bodies))[: self.rng.integers(2, 4)].tolist()
        self.begun = self.model.mapped([sv for b in merged for sv in bodies[b]], target)
        self.ask("POST", "merge", json.dumps([target, *merged]).encode())
        self.model = self.begun

    def cleave(self) -> None:
        large = {b: svs for b, svs in self.model.bodies().items() if len(svs) > 1}
        if not large:
            self.merge()
            return
        body = int(self.rng.choice(list(large)))
        some = self.rng.permutation(large[body])[: self.rng.integers(1, len(large[body]))].tolist()
        self.begun = self.model.mapped(some, UNKNOWN)
        answer = json.loads(self.ask("POST", f"cleave/{body}", json.dumps(some).encode()))
        self.model = self.model.mapped(some, answer["CleavedLabel"])

    def post(self) -> None:
        coords = self.rng.permutation(list(np.ndindex(SLAB)))[: self.rng.integers(1, 5)]
        blocks = {tuple(c): self._block() for c in coords.tolist()}
        self.begun = self.model.painted(blocks)
        self.ask("POST", "blocks?downres=true", self._stream(blocks))
        self.model = self.begun

    def _block(self) -> np.ndarray:
        cells = self.rng.choice(self.ids, (4, 4, 4))
        return np.kron(cells, np.ones((4, 4, 4), np.uint64)).astype(np.uint64)

    def _stream(self, blocks: dict[tuple[int, int, int], np.ndarray]) -> bytes:
        first = SLAB[2] * (self.number - 1)
        items = (((x + first, y, z), gzip_raw(encode_block(b))) for (z, y, x), b in blocks.items())
        return pack_stream(items)

    # -- looking

    def check(self, url: str) -> None:
        """Compare with the server, which has what was acknowledged, and what was under way wholly or not at all."""
        self.connect(url)
        seen = self._see()
        if self.begun is not None and not _same(seen, self.model):
            assert _same(seen, self.begun), f"client {self.number}: what was under way is there in part"
            self.model = seen
        self.begun = None
        assert _same(seen, self.model), f"client {self.number}: something acknowledged is not there"
        bodies = self.model.bodies()
        wanted = [int(np.isin(self.model.voxels, svs).sum()) for svs in bodies.values()]
        sizes = json.loads(self.ask("GET", "sizes", json.dumps(list(bodies)).encode()))
        assert sizes == wanted, f"client {self.number}: sizes of bodies are wrong"

    def _see(self) -> Model:
        z, y, x = (BLOCK * n for n in SLAB)
        raw = self.ask("GET", f"raw/0_1_2/{x}_{y}_{z}/{(self.number - 1) * x}_0_0?supervoxels=true")
        mapped = json.loads(self.ask("GET", "mapping?nolookup=true", json.dumps(self.ids).encode()))
        voxels = np.frombuffer(raw, "<u8").reshape(z, y, x)
        return Model(voxels, dict(zip(self.ids, mapped, strict=True)))


def _same(seen: Model, expected: Model) -> bool:
    """Whether what is there is what was expected; a body whose number was not heard may have any new one."""
    if not np.array_equal(seen.voxels, expected.voxels):
        return False
    unheard = {seen.body_of[sv] for sv, body in expected.body_of.items() if body == UNKNOWN}
    known = set(expected.body_of.values())
    if len(unheard) > 1 or unheard & known:
        return False
    return all(seen.body_of[sv] == body for sv, body in expected.body_of.items() if body != UNKNOWN)
