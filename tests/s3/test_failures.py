"""What goes wrong with an object store: lost answers, refused credentials, a server that is gone, forks."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from fsspec.config import conf

import vzarr
from tests.s3 import servers
from tests.s3.conftest import make_bucket, options
from tests.s3.proxies import LossyProxy
from tests.s3.servers import Server
from vzarr.errors import AlreadyExistsError, SealedError, StorageError, VzarrError
from vzarr.overlay import layout, opening
from vzarr.overlay.care.verify import verify
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import Entry, Op
from vzarr.overlay.keys import writers
from vzarr.overlay.objects import remote
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.remote import RemoteObjects
from vzarr.types import registry

CHUNK = np.full((4, 4), 7, "u2")
CONTENDED = ("/vzarr.json", "/log/0", "/seal.json", "/claims/")
"""Parts of the keys that several writers may race for."""


class Loser:
    """Loses the first answer to each contended PUT, or to everything that changes something."""

    def __init__(self, *, everything: bool = False) -> None:
        self.everything = everything
        self.seen: set[bytes] = set()

    def __call__(self, head: bytes) -> bool:
        line = head.split(b"\r\n", 1)[0]
        contended = line.startswith(b"PUT") and any(part.encode() in line for part in CONTENDED)
        changes = self.everything and not line.startswith((b"GET", b"HEAD"))
        if not (contended or changes) or line in self.seen:
            return False
        self.seen.add(line)
        return True


@pytest.fixture
def lossy(server: Server, told: pytest.MonkeyPatch) -> Iterator[LossyProxy]:
    """All requests of this process pass a proxy that loses the first answer to every contended PUT."""
    proxy = LossyProxy(server.port, Loser())
    told.setitem(conf, "s3", options(server, endpoint_url=proxy.endpoint))
    yield proxy
    proxy.close()


def test_a_winner_whose_answer_was_lost_knows_that_it_won(url: str, keys: str, lossy: LossyProxy, lane: str):
    with vzarr.create(url, alias="mine", keys=keys) as repo:
        version = repo.root
        version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
        version.write("a", (0, 0), CHUNK)
        version.commit("sealed")
        child = version.newversion("open")
        version.branch("side")
        version.tag("v1")
        repo.record_instance(child, "keys", "keyvalue")
        repo.add_log(["a line"])
        child.write("a", (0, 0), CHUNK * 2)
        child.commit()
        repo.merge([child, repo["v1"]], note="merged")
        assert repo.objects.create("claims/1", b"mine")
        assert not repo.objects.create("claims/1", b"yours")
    with vzarr.open(url) as repo:
        entries = repo.log()
        assert (repo.state.alias, repo["side"].note, repo["v1"].sealed) == ("mine", "", True)
        assert [op["op"] for e in entries for op in e.ops if op["op"] in ("repo", "instance", "repo_log")].count(
            "repo"
        ) == 1
        assert len({e.id for e in entries}) == len(entries) == len([p for p in lossy.lost if "/log/0" in p])
        assert np.array_equal(repo["master~1"].read("a", (0, 0), (4, 4)), CHUNK * 2)
    assert any("vzarr.json" in p for p in lossy.lost)
    with pytest.raises(AlreadyExistsError):
        vzarr.create(url, keys=keys)


@pytest.fixture
def lossier(server: Server, told: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> Iterator[LossyProxy]:
    """All requests of this process pass a proxy that loses the first answer to every request that changes something."""
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    proxy = LossyProxy(server.port, Loser(everything=True))
    told.setitem(conf, "s3", options(server, endpoint_url=proxy.endpoint))
    yield proxy
    proxy.close()


def test_every_change_succeeds_though_its_first_answer_was_lost(
    url: str, keys: str, tmp_path: Path, lossier: LossyProxy, lane: str
):
    zarr.create_array(tmp_path / "em", shape=(8,), chunks=(4,), dtype="u2")[:] = 9
    with vzarr.create(url, keys=keys) as repo:
        root = repo.root
        registry.create(root, "notes", "keyvalue").put("k", b"1")
        repo.adopt("em", str(tmp_path / "em"), typename="zarr", pin=True)
        root.create_array("g/a", dtype="u2", chunks=(4, 4), dimension_names=None)
        root.write("g/a", (-4, 0), np.tile(CHUNK, (2, 2)))
        root.create_group("gone/h")
        del root.zarr["gone"]
        root.rename("g", "moved")
        root.rename("em", "adopted")
        root.resize("moved/a", (0, 0), (4, 8))
        root.commit("first")
        sides = [root.newversion(), root.branch("side")]
        for n, side in enumerate(sides):
            side.write("moved/a", (0, 0), CHUNK + n)
            side["notes"].put("k", b"%d" % n)
            side.store.write("readme", b"%d" % n)
            side.commit()
        merged = repo.merge(sides, "theirs")
        merged.rename("moved/a", "b")
        merged.zarr.create_array("b", shape=(4,), chunks=(2,), dtype="u1", overwrite=True)[:] = 3
        repo.update_instance("notes", tags={"a": "b"})
        merged.commit().tag("v1")
        repo.garbage(0, delete=True)
    with vzarr.open(url) as repo:
        entries = repo.log()
        assert len({e.id for e in entries}) == len(entries)
        assert not list(verify(repo.objects))
        first, last = repo[root.uuid], repo["v1"]
        assert (first.zarr["moved/a"][...] == 7).all()
        assert first.bounds("moved/a") == ((0, 0), (4, 8))
        assert first.zarr["adopted/0"][:].tolist() == [9] * 8
        assert sorted(dict(first.zarr.members(max_depth=None))) == ["adopted", "adopted/0", "moved", "moved/a"]
        assert (repo["side"].read("moved/a", (0, 0), (4, 4)) == CHUNK + 1).all()
        assert last.zarr["b"][:].tolist() == [3] * 4
        assert (last["notes"].get("k"), last.store.read("readme")) == (b"1", (b"1", 1))
    assert {p.split(" ")[0] for p in lossier.lost} > {"PUT"}
    assert len(lossier.lost) > 60


def test_answers_lost_for_good_are_an_error_and_no_half_repo(
    url: str, keys: str, server: Server, told: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    lost = LossyProxy(server.port, lambda head: head.startswith(b"PUT"))
    told.setitem(conf, "s3", options(server, endpoint_url=lost.endpoint))
    with pytest.raises(StorageError, match="could not"):
        vzarr.create(url, alias="first", keys=keys)
    lost.close()
    told.setitem(conf, "s3", options(server))
    with pytest.raises(VzarrError, match="never finished"):
        vzarr.open(url)
    with vzarr.create(url, alias="second", keys=keys) as repo:
        assert repo.state.alias == "second"


def refused(use: Callable[[], object]) -> str:
    with pytest.raises(StorageError) as caught:
        use()
    return str(caught.value)


def test_credentials(repo: vzarr.Repo, server: Server, told: pytest.MonkeyPatch, lane: str):
    """Refused ones are no absence; those that were renewed are used without opening anything anew."""
    if server.kind == "moto":
        pytest.skip("moto's server lets everybody in")
    for wrong in ({"secret": "wrong"}, {"key": "nobody"}):
        told.setitem(conf, "s3", options(server, **wrong))
        objects = opening.open_objects(repo.url)
        for use in (
            lambda o=objects: o.get(layout.REPO),
            lambda o=objects: o.get("absent"),
            lambda o=objects: o.size("absent"),
            lambda o=objects: o.put("a", b"1"),
            lambda o=objects: o.create("a", b"1"),
            lambda o=objects: list(o.walk()),
        ):
            assert "credentials" in refused(use)
        assert "credentials" in refused(lambda: vzarr.open(repo.url))
        told.setitem(conf, "s3", options(server))
        assert objects.get(layout.REPO) is not None
    assert repo.objects.get("a") is None


def test_no_credentials_at_all(url: str, told: pytest.MonkeyPatch, server: Server, lane: str):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        told.delenv(name)
    told.setenv("AWS_EC2_METADATA_DISABLED", "true")
    told.setitem(conf, "s3", {"endpoint_url": server.endpoint})
    assert "credentials" in refused(lambda: vzarr.open(url))


@pytest.fixture
def mortal(tmp_path: Path, told: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of the test's own, which it may stop."""
    server = servers.versitygw(tmp_path)
    if server is None:
        pytest.skip("moto's server forgets everything when it stops")
    server.start()
    told.setitem(conf, "s3", options(server))
    yield server
    server.stop()


