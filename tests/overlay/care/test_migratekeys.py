"""Keys that move to another store: nothing is lost, nobody writes meanwhile, and whoever had them open notices."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from tests.postgres import database
from vzarr.cli import main
from vzarr.errors import AuthorityUnavailableError, InvalidInputError
from vzarr.jobs.records import Records
from vzarr.overlay import layout, opening
from vzarr.overlay.care.migratekeys import migrate
from vzarr.overlay.care.verify import verify
from vzarr.overlay.keys import authority, handover
from vzarr.types import blobs, registry

CONFIG = {"BlockSize": "32,32,32"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RENEW_SECONDS", "LOOK_SECONDS"):
        for module in (authority, sys.modules.get("vzarr.overlay.keys.writers")):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 0.1)


@pytest.fixture
def repo(file_repo: vzarr.Repo) -> vzarr.Repo:
    """Two sealed versions, an open one, and keys of every kind."""
    root = file_repo.root
    root.create_instance("seg", "labelmap", config=CONFIG).write((0, 0, 0), np.ones((32, 32, 64), np.uint64))
    root.create_instance("notes", "keyvalue").put("a", b"1")
    root.create_instance("loose", "keyvalue", versioned=False).put("a", b"1")
    root.create_instance("spots", "labelmap", config=CONFIG, versioned=False).write(
        (0, 0, -32), np.full((32, 32, 32), 5, np.uint64)
    )
    second = root.commit().newversion()
    second["notes"].put("b", b"2")
    tip = second.commit().newversion()
    tip["notes"].put("c", b"3")
    tip["notes"].delete("a")
    tip["seg"].write((0, 0, 0), np.full((32, 32, 32), 7, np.uint64))
    tip.create_array("plain", dtype="u1", chunks=(8,))
    tip.store.write("readme.txt", b"x")
    blobs.put(tip, b"a blob")
    return file_repo


def contents(repo: vzarr.Repo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for version in repo.versions():
        for name in repo.state.instances:
            found[f"{version.uuid} {name}"] = dict(version.keys(name).scan())
        found[version.uuid] = sorted(version.store.names(""))
        found[f"{version.uuid} voxels"] = version["seg"].read((0, 0, 0), (32, 32, 64)).tobytes()
    return found


@pytest.fixture(params=["sqlite", "lmdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Another place for keys."""
    if request.param == "postgres":
        with database(request.getfixturevalue("postgres_server")) as found:
            yield found
    else:
        if request.param == "lmdb":
            pytest.importorskip("lmdb")
        yield f"{request.param}:///{tmp_path}/elsewhere"


def test_there_and_back_again(repo: vzarr.Repo, url: str):
    before, number = contents(repo), repo["master"].uuid
    repo.close()
    objects, told = opening.open_objects(repo.url), list[int]()
    done = migrate(objects, url, progress=lambda total, size: told.append(size))
    assert (done.url, done.left, done.rows > 50, len(told) > 0) == (
        opening.check_keys(objects, url),
        "embedded",
        True,
        True,
    )
    with vzarr.open(repo.url) as moved:
        assert contents(moved) == before
        assert blobs.get(moved["master"], blobs.reference(b"a blob")) == b"a blob"
        tip = moved["master"]
        assert tip.uuid == number
        tip["seg"].merge(7, [1])
        tip["notes"].put("d", b"4")
        tip["loose"].put("b", b"2")
        assert list(registry.verify(tip)) == []
        label = tip["seg"].reserve_labels(1)[0]
        before = contents(moved)
    assert migrate(objects, "embedded", drop=True).left == done.url
    with vzarr.open(repo.url) as back:
        assert contents(back) == before
        tip = back["master"]
        assert tip["seg"].reserve_labels(1)[0] > label
        tip.commit().newversion()["notes"].put("e", b"5")
        assert list(verify(back.objects)) == []
        assert len(back.state.moved) == 2
        assert len([e for e in back.log() if e.ops[0]["op"] == "keys_moved"]) == 2
    with pytest.raises(AuthorityUnavailableError):
        opening.open_authority(objects, {**opening.read_meta(objects), "keys": {"id": "0" * 32, "url": done.url}})


