"""One client that proofreads its own part of a labelmap over HTTP, and knows what must be there afterwards."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from vzarr.types.blockstreams import pack_stream
from vzarr.types.bytecodecs import gzip_raw
from vzarr.types.labelmap.blocks import encode_block
from vzarr.types.labelmap.runs import runs_of_mask
from vzarr.types.labelmap.sparsevol import encode_rles

BLOCK = 16
SLAB = (2, 2, 2)
"""Blocks of a client's part, zyx."""
IDS = 24
LOST = (http.client.HTTPException, ConnectionError, socket.timeout)
"""What a client sees of a server that was killed."""
UNHEARD = 1 << 63
"""Numbers from here on stand for those that the server gives."""


@dataclass(frozen=True)
class Model:
    """What a client's part holds.

    Parameters
    ----------
    voxels
        Supervoxels, zyx.
    body_of
        Supervoxel -> body; 0 for one that was cut up.
    """

    voxels: np.ndarray
    body_of: dict[int, int]

    def bodies(self) -> dict[int, list[int]]:
        """Body -> those of its supervoxels that have a voxel."""
        found: dict[int, list[int]] = {}
        for supervoxel in np.unique(self.voxels).tolist():
            if self.body_of[supervoxel]:
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

    def cut(self, mask: np.ndarray, new_body: int | None = None) -> Model:
        """With supervoxels cut along a mask, the parts in a new body or not, all new numbers unheard."""
        voxels, body_of, numbers = self.voxels.copy(), dict(self.body_of), count(UNHEARD)
        for supervoxel in np.unique(self.voxels[mask]).tolist():
            part, rest, own = next(numbers), next(numbers), self.voxels == supervoxel
            voxels[own & mask], voxels[own & ~mask] = part, rest
            body_of |= {supervoxel: 0, part: new_body or body_of[supervoxel], rest: body_of[supervoxel]}
        return Model(voxels, body_of)