def test_a_server_that_goes_away_takes_nothing_that_was_acknowledged(
    mortal: Server, keys: str, told: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, lane: str
):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    make_bucket(mortal, "mortal")
    with vzarr.create("s3://mortal/repo", keys=keys) as repo:
        version = repo.root
        version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
        version.grow("a", (0, 0), (4, 4 * 2000))
        done: list[int] = []

        def write() -> None:
            for n in range(2000):
                try:
                    version.write_chunks("a", {(0, n): np.full((4, 4), n + 1, "u2")})
                except VzarrError:
                    return
                done.append(n)

        threads = [threading.Thread(target=write) for _ in range(1)]
        for thread in threads:
            thread.start()
        while len(done) < 30:
            time.sleep(0.005)
        mortal.stop()
        for thread in threads:
            thread.join(60)
        assert 30 <= len(done) < 2000
        assert "could not get" in refused(lambda: version.read("a", (0, 0), (4, 4)))
        with pytest.raises(VzarrError):
            version.commit()
        mortal.start()
        told.setitem(conf, "s3", options(mortal))
        found = dict(version.read_chunks("a", [(0, n) for n in done]))
        assert all(found[0, n][0, 0] == n + 1 for n in done)
        version.commit()
        assert all(version.read("a", (0, 4 * n), (4, 4 * n + 4))[0, 0] == n + 1 for n in done)


def _work(version: vzarr.Version, n: int) -> int:
    version.write_chunks("a", {(0, n): np.full((4, 4), n + 1, "u2")})
    return int(version.read("a", (0, 0), (1, 1))[0, 0])


