"""PostgreSQL is started anew while two API servers write through it to one bucket: nothing acknowledged is lost."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pytest

import vzarr
from tests.crash.proofreader import BLOCK, SLAB
from tests.postgres import Cluster, cluster
from tests.s3.twoservers import CLIENTS, SHARED, Client, prepare, run
from tests.serving import Server, kill, start
from vzarr.overlay.care.verify import verify
from vzarr.types.blockstreams import pack_stream
from vzarr.types.bytecodecs import gzip_raw
from vzarr.types.labelmap.blocks import encode_block
from vzarr.types.labelmap.verify import check_index, check_scales

pytestmark = [pytest.mark.postgres, pytest.mark.crash, pytest.mark.exhaustive]

LONG = 6.0
"""Longer than others wait for a process without a session."""
RESTARTS = (("fast", 0), ("immediate", 0), ("fast", LONG), ("immediate", 0), ("fast", 0), ("immediate", LONG)) * 2
EDITS = 8
"""How many are acknowledged between two restarts, at the least."""
NOBODYS = 999_999
"""A label, of a block beside those of the clients."""
PATIENCE = 90.0


class RefusedError(Exception):
    """A server would not do what was asked, or does not know whether it has.

    Parameters
    ----------
    sealed
        Whether because the version takes no writes any more.
    """

    def __init__(self, sealed: bool, message: str) -> None:
        super().__init__(message)
        self.sealed = sealed


@dataclass
class Line:
    """The versions that a committer makes one after the other, the newest of them open.

    Parameters
    ----------
    version
        Id of the newest.
    shared
        What each of the blocks holds that all clients write.
    heard
        Answers that were no success, and how often each came.
    sealed
        What each of the others held once it was sealed (see `Watcher.photograph`).
    """

    version: str
    shared: dict[int, bytes] = field(default_factory=dict)
    heard: Counter[str] = field(default_factory=Counter)
    sealed: dict[str, str] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")


@dataclass
class Watcher(Client):
    """A client that is told when the database is away, and goes on in the next version when one was sealed."""

    line: Line = field(default_factory=lambda: Line(""))

    def through(self, at: int, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request; who only looks tries again until the database is there."""
        end = time.monotonic() + PATIENCE
        while True:
            status, content = self.answer(at, method, path, body)
            if status == 200:
                return content
            if (method, status) == ("GET", 404):
                return b""
            self.line.heard[f"{method} {status} {_plain(content)}"] += 1
            sealed = status == 400 and (b"sealed" in content or b"locked" in content)
            assert sealed or status == 503, (method, path, status, content)
            if method != "GET":
                raise RefusedError(sealed, content.decode())
            assert time.monotonic() < end, "the database has come back, and a server does not see it"
            time.sleep(0.1)

    def answer(self, at: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Through a connection of its own: a server closes those that nobody has used for some seconds."""
        started = time.monotonic()
        try:
            answer = super().answer(at, method, path, body)
        finally:
            self.connect("")
        self.line.slowest = max(self.line.slowest, (time.monotonic() - started, f"{method} {path} {answer[0]}"))
        return answer

    def work_on(self, enough: threading.Event, count: list[int]) -> None:
        """Edit, write keys and blocks, until told to stop."""
        edits = (self.merge, self.cleave, self.post, self.overwrite, self.cut, self.split, self.undo)
        while not enough.is_set():
            for work in (self.rng.choice(edits), self.write_key, self.write_shared):
                count[0] += self.attempt(work)

    def attempt(self, work: Callable[[], None]) -> bool:
        """Do something; if it is refused, look whether it was done wholly or not at all."""
        try:
            work()
        except RefusedError as refused:
            self.follow(refused)
            self.look()
            return False
        self.begun = None
        self.acknowledged += 1
        return True

    def follow(self, refused: RefusedError) -> None:
        """Go on in the newest version, which there will be soon if that is why something was refused."""
        end = time.monotonic() + PATIENCE
        while refused.sealed and self.node.endswith(self.line.version):
            assert time.monotonic() < end, f"no new version comes: {refused}"
            time.sleep(0.02)
        node = f"/api/node/{self.line.version}"
        if node != self.node:
            self.last = None  # what was done in another version is not undone in this one
        self.node = node
        self.path = f"{self.node}/seg"

    def write_shared(self) -> None:
        place, value = int(self.rng.integers(SHARED)), int(self.rng.integers(1, 256))
        at, voxels = int(self.rng.integers(2)), bytes([value]) * BLOCK**3
        with self.turns[place]:
            before = self.line.shared.get(place, bytes(BLOCK**3))
            try:
                self.through(at, "POST", self._block_path(place), voxels)
                before = voxels
            except RefusedError as refused:
                self.follow(refused)
            found = self.through(1 - at, "GET", self._block_path(place))
            assert found in (before, voxels), "a block is neither what it was nor what it became"
            assert self.through(at, "GET", self._block_path(place)) == found, "voxels are stale"
            self.line.shared[place] = found

    def _block_path(self, place: int) -> str:
        return f"{self.node}/gray/raw/0_1_2/{BLOCK}_{BLOCK}_{BLOCK}/{BLOCK * place}_0_0"

    def look(self) -> None:
        # Who writes voxels finishes what others left: what was under way is there, or is not, from then on.
        voxels = np.full((BLOCK,) * 3, NOBODYS, np.uint64)
        block = pack_stream([((SLAB[2] * CLIENTS, 0, 0), gzip_raw(encode_block(voxels)))])
        while True:
            try:
                self.through(int(self.rng.integers(2)), "POST", f"{self.path}/blocks?downres=true", block)
            except RefusedError as refused:
                self.follow(refused)
                time.sleep(0.1)
            else:
                break
        super().look()

    def photograph(self, at: int, version: str) -> str:
        """A hash of all voxels, bodies and keys that a version shows."""
        node, seen = f"/api/node/{version}", sha256()
        z, y, x = (BLOCK * n for n in SLAB)
        raw = self.through(at, "GET", f"{node}/seg/raw/0_1_2/{x * CLIENTS}_{y}_{z}/0_0_0?supervoxels=true")
        supervoxels = json.dumps(np.unique(np.frombuffer(raw, "<u8")).tolist()).encode()
        seen.update(raw + self.through(at, "GET", f"{node}/seg/mapping", supervoxels))
        seen.update(self.through(at, "GET", f"{node}/gray/raw/0_1_2/{BLOCK * SHARED}_{BLOCK}_{BLOCK}/0_0_0"))
        for name in json.loads(self.through(at, "GET", f"{node}/notes/keys")):
            seen.update(name.encode() + self.through(at, "GET", f"{node}/notes/key/{name}"))
        return seen.hexdigest()


@dataclass
class Committer(Watcher):
    """Seals the newest version again and again, and makes the next."""

    def work_on(self, enough: threading.Event, count: list[int]) -> None:
        """Commit now and then, until told to stop."""
        while not enough.wait(self.rng.uniform(0.5, 3)):
            self.seal()

    def seal(self) -> None:
        old, new = self.line.version, uuid.uuid4().hex
        self.insist(f"/api/node/{old}/commit", {"note": "sealed"}, "locked already")
        self.insist(f"/api/node/{old}/newversion", {"uuid": new}, new)
        self.line.version = new
        self.line.sealed[old] = self.photograph(int(self.rng.integers(2)), old)

    def insist(self, path: str, body: dict[str, str], done: str) -> None:
        """Ask one server or the other until it is done, perhaps by an earlier request that went unanswered."""
        end = time.monotonic() + PATIENCE
        for tries in range(1000):
            status, content = self.answer(int(self.rng.integers(2)), "POST", path, json.dumps(body).encode())
            if status == 200:
                return
            self.line.heard[f"{path.rpartition('/')[2]} {status} {_plain(content)}"] += 1
            if tries and status == 400 and done in content.decode():
                return
            assert status == 503, (path, status, content)
            assert time.monotonic() < end, (path, content)
            time.sleep(self.rng.uniform(0, 0.3))


def _plain(content: bytes) -> str:
    """A message without ids."""
    return " ".join("*" if sum(c.isdigit() for c in word) > 3 else word for word in content.decode().split())


@pytest.mark.timeout(900)
def test_the_database_is_started_anew_again_and_again(url: str):
    chance, folder = random.Random(), url.rsplit("/", 1)[0]
    with cluster() as database, two(folder, f"postgresql://vzarr@{database.address}/postgres") as servers:
        root, plain = prepare(servers)
        line = Line(root)
        clients = [Watcher(**_settings(c), line=line) for c in plain]
        committer = Committer(CLIENTS + 1, "", servers=clients[0].servers, line=line)
        for client, first in zip(clients, plain, strict=True):
            client.model = first.model
            first.connect("")
        with working([*clients, committer]) as some_more:
            for mode, away in RESTARTS:
                some_more()
                time.sleep(chance.uniform(0, 1.5))
                restart(database, mode, away)
            some_more()
        print(len(line.sealed), [c.acknowledged for c in clients])
        committer.seal()
        for client in clients:
            client.follow(RefusedError(True, "the last commit"))
            client.look()
        for at in (0, 1):
            assert {node: committer.photograph(at, node) for node in line.sealed} == line.sealed
        assert [s.process.poll() for s in servers] == [None, None]
        with vzarr.open(f"{folder}/{root}") as repo:
            assert [f for f in verify(repo.objects) if f.damage] == []
            for node in line.sealed:
                assert check_index(repo[node]["seg"]) == []
            assert check_scales(repo[line.version]["seg"]) == []


def _settings(client: Client) -> dict[str, object]:
    return {name: getattr(client, name) for name in ("number", "path", "servers", "node", "turns")}


@contextmanager
def two(folder: str, keys: str) -> Iterator[list[Server]]:
    servers: list[Server] = []
    try:
        for _ in range(2):
            servers.append(start(folder, "--keys", keys, patience=120))
        yield servers
    finally:
        for server in servers:
            kill(server)


@contextmanager
def working(clients: list[Watcher]) -> Iterator[Callable[[], None]]:
    """Context in which clients work; gives what waits until they have done some more."""
    enough, count, failures = threading.Event(), [0], list[BaseException]()

    def some_more() -> None:
        goal, end = count[0] + EDITS, time.monotonic() + PATIENCE
        while count[0] < goal and not failures:
            assert time.monotonic() < end, "the servers stand still"
            time.sleep(0.01)
        if failures:
            raise failures[0]

    threads = [threading.Thread(target=run, args=(client, enough, count, failures)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield some_more
    finally:
        enough.set()
        print(json.dumps(clients[0].line.heard, indent=1), clients[0].line.slowest)
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    if failures:
        raise failures[0]


def restart(database: Cluster, mode: str, away: float) -> None:
    """Stop the database, and start it again after some seconds."""
    database.stop(mode)
    time.sleep(away)
    database.start()