class Last(NamedTuple):
    """The last edit that can be undone, and what was there before it."""

    mutation_id: int
    before: Model


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
    last: Last | None = None
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
        edits = (self.merge, self.cleave, self.post, self.overwrite, self.cut, self.split, self.undo)
        going = True
        while going:
            edit = edits[self.rng.choice(len(edits), p=(0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1))]
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
        answer = json.loads(self.ask("POST", "merge", json.dumps([target, *merged]).encode()))
        self._done(answer, self.begun)

    def cleave(self) -> None:
        large = {b: svs for b, svs in self.model.bodies().items() if len(svs) > 1}
        if not large:
            self.merge()
            return
        body = int(self.rng.choice(list(large)))
        some = self.rng.permutation(large[body])[: self.rng.integers(1, len(large[body]))].tolist()
        self.begun = self.model.mapped(some, UNHEARD)
        answer = json.loads(self.ask("POST", f"cleave/{body}", json.dumps(some).encode()))
        self._done(answer, self.model.mapped(some, answer["CleavedLabel"]))

    def cut(self) -> None:
        """Split a supervoxel."""
        self._cut(lambda supervoxels: self.rng.permutation(supervoxels)[:1].tolist())

    def split(self) -> None:
        """Split a body."""
        self._cut(lambda supervoxels: supervoxels, UNHEARD + 1000)

    def _cut(self, choose: Callable[[list[int]], list[int]], new_body: int | None = None) -> None:
        bodies = self.model.bodies()
        body = int(self.rng.choice(list(bodies)))
        (first, *_) = chosen = choose(bodies[body])
        inside = np.isin(self.model.voxels, chosen)
        mask = inside & (self.rng.random(inside.shape) < self.rng.choice([0.1, 0.5]))
        if not 0 < mask.sum() < inside.sum():
            self.post()
            return
        self.begun = self.model.cut(mask, new_body)
        rles = bytes(encode_rles(runs_of_mask(mask, (0, 0, self._begin * BLOCK))))
        path = f"split/{body}" if new_body else f"split-supervoxel/{first}"
        answer = json.loads(self.ask("POST", path, rles))
        seen = self._see()
        assert _same(seen, self.begun), f"client {self.number}: a split that was acknowledged is not there"
        self._done(answer, seen)

    def undo(self) -> None:
        if self.last is None:
            self.post()
            return
        number, before = self.last
        self.begun = replace(before, body_of={**dict.fromkeys(self.model.body_of, 0), **before.body_of})
        self.ask("POST", "undo", json.dumps({"MutationID": number}).encode())
        self.model, self.last = self.begun, None

    def _done(self, answer: dict[str, int], model: Model) -> None:
        self.last = Last(answer["MutationID"], self.model)
        self.model = model

    def post(self) -> None:
        coords = self.rng.permutation(list(np.ndindex(SLAB)))[: self.rng.integers(1, 5)]
        blocks = {tuple(c): self._block() for c in coords.tolist()}
        self.begun = self.model.painted(blocks)
        self.ask("POST", "blocks?downres=true", self._stream(blocks))
        self.model, self.last = self.begun, None

    def overwrite(self) -> None:
        """Post the whole part as voxels, some of them changed."""
        (z, y, x) = coord = tuple(self.rng.integers(SLAB).tolist())
        self.begun = self.model.painted({coord: self._block()})
        at = f"{(self._begin + x) * BLOCK}_{y * BLOCK}_{z * BLOCK}"
        voxels = self.begun.voxels[tuple(slice(BLOCK * n, BLOCK * (n + 1)) for n in coord)]
        self.ask("POST", f"raw/0_1_2/{BLOCK}_{BLOCK}_{BLOCK}/{at}?mutate=true", voxels.tobytes())
        self.model, self.last = self.begun, None

    def _block(self) -> np.ndarray:
        """Cells of some ids, cut up ones among them."""
        known = list(self.model.body_of) if hasattr(self, "model") else self.ids
        cells = self.rng.choice(self.rng.choice(known, IDS), (4, 4, 4))
        return np.kron(cells, np.ones((4, 4, 4), np.uint64)).astype(np.uint64)

    @property
    def _begin(self) -> int:
        """First block along x."""
        return SLAB[2] * (self.number - 1)

    def _stream(self, blocks: dict[tuple[int, int, int], np.ndarray]) -> bytes:
        items = (((x + self._begin, y, z), gzip_raw(encode_block(b))) for (z, y, x), b in blocks.items())
        return pack_stream(items)

    # -- looking

    def check(self, url: str) -> None:
        """Compare with the server, which has what was acknowledged, and what was under way wholly or not at all."""
        self.connect(url)
        seen = self._see()
        if self.begun is not None and not _same(seen, self.model):
            assert _same(seen, self.begun), f"client {self.number}: what was under way is there in part"
            self.model = seen
        self.begun = self.last = None
        assert _same(seen, self.model), f"client {self.number}: something acknowledged is not there"
        bodies = self.model.bodies()
        wanted = [int(np.isin(self.model.voxels, svs).sum()) for svs in bodies.values()]
        sizes = json.loads(self.ask("GET", "sizes", json.dumps(list(bodies)).encode()))
        assert sizes == wanted, f"client {self.number}: sizes of bodies are wrong"

    def _see(self) -> Model:
        z, y, x = (BLOCK * n for n in SLAB)
        raw = self.ask("GET", f"raw/0_1_2/{x}_{y}_{z}/{(self.number - 1) * x}_0_0?supervoxels=true")
        voxels = np.frombuffer(raw, "<u8").reshape(z, y, x)
        ids = sorted(self.model.body_of.keys() | set(np.unique(voxels).tolist()))
        mapped = json.loads(self.ask("GET", "mapping?nolookup=true", json.dumps(ids).encode()))
        return Model(voxels, dict(zip(ids, mapped, strict=True)))


def _same(seen: Model, expected: Model) -> bool:
    """Whether what is there is what was expected, whatever new numbers stand for those that were not heard."""
    heard = _heard(seen, expected)
    known = {n for pair in expected.body_of.items() for n in pair if n < UNHEARD}
    if heard is None or len(set(heard.values())) < len(heard) or not known.isdisjoint(heard.values()):
        return False
    voxels = expected.voxels.copy()
    for placeholder, number in heard.items():
        voxels[expected.voxels == placeholder] = number
    body_of = {heard.get(sv, sv): heard.get(body, body) for sv, body in expected.body_of.items()}
    return np.array_equal(seen.voxels, voxels) and seen.body_of == body_of


def _heard(seen: Model, expected: Model) -> dict[int, int] | None:
    """What is where each number is expected that was not heard; None if that is not one number."""
    heard = {}
    for placeholder in np.unique(expected.voxels[expected.voxels >= UNHEARD]).tolist():
        there = np.unique(seen.voxels[expected.voxels == placeholder]).tolist()
        if len(there) != 1:
            return None
        heard[placeholder] = there[0]
    for body in {b for b in expected.body_of.values() if b >= UNHEARD}:
        svs = [heard.get(sv, sv) for sv, at in expected.body_of.items() if at == body]
        there = {seen.body_of.get(sv) for sv in svs}
        if len(there) != 1:
            return None
        heard[body] = there.pop()
    return heard