def _forked(version: vzarr.Version, n: int) -> None:
    os._exit(0 if _work(version, n) == 1 else 1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")
def test_forked_workers(repo: vzarr.Repo, lane: str):
    """Children of a process with connections, threads and a lease read and write through the handles they inherit."""
    version = repo.root
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.grow("a", (0, 0), (4, 40))
    assert _work(version, 0) == 1
    processes = multiprocessing.get_context("fork")
    children = [processes.Process(target=_forked, args=(version, n)) for n in range(1, 5)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert _work(version, 5) == 1
    version.commit()
    assert version.read("a", (0, 0), (1, 24))[0, ::4].tolist() == [1, 2, 3, 4, 5, 6]


def test_dask_workers(repo: vzarr.Repo):
    """Versions travel in pickles to processes that open the repo themselves."""
    dask = pytest.importorskip("dask")
    version = repo.root
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.grow("a", (0, 0), (4, 40))
    tasks = [dask.delayed(_work)(version, n) for n in range(4)]
    with dask.config.set({"multiprocessing.context": "spawn"}):
        dask.compute(*tasks, scheduler="processes", num_workers=2)
    version.commit()
    assert version.read("a", (0, 0), (1, 16))[0, ::4].tolist() == [1, 2, 3, 4]


def test_a_writer_that_stalls_past_its_lease_changes_nothing(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writers, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(writers, "MARGIN_SECONDS", 0.1)
    monkeypatch.setattr(RemoteObjects, "late_seconds", 0.4)
    version = repo.root
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.write("a", (0, 0), CHUNK)
    stalled = vzarr.open(repo.url)
    outcome: list[object] = []
    go = threading.Event()

    def write() -> None:
        try:
            with stalled.authority.writer(version.uuid).write() as stage:
                outcome.append("began")
                go.wait(20)
                stalled.objects.put(f"{layout.zarr(version.uuid)}/a/c/0/0", b"late", stage=stage)
            outcome.append("acknowledged")
        except VzarrError as e:
            outcome.append(e)

    thread = threading.Thread(target=write)
    thread.start()
    while not outcome:
        time.sleep(0.01)
    began = time.monotonic()
    version.commit()
    assert time.monotonic() - began > 0.5
    go.set()
    thread.join(20)
    stalled.close()
    assert isinstance(outcome[-1], SealedError)
    assert np.array_equal(version.read("a", (0, 0), (4, 4)), CHUNK)


def test_what_arrives_after_the_seal_is_found_and_not_seen(repo: vzarr.Repo):
    version = repo.root
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.grow("a", (0, 0), (8, 8))
    version.write("a", (0, 0), CHUNK)
    version.commit()
    child = version.newversion()
    child.write("a", (0, 0), CHUNK * 2)
    child.commit()
    place = next(k for k, _ in repo.objects.walk(f"{layout.zarr(child.uuid)}") if k.endswith("c/0/0"))
    late = place.removesuffix("0/0") + "1/1"
    repo.objects.put(late, repo.objects.get(place))
    with vzarr.open(repo.url) as fresh:
        assert not fresh["master"].read("a", (4, 4), (8, 8)).any()
        assert (0, 0) in {tuple(c) for c in fresh["master"].chunk_coords("a").tolist()}
        assert (1, 1) not in {tuple(c) for c in fresh["master"].chunk_coords("a").tolist()}
    assert {f.key for f in verify(repo.objects)} == {late}


def test_many_versions_open_in_eight_requests(bucket: str, keys: str, lane: str):
    """10,000 versions, made in memory and copied; and at every age of the hint."""
    memory = opening.open_objects(f"memory://{uuid.uuid4().hex}")
    url = f"s3://{bucket}/{uuid.uuid4().hex[:8]}/deep"
    with vzarr.create(url, keys=keys) as repo:
        first = repo.log()[0]
        meta = repo.objects.get(layout.REPO)
        root = repo.uuid
    total = build_history(memory, meta, first, root, 10_000)
    remote = opening.open_objects(url)
    wanted = [layout.LATEST, *sorted(k for k, _ in memory.walk("log") if "checkpoint" in k)[-2:]]
    names = wanted + [layout.log_entry(n) for n in range(total - 10, total)]
    for name in names:
        remote.put(name, memory.get(name))
    for more in range(9):
        with vzarr.open(url) as repo:
            assert len(repo._log._state.nodes) == 10_000
            assert isinstance(repo.objects, RemoteObjects)
            assert repo.objects.requests.total() <= 8
            repo.add_log([f"line {more}"])


def build_history(objects: Objects, meta: bytes, first: Entry, root: str, versions: int) -> int:
    """A log of a chain of versions, each sealed, sixteen an entry; gives the number of entries."""
    objects.put(layout.REPO, meta)
    log = RepoLog(objects)
    log.publish(lambda _state: first.ops)
    node, made = root, 1
    while made < versions:
        ops: list[Op] = []
        for _ in range(min(16, versions - made)):
            ops.append({"op": "seal", "id": node, "sha256": "0" * 64})
            parent, node, made = node, f"{made:032x}", made + 1
            ops.append({"op": "node", "id": node, "parents": [parent], "branch": "", "note": ""})
        log.publish(lambda _state, ops=ops: ops)
    return log.refresh().next