def test_whoever_had_the_keys_open_is_told(repo: vzarr.Repo, tmp_path: Path):
    tip, sealed = repo["master"], repo.root
    seen, voxels = contents(repo), tip["seg"]
    migrate(opening.open_objects(repo.url), f"sqlite:///{tmp_path}/keys.sqlite")
    with vzarr.open(repo.url) as fresh:
        assert contents(fresh) == seen
        fresh["master"]["notes"].put("z", b"9")
        child = fresh.root.branch("side")
        for use in (
            lambda: tip.store.write("x", b"y"),
            lambda: tip.zarr["plain"][:],
            lambda: tip["notes"].put("x", b"y"),
            lambda: tip["notes"].get("z"),
            lambda: tip["loose"].put("x", b"y"),
            lambda: sealed["spots"].write((0, 0, 0), np.ones((32, 32, 32), np.uint64)),
            lambda: tip.create_group("g"),
            lambda: voxels.write((0, 0, 0), np.ones((32, 32, 32), np.uint64)),
            lambda: tip.commit(),
            lambda: repo[child.uuid],
            lambda: Records.of(repo).add(repo.uuid, "push", {}),
        ):
            with pytest.raises(AuthorityUnavailableError, match="have moved"):
                use()
    np.testing.assert_array_equal(sealed.zarr["seg/0"][:], 1)


def test_nobody_writes_meanwhile_and_everybody_reads(repo: vzarr.Repo, tmp_path: Path):
    tip, seen = repo["master"], list[str]()

    def told(total: int | None, size: int) -> None:
        if seen:
            return
        for name, use in {
            "key": lambda: tip["notes"].put("x", b"y"),
            "loose": lambda: tip["loose"].put("x", b"y"),
            "group": lambda: tip.create_group("g"),
            "shared": lambda: repo.root["spots"].write((0, 0, 0), np.ones((32, 32, 32), np.uint64)),
            "chunk": lambda: tip["seg"].write((0, 0, 0), np.ones((32, 32, 32), np.uint64)),
            "fresh": lambda: repo.root.branch("side")["notes"].put("x", b"y"),
            "commit": lambda: tip.commit(),
        }.items():
            with pytest.raises(AuthorityUnavailableError, match="being moved"):
                use()
            seen.append(name)
        assert tip["notes"].get("c") == b"3"
        assert (tip["seg"].read((0, 0, 0), (32, 32, 32)) == 7).all()

    migrate(opening.open_objects(repo.url), f"sqlite:///{tmp_path}/keys.sqlite", progress=told)
    assert len(seen) == 7
    with vzarr.open(repo.url) as moved:
        assert (
            [*moved["side"].keys("notes").scan(b"kx", b"ky")]
            == [*moved["master"].keys("notes").scan(b"kx", b"ky")]
            == []
        )
        moved["side"]["notes"].put("x", b"y")
        moved["master"].commit()


def test_a_write_under_way_is_waited_for(repo: vzarr.Repo, tmp_path: Path):
    tip, begun, go = repo["master"], threading.Event(), threading.Event()

    def write() -> None:
        with tip.writing(), repo.authority.writer(layout.UNVERSIONED).write():
            begun.set()
            go.wait(20)
            tip.create_array("late", dtype="u1", chunks=(8,))
            tip["notes"].put("late", b"1")
            tip["loose"].put("late", b"1")
            tip["spots"].write((0, 0, 0), np.full((32, 32, 32), 6, np.uint64))

    with vzarr.open(repo.url) as other:
        writer = threading.Thread(target=write)
        writer.start()
        begun.wait(20)
        mover = threading.Thread(target=migrate, args=(other.objects, f"sqlite:///{tmp_path}/keys.sqlite"))
        mover.start()
        until = time.monotonic() + 20
        while handover.read(other.authority.kv) is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(AuthorityUnavailableError):
            other["master"]["notes"].put("x", b"y")
        go.set()
        writer.join(20)
        mover.join(20)
    with vzarr.open(repo.url) as moved:
        assert moved["master"]["notes"].get("late") == b"1"
        assert moved["master"].has_array("late")
        assert moved["master"]["loose"].get("late") == b"1"
        assert dict(moved["master"]["spots"].list_bodies()) == {5: 32**3, 6: 32**3}


