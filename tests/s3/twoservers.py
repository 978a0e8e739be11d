"""Clients at work through two servers on one PostgreSQL and one bucket, each of which knows what must be there."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.crash.proofreader import BLOCK, LOST, Proofreader
from tests.serving import TOKEN, Server, post

CLIENTS = 3
SHARED = 2
"""Blocks of an image that all clients write."""


@dataclass
class Client(Proofreader):
    """Proofreads through two servers: what it does through one it looks for through the other; writes keys and images.

    Parameters
    ----------
    servers
        URLs of both.
    node
        URL of the version below them.
    turns
        Whose turn it is to write a shared block.
    """

    servers: list[str] = field(default_factory=list)
    node: str = ""
    turns: list[threading.Lock] = field(default_factory=list)
    keys: dict[str, bytes] = field(default_factory=dict)
    under_way: tuple[str, bytes | None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at = 0
        self.lines: dict[int, http.client.HTTPConnection] = {}
        self.serial = itertools.count(1)

    def connect(self, url: str) -> None:
        for line in self.lines.values():
            line.close()
        self.lines = {}

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if method == "POST":
            self.at = int(self.rng.integers(2))
        return self.through(self.at if method == "POST" else 1 - self.at, method, f"{self.path}/{path}", body)

    def through(self, at: int, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request to one of the servers; what is not there is empty."""
        status, content = self.answer(at, method, path, body)
        if (method, status) == ("GET", 404):
            return b""
        assert status == 200, (method, path, status, content)
        return content

    def answer(self, at: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of what one of the servers says."""
        if at not in self.lines:
            place = urlsplit(self.servers[at])
            self.lines[at] = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        self.lines[at].request(method, path, body)
        answer = self.lines[at].getresponse()
        return answer.status, answer.read()

    def work_on(self, enough: threading.Event, count: list[int]) -> None:
        """Edit, write keys and blocks, until told to stop or until a server is gone."""
        self.connect("")
        try:
            while not enough.is_set():
                edits = (self.merge, self.cleave, self.post, self.overwrite, self.cut, self.split, self.undo)
                self.rng.choice(edits)()
                self.begun = None
                self.write_key()
                self.write_shared()
                self.acknowledged += 1
                count[0] += 1
        except LOST:
            self.connect("")

    def write_key(self) -> None:
        name = f"{self.number}-{self.rng.integers(4)}"
        value = None if name in self.keys and self.rng.random() < 0.2 else b"%d/%d" % (self.number, next(self.serial))
        at = int(self.rng.integers(2))
        self.under_way = name, value
        self.through(at, "DELETE" if value is None else "POST", f"{self.node}/notes/key/{name}", value)
        self._key_is(name, value)
        assert self.through(1 - at, "GET", f"{self.node}/notes/key/{name}") == (value or b""), "a key is stale"

    def _key_is(self, name: str, value: bytes | None) -> None:
        self.under_way = None
        self.keys.pop(name, None)
        if value is not None:
            self.keys[name] = value

    def write_shared(self) -> None:
        """Whole blocks that others write too; one at a time, so that it is known which is the last."""
        place, value = int(self.rng.integers(SHARED)), int(self.rng.integers(1, 256))
        path = f"{self.node}/gray/raw/0_1_2/{BLOCK}_{BLOCK}_{BLOCK}/{BLOCK * place}_0_0"
        at = int(self.rng.integers(2))
        voxels = bytes([value]) * BLOCK**3
        with self.turns[place]:
            self.through(at, "POST", path, voxels)
            assert self.through(1 - at, "GET", path) == voxels, "voxels are stale"

    def look(self) -> None:
        """Hold both servers against what was acknowledged."""
        self.connect("")
        for self.at in (0, 1):
            self.check("")
        if self.under_way is not None:
            name, value = self.under_way
            if self.through(0, "GET", f"{self.node}/notes/key/{name}") == (value or b""):
                self._key_is(name, value)
            self.under_way = None
        for at in (0, 1):
            for name, value in self.keys.items():
                assert self.through(at, "GET", f"{self.node}/notes/key/{name}") == value, "a key is lost"
            names = json.loads(self.through(at, "GET", f"{self.node}/notes/keys"))
            assert {n for n in names if n.startswith(f"{self.number}-")} == set(self.keys)


def run(client: Client, enough: threading.Event, count: list[int], failures: list[BaseException]) -> None:
    try:
        client.work_on(enough, count)
    except BaseException as e:  # noqa: BLE001 - raised again in the test's own thread
        failures.append(e)


def prepare(servers: list[Server]) -> tuple[str, list[Client]]:
    """A repo with an instance of each kind, and its clients, whose first state is stored."""
    one = servers[0].url
    root = post(f"{one}/api/repos?admintoken={TOKEN}", {"alias": "two"})["root"]
    seg = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "2"}
    gray = {"typename": "uint8blk", "dataname": "gray", "BlockSize": f"{BLOCK},{BLOCK},{BLOCK}"}
    for settings in (seg, gray, {"typename": "keyvalue", "dataname": "notes"}):
        post(f"{one}/api/repo/{root}/instance", settings)
    time.sleep(2)  # until the other server looks for new repos
    turns, urls = [threading.Lock() for _ in range(SHARED)], [s.url for s in servers]
    clients = [
        Client(n + 1, f"/api/node/{root}/seg", servers=urls, node=f"/api/node/{root}", turns=turns)
        for n in range(CLIENTS)
    ]
    for client in clients:
        client.paint_all()
    return root, clients
