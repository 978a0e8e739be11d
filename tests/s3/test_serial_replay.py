"""Two API servers on one PostgreSQL and one bucket, clients that edit the same bodies, blocks and keys, `kill -9`.

All that was answered, and all that is left, is what one server would have made of the same changes one after the other.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import vzarr
from tests.postgres import database
from tests.s3.replaying import ACKNOWLEDGED, REFUSED, Block, Change, Look, State, replay
from tests.serving import TOKEN, Server, kill, post, start
from tests.types.labelmap.labelmodel import Model
from vzarr.cli import main
from vzarr.types import mutations, registry
from vzarr.types.blockstreams import pack_stream
from vzarr.types.bytecodecs import gzip_raw
from vzarr.types.labelmap.blocks import encode_block
from vzarr.types.labelmap.sparsevol import encode_rles

pytestmark = [pytest.mark.postgres, pytest.mark.crash]

BLOCK, SHAPE = 16, (2, 2, 2)
CLIENTS = 4
KEYS = 4
LABELS = 24
PATIENCE = 300
"""Seconds in which the changes of one life must be made."""
GONE = (ConnectionError, http.client.HTTPException, TimeoutError)
WEIGHTS = {
    "merge": 22, "cleave": 20, "cut": 8, "split": 6, "post": 12, "renumber": 6, "put_key": 10, "delete_key": 3,
    "put_record": 10, "delete_record": 3,
}  # fmt: skip


@pytest.fixture
def keys(postgres_server: str) -> Iterator[str]:
    with database(postgres_server) as url:
        yield url


def test_one_history_through_two_servers(url: str, keys: str):
    assert live_and_die(url, keys, edits=60, deaths=2) > 100


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_one_history_through_two_servers_and_twenty_deaths(url: str, keys: str):
    assert live_and_die(url, keys, edits=100, deaths=20) > 2000


class RefusedError(Exception):
    """The server would not do it."""


@dataclass
class Client:
    """Edits what all edit, each time through one of the servers, and then reads through the other.

    Parameters
    ----------
    number
        Which client.
    servers
        URLs of both, changed when one comes back.
    node
        Path of the version.
    """

    number: int
    servers: list[str]
    node: str
    changes: list[Change] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.number)
        self.lines: dict[int, http.client.HTTPConnection] = {}
        self.serial = itertools.count(1)

    # -- talking

    def hang_up(self) -> None:
        for line in self.lines.values():
            line.close()
        self.lines = {}

    def through(self, at: int, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request to one of the servers; b"" for what is not there."""
        if at not in self.lines:
            place = urlsplit(self.servers[at])
            self.lines[at] = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        self.lines[at].request(method, f"{self.node}/{path}", body)
        answer = self.lines[at].getresponse()
        content = answer.read()
        if (method, answer.status) == ("GET", 404):
            return b""
        if answer.status in (400, 404, 409):
            raise RefusedError(content.decode())
        assert answer.status == 200, (method, path, answer.status, content)
        return content

    def ask(self, at: int, path: str, body: Any = None) -> Any:
        return json.loads(self.through(at, "GET", path, None if body is None else json.dumps(body).encode()) or b"null")

    def change(self, kind: str, what: dict[str, Any], method: str, path: str, body: bytes) -> Change:
        """Ask for a change, and note how that ended; what becomes of one whose server is killed, the log tells."""
        tag, at = f"{self.number}-{next(self.serial)}", int(self.rng.integers(2))
        made = Change(tag, kind, what, time.monotonic())
        self.changes.append(made)
        query = f"{'&' if '?' in path else '?'}u=client-{self.number}&app={tag}"
        try:
            content = self.through(at, method, path + query, body)
        except RefusedError:
            made.end, made.done = REFUSED, time.monotonic()
            raise
        made.end, made.done = ACKNOWLEDGED, time.monotonic()
        made.answer = json.loads(content) if content[:1] == b"{" else None
        self.other = 1 - at
        return made

    def look(self, kind: str, what: Any, value: Any, sent: float) -> None:
        self.looks.append(Look(kind, what, sent, time.monotonic(), value))

    # -- working

    def work(self, enough: threading.Event, count: list[int]) -> None:
        """Edit and read until told to stop, or until a server is gone."""
        self.hang_up()
        kinds, weights = list(WEIGHTS), np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())
        while not enough.is_set():
            try:
                getattr(self, str(self.rng.choice(kinds, p=weights)))()
                count[0] += 1
            except RefusedError:
                continue
            except GONE:
                self.hang_up()
                return

    def see_block(self, at: int) -> tuple[Block, np.ndarray, dict[int, int]]:
        """A block, its supervoxels, and their bodies a moment later."""
        coord: Block = tuple(int(self.rng.integers(n)) for n in SHAPE)
        voxels = self.look_at(at, coord)
        svs = [sv for sv in np.unique(voxels).tolist() if sv]
        return coord, voxels, dict(zip(svs, self.look_up(at, svs), strict=True))

    def look_at(self, at: int, coord: Block) -> np.ndarray:
        sent = time.monotonic()
        z, y, x = (BLOCK * c for c in coord)
        raw = self.through(at, "GET", f"seg/raw/0_1_2/{BLOCK}_{BLOCK}_{BLOCK}/{x}_{y}_{z}?supervoxels=true")
        self.look("voxels", coord, raw, sent)
        return np.frombuffer(raw, "<u8").reshape((BLOCK,) * 3)

    def look_up(self, at: int, supervoxels: list[int]) -> list[int]:
        sent = time.monotonic()
        bodies = self.ask(at, "seg/mapping?nolookup=true", supervoxels)
        self.look("mapping", supervoxels, bodies, sent)
        return bodies

    def label(self) -> int:
        """A label that nobody else has."""
        if not self.fresh:
            made = self.change("reserve", {"count": 5}, "POST", "seg/nextlabel/5", b"")
            self.fresh += range(made.answer["start"], made.answer["end"] + 1)
        return self.fresh.pop()

    # -- labels

    def bodies_in(self, bodies: dict[int, int]) -> list[int]:
        return sorted(set(bodies.values()) - {0})

    def merge(self) -> None:
        _, _, seen = self.see_block(int(self.rng.integers(2)))
        bodies = self.bodies_in(seen)
        if len(bodies) < 4:
            raise RefusedError("too few bodies are left to merge")
        target, *others = self.rng.permutation(bodies)[: self.rng.integers(2, 4)].tolist()
        what = {"target": target, "others": others}
        self.change("merge", what, "POST", "seg/merge", json.dumps([target, *others]).encode())
        self.look_up(self.other, [sv for sv, body in seen.items() if body in (target, *others)])

    def cleave(self) -> None:
        _, _, seen = self.see_block(int(self.rng.integers(2)))
        body = int(self.rng.choice(self.bodies_in(seen) or [0]))
        svs = [sv for sv, there in seen.items() if there == body]
        some = self.rng.permutation(svs)[: max(1, len(svs) // 2)].tolist()
        what = {"body": body, "supervoxels": some}
        self.change("cleave", what, "POST", f"seg/cleave/{body}", json.dumps(some).encode())
        self.look_up(self.other, svs)

    def renumber(self) -> None:
        _, _, seen = self.see_block(int(self.rng.integers(2)))
        new, old = self.label(), int(self.rng.choice(self.bodies_in(seen) or [0]))
        self.change("renumber", {"new": new, "old": old}, "POST", "seg/renumber", json.dumps([new, old]).encode())
        self.look_up(self.other, [*seen, new])

    def cut(self) -> None:
        coord, voxels, seen = self.see_block(int(self.rng.integers(2)))
        sv = int(self.rng.choice(list(seen) or [0]))
        flat, rles = self._part(coord, voxels == sv)
        self.change("cut", {"supervoxel": sv, "voxels": flat}, "POST", f"seg/split-supervoxel/{sv}", rles)
        self.look_at(self.other, coord)
        self.look_up(self.other, [sv])

    def split(self) -> None:
        coord, voxels, seen = self.see_block(int(self.rng.integers(2)))
        body = int(self.rng.choice(self.bodies_in(seen) or [0]))
        flat, rles = self._part(coord, np.isin(voxels, [sv for sv, there in seen.items() if there == body]))
        self.change("split", {"body": body, "voxels": flat}, "POST", f"seg/split/{body}", rles)
        self.look_at(self.other, coord)
        self.look_up(self.other, list(seen))

    def _part(self, coord: Block, inside: np.ndarray) -> tuple[np.ndarray, bytes]:
        """Some of the voxels of a block: their places in the volume, and as runs."""
        whole = np.zeros([BLOCK * n for n in SHAPE], np.uint64)
        chosen = inside & (self.rng.random(inside.shape) < self.rng.choice([0.1, 0.5]))
        whole[tuple(slice(BLOCK * c, BLOCK * (c + 1)) for c in coord)] = chosen
        flat = np.flatnonzero(whole)
        return flat, bytes(encode_rles(Model(whole).runs(flat, (0, 0, 0))))

    def post(self) -> None:
        """Whole blocks, that others write too, of labels that are there, that once were, and new ones."""
        coord, voxels, seen = self.see_block(int(self.rng.integers(2)))
        coords = list(dict.fromkeys([coord, *(tuple(self.rng.integers(SHAPE).tolist()) for _ in range(2))]))
        labels = [0, self.label(), *seen, int(self.rng.integers(1, LABELS))]
        blocks = {c: np.kron(self.rng.choice(labels, (4, 4, 4)), np.ones((4, 4, 4), int)).astype("<u8") for c in coords}
        blocks[coord][::2] = voxels[::2]
        if self.rng.random() < 0.3:
            (z, y, x), blocks = coord, {coord: blocks[coord]}
            path, body = (
                f"raw/0_1_2/{BLOCK}_{BLOCK}_{BLOCK}/{BLOCK * x}_{BLOCK * y}_{BLOCK * z}",
                blocks[coord].tobytes(),
            )
        else:
            items = (((x, y, z), gzip_raw(encode_block(b))) for (z, y, x), b in blocks.items())
            path, body = "blocks?downres=true", pack_stream(items)
        self.change("post", {"blocks": blocks}, "POST", f"seg/{path}", body)
        for each in blocks:
            self.look_at(self.other, each)

    # -- keys

    def put_key(self) -> None:
        key, value = f"k{self.rng.integers(KEYS)}", f"{self.number}: {next(self.serial)}"
        self.change("put_key", {"key": key, "value": value}, "POST", f"notes/key/{key}", value.encode())
        self._look_for(key)

    def delete_key(self) -> None:
        key = f"k{self.rng.integers(KEYS)}"
        self.change("delete_key", {"key": key}, "DELETE", f"notes/key/{key}", b"")
        self._look_for(key)

    def _look_for(self, key: str) -> None:
        sent = time.monotonic()
        self.look("key", key, self.through(self.other, "GET", f"notes/key/{key}").decode(), sent)

    def put_record(self) -> None:
        body, replace = str(self.rng.integers(1, KEYS)), bool(self.rng.random() < 0.2)
        fields = {f"f{self.rng.integers(3)}": f"{self.number}: {next(self.serial)}"}
        what = {"body": body, "fields": fields, "replace": replace}
        content = json.dumps({"bodyid": int(body), **fields}).encode()
        self.change("put_record", what, "POST", f"said/key/{body}?replace={str(replace).lower()}", content)
        self._look_at_record(body)

    def delete_record(self) -> None:
        body = str(self.rng.integers(1, KEYS))
        self.change("delete_record", {"body": body}, "DELETE", f"said/key/{body}", b"")
        self._look_at_record(body)

    def _look_at_record(self, body: str) -> None:
        sent = time.monotonic()
        found = self.ask(self.other, f"said/key/{body}") or {}
        self.look("record", body, {k: v for k, v in found.items() if k[:1] == "f"}, sent)


# ---------------------------------------------------------------- the test


def live_and_die(url: str, keys: str, edits: int, deaths: int) -> int:
    """Let clients edit through two servers and kill one of these now and then; how many changes there were."""
    folder, chance = url.rsplit("/", 1)[0], random.Random(11)
    servers = [start(folder, "--keys", keys, patience=120) for _ in range(2)]
    clients: list[Client] = []
    try:
        root, volume = prepare(servers[0].url)
        clients += [Client(n + 1, [s.url for s in servers], f"/api/node/{root}") for n in range(CLIENTS)]
        for _ in range(deaths):
            dies = chance.randrange(2)
            live(clients, edits, chance, servers[dies])
            servers[dies] = start(folder, "--keys", keys, patience=120)
            for client in clients:
                client.servers[:] = [s.url for s in servers]
        state = State(Model(volume.copy()), BLOCK)
        with vzarr.open(f"{folder}/{root}") as repo:
            handles = [registry.open_instance(repo.root, name) for name in ("seg", "notes", "said")]
            handles[0].recover()  # what the last one to die left half done
            log = [json.loads(r) for handle in handles for r in mutations.read(handle)]
        changes = [change for client in clients for change in client.changes]
        looks = [look for client in clients for look in client.looks]
        count = replay(state, changes, looks, log)
        for n in range(2):
            compare(clients[0], n, state)
    finally:
        for client in clients:
            client.hang_up()
        for server in servers:
            kill(server)
    assert main(["verify", f"{folder}/{root}", "--labels"]) == 0
    return count


def live(clients: list[Client], edits: int, chance: random.Random, server: Server) -> None:
    """Let all work, and kill a server in the middle."""
    enough, count = threading.Event(), [0]
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            client.work(enough, count)
        except BaseException as e:  # noqa: BLE001 - raised again in the test's own thread
            failures.append(e)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while count[0] < edits and time.monotonic() < began + PATIENCE and not failures:
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.2))
    kill(server)
    time.sleep(chance.uniform(0, 0.5))  # some go on through the other
    enough.set()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a client hangs"
    if failures:
        raise failures[0]
    assert count[0] >= edits, "the servers stand still"
    print(f"{count[0]} changes in {time.monotonic() - began:.1f} s", Counter(c.end for k in clients for c in k.changes))