@pytest.mark.parametrize("where", ["embedded", "sqlite:///rel/x", "memory://x", "postgresql://u:p@h/d", "ftp://x"])
def test_places_where_keys_cannot_go(repo: vzarr.Repo, where: str):
    with pytest.raises((InvalidInputError, AuthorityUnavailableError)):
        migrate(opening.open_objects(repo.url), where)
    repo["master"]["notes"].put("still", b"1")
    assert repo.state.moved == ()


def test_a_move_that_fails_leaves_all_as_it_was(repo: vzarr.Repo, url: str):
    def stop(total: int | None, size: int) -> None:
        raise KeyboardInterrupt

    objects, before = opening.open_objects(repo.url), objects_of(repo)
    with pytest.raises(KeyboardInterrupt):
        migrate(objects, url, progress=stop)
    assert objects_of(repo) == before
    repo["master"]["notes"].put("still", b"1")
    assert migrate(objects, url).rows > 50
    with vzarr.open(repo.url) as moved:
        assert moved["master"]["notes"].get("still") == b"1"
    repo.close()
    migrate(objects, "embedded")
    with pytest.raises(KeyboardInterrupt):
        migrate(objects, url, progress=stop)


def objects_of(repo: vzarr.Repo) -> dict[str, bytes | None]:
    return {k: repo.objects.get(k) for k, _ in repo.objects.walk() if not k.startswith("keys/")}


MOVER = """
import os, signal, sys
from vzarr.overlay import layout, opening
from vzarr.overlay.care import migratekeys

step, objects = sys.argv[3], opening.open_objects(sys.argv[1])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if step == "copying":
    migratekeys.migrate(objects, sys.argv[2], progress=die)
elif step == "whole":
    migratekeys.migrate(objects, sys.argv[2], switched=die)
else:
    setattr(*{"concluded": (type(objects), "put"), "named": (migratekeys, "_tell")}[step], die)
    migratekeys.migrate(objects, sys.argv[2])
"""


@pytest.mark.parametrize("step", ["copying", "whole", "concluded", "named"])
@pytest.mark.parametrize("back", [False, True])
def test_killed_at_any_step(repo: vzarr.Repo, tmp_path: Path, step: str, back: bool):
    elsewhere, before = f"sqlite:///{tmp_path}/elsewhere.sqlite", contents(repo)
    target = "embedded" if back else elsewhere
    if back:
        migrate(opening.open_objects(repo.url), elsewhere)
    repo.close()
    done = subprocess.run([sys.executable, "-c", MOVER, repo.url, target, step], check=False)
    assert done.returncode == -signal.SIGKILL
    with vzarr.open(repo.url) as again:
        if step == "concluded":
            with pytest.raises(AuthorityUnavailableError, match="migrate-keys"):
                again["master"]["notes"].put("x", b"y")
        else:
            assert contents(again) == before
            again["master"]["notes"].put("x", b"y")
            before = contents(again)
    if step == "named":
        with pytest.raises(InvalidInputError, match="already"):
            migrate(opening.open_objects(repo.url), target)
    else:
        migrate(opening.open_objects(repo.url), target)
    with vzarr.open(repo.url) as again:
        assert contents(again) == before
        assert opening.keys_named(opening.read_meta(again.objects))[0] == target
        again["master"]["notes"].put("y", b"z")
        again["master"].commit()
        assert list(verify(again.objects)) == []
    assert list(tmp_path.rglob("*.new")) == []


def test_by_the_command_line(repo: vzarr.Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(repo)
    repo.close()
    keys = f"sqlite:///{tmp_path}/keys.sqlite"
    assert main(["migrate-keys", repo.url, keys]) == 0
    assert "count no more" in capsys.readouterr().out
    assert main(["migrate-keys", repo.url, keys]) == 1
    assert main(["migrate-keys", repo.url, "embedded", "--drop", "--json"]) == 0
    with vzarr.open(repo.url) as again:
        assert contents(again) == before


def test_durability_goes_along(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo"), durability="fsync") as repo:
        repo.root.create_instance("notes", "keyvalue").put("a", b"1")
    for keys in (f"sqlite:///{tmp_path}/keys.sqlite", "embedded"):
        migrate(opening.open_objects(repo.url), keys)
        with vzarr.open(repo.url) as moved:
            assert moved.root["notes"].get("a") == b"1"
            assert opening.read_meta(moved.objects)["durability"] == "fsync"