def prepare(url: str) -> tuple[str, np.ndarray]:
    """A repo with labels, keys and records, the labels painted; its root, and what was painted."""
    root = post(f"{url}/api/repos?admintoken={TOKEN}", {"alias": "replay"})["root"]
    seg = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "2"}
    others = ({"typename": "keyvalue", "dataname": "notes"}, {"typename": "neuronjson", "dataname": "said"})
    for settings in (seg, *others):
        post(f"{url}/api/repo/{root}/instance", settings)
    cells = np.random.default_rng(5).integers(0, LABELS + 1, [4 * n for n in SHAPE])
    volume = np.kron(cells, np.ones((4, 4, 4), int)).astype(np.uint64)
    client = Client(0, [url, url], f"/api/node/{root}")
    size = "_".join(str(BLOCK * n) for n in reversed(SHAPE))
    client.through(0, "POST", f"seg/raw/0_1_2/{size}/0_0_0", volume.astype("<u8").tobytes())
    client.hang_up()
    time.sleep(2)  # until the other server looks for new repos
    return root, volume


def compare(client: Client, at: int, state: State) -> None:
    """What is left, through one server, against the model."""
    client.hang_up()
    model = state.labels
    for coord in np.ndindex(SHAPE):
        assert client.look_at(at, coord).tobytes() == state.says(Look("voxels", coord, 0, 0, None))
    known = sorted(model.body.keys() | model.where.keys())
    assert client.look_up(at, known) == [model.body_of(sv) for sv in known]
    sizes = model.sizes()
    assert client.ask(at, "seg/sizes", list(sizes)) == list(sizes.values())
    gone = [body for body in known if body not in sizes]
    assert client.ask(at, "seg/sizes", gone) == [0] * len(gone)
    assert json.loads(client.through(at, "GET", "notes/keys")) == sorted(state.keys)
    for key, value in state.keys.items():
        assert client.through(at, "GET", f"notes/key/{key}").decode() == value
    assert json.loads(client.through(at, "GET", "said/keys")) == sorted(state.records)
    for body, fields in state.records.items():
        found = client.ask(at, f"said/key/{body}")
        assert {k: v for k, v in found.items() if k[:1] == "f"} == fields
