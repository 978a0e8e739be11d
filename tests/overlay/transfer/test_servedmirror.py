"""Mirrors of a server's repo, and in a server: the same promises as between folders, for administrators alone."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import orjson
import pytest

import vzarr
from tests.overlay.transfer.test_moment import contents, contents_of, labels
from tests.serving import TOKEN, Server, serving
from vzarr.cli import main
from vzarr.errors import (
    AlreadyExistsError,
    AuthorityUnavailableError,
    ForbiddenError,
    FormatError,
    InvalidInputError,
    StorageError,
)
from vzarr.overlay import layout, opening
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.keys import unversioned
from vzarr.overlay.transfer import taking
from vzarr.overlay.transfer.http import Host
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.servedmirror import ServedMirror
from vzarr.overlay.transfer.verbs import Transferred, push
from vzarr.types.labelmap.verify import check_index
from vzarr.types.registry import create


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path, Server, Path]]:
    """Two servers that all tests share, and their folders; the tests before leave them empty."""
    mine, theirs = tmp_path_factory.mktemp("mine"), tmp_path_factory.mktemp("theirs")
    with serving(mine) as first, serving(theirs) as second:
        yield first, mine, second, theirs


def make(url: Path | str) -> vzarr.Repo:
    """A sealed root, an open child, and data of no version."""
    repo = vzarr.create(str(url), alias="fly")
    root = repo.root
    create(root, "seg", "labelmap").write((0, 0, 0), np.concatenate([labels(1), labels(2)], 2))
    create(root, "notes", "keyvalue").put_many([("a", b"1"), ("gone", b"1")])
    create(root, "settings", "keyvalue", versioned=False).put("s", b"1")
    root.commit()
    tip = root.newversion()
    tip["seg"].merge(1, [2])
    tip["notes"].put("b", b"2")
    tip["settings"].put("t", b"2")
    return repo


@pytest.fixture
def sides(servers: tuple[Server, Path, Server, Path], tmp_path: Path) -> Iterator[dict[str, object]]:
    """A repo that the first server serves, and URLs of it and of its mirrors."""
    first, mine, second, theirs = servers
    with make(tmp_path / "made") as repo:
        root = repo.uuid
    (tmp_path / "made").rename(mine / root)
    with vzarr.open(str(mine / root)) as repo:
        yield {
            "repo": repo, "served": f"{first.url}/{root}", "file": str(tmp_path / "mirror"),
            "there": f"{second.url}/{root}", "folder": str(theirs / root), "second": second,
        }  # fmt: skip


def copy(source: str, target: str, *, opened: bool = True, token: str = TOKEN) -> Transferred:
    with open_place(source, token) as here, open_place(target, token) as there:
        return mirror(here, there, opened=opened)


WAYS = {
    "file to server": ("repo", "there"), "server to file": ("served", "file"), "server to server": ("served", "there"),
}  # fmt: skip


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, sides) -> tuple[vzarr.Repo, str, str, str]:
    """A repo, URLs of the source and of the mirror to be, and the folder where that lies."""
    source, target = WAYS[request.param]
    repo = sides["repo"]
    folder = sides["folder"] if target == "there" else sides["file"]
    return repo, repo.url if source == "repo" else sides[source], sides[target], folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests that this process sends to routes of mirrors: method and what follows ``/mirror/``."""
    found: Counter[str] = Counter()
    real = Host.ask

    def noted(self: Host, method: str, path: str, *more: object) -> object:
        kind = path.partition("?")[0].partition("/mirror/")[2]
        found[f"{method} {kind.partition('/')[0]}"] += 1
        return real(self, method, path, *more)

    monkeypatch.setattr(Host, "ask", noted)
    return found


def test_what_is_open_comes_back(way):
    repo, source, target, folder = way
    done = copy(source, target)
    assert done.nbytes > 0
    assert list(done.versions) == [repo.uuid]
    there = opening.open_objects(folder)
    assert not [f for f in verify(there) if f.damage]
    for key, _ in opening.open_objects(repo.url).walk("log"):
        if layout.LATEST not in key and "checkpoint" not in key:
            assert there.get(key) == repo.objects.get(key), "word for word"
    assert not list(repo.objects.walk("tmp")), "nothing stays behind in the source"
    assert not rebuild(there).lost
    with vzarr.open(folder) as back:
        assert contents(back) == contents(repo)
        assert check_index(back["master"]["seg"]) == []
        back["master"].commit()
        assert not list(verify(back.objects))


def test_without_open_it_has_what_is_sealed(way):
    repo, source, target, folder = way
    copy(source, target, opened=False)
    assert opening.open_objects(folder).get(layout.moment()) is None
    assert snapshots_of(folder) == snapshots_of(repo.url)
    with vzarr.open(folder) as back:
        assert contents_of(back, repo.uuid) == contents_of(repo, repo.uuid)
        with pytest.raises(AuthorityUnavailableError, match="mirror"):
            back["master"]["notes"].get("a")


def test_the_second_time_only_what_changed_moves(way, asked, monkeypatch: pytest.MonkeyPatch):
    repo, source, target, folder = way
    copy(source, target)
    time.sleep(1.1)  # stamps are known to last from now on
    copy(source, target)
    asked.clear()
    done = copy(source, target)
    assert (done.nbytes, list(done.versions)) == (0, [])
    assert asked["PUT objects"] <= 2, "the moment, at most"
    tip = repo["master"]
    tip["notes"].put("c", b"3")
    tip["seg"].write((0, 0, 0), labels(5))
    asked.clear()
    before = {key for key, _ in opening.open_objects(folder).walk("open/objects")}
    done = copy(source, target)
    fresh = [(k, s) for k, s in opening.open_objects(folder).walk("open/objects") if k not in before]
    assert 0 < done.nbytes == sum(size for _, size in fresh)
    total = sum(1 for _ in opening.open_objects(folder).walk("open/objects"))
    assert len(fresh) < total / 2
    sealed = tip.commit().uuid
    late = repo["master"].newversion()
    done = copy(source, target)
    assert list(done.versions) == [sealed]
    assert not rebuild(opening.open_objects(folder)).lost
    with vzarr.open(folder) as back:
        assert contents(back) == contents(repo)
        assert not back[late.uuid].sealed


def snapshots_of(url: str) -> dict[str, str]:
    """What keys of no version were, by instance: the settings, and the label that is given next."""
    found = unversioned.read(opening.open_objects(url))
    assert {s.rows is None for s in found.values()} == {True, False}
    return {instance: snapshot.sums for instance, snapshot in found.items()}


@pytest.mark.parametrize("late", [False, True])
def test_what_the_log_says_in_the_pause_is_part_of_it(sides, late: bool, monkeypatch: pytest.MonkeyPatch):
    """A commit between the last look and the pause; with a version after it, the pause is tried again."""
    real, done, repo = ServedMirror._stop, list[vzarr.Version](), sides["repo"]

    def later(self: ServedMirror, *args: object) -> object:
        if not done:
            done.append(repo["master"].commit())
            if late:
                repo["master"].newversion()["notes"].put("new", b"1")
        return real(self, *args)

    monkeypatch.setattr(ServedMirror, "_stop", later)
    moved = copy(sides["served"], sides["file"])
    assert list(moved.versions) == [repo.uuid, done[0].uuid]
    assert not rebuild(opening.open_objects(sides["file"])).lost
    with vzarr.open(sides["file"]) as back:
        assert contents(back) == contents(repo)


def test_by_the_command_line_with_a_token_for_each_server(sides, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    served, there, folder = sides["served"], sides["there"], sides["folder"]
    ways = ["clone", served, there, "--mirror", "--open"]
    assert main([*ways, "--token", "wrong", "--from-token", TOKEN]) == 1
    assert main([*ways, "--token", TOKEN, "--from-token", "wrong"]) == 1
    assert capsys.readouterr().err.count("another admin token") == 2
    assert main([*ways, "--token", TOKEN, "--from-token", TOKEN]) == 0
    for verb in (["verify"], ["rebuild-keys"], ["verify", "--labels", "--version", "master"]):
        assert main([*verb, folder]) == 0
    assert f"open version {sides['repo']['master'].uuid}: as the mirror held it" in capsys.readouterr().out
    for url in (served, there):
        assert main(["clone", url, str(tmp_path / "none"), "--mirror"]) == 1
    assert "needs the admin token" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("point", ["fetch", "hold"])
def test_interrupted_it_shows_the_earlier_moment(way, point: str, monkeypatch: pytest.MonkeyPatch):
    repo, source, target, folder = way
    copy(source, target)
    before = contents_of(repo, repo["master"].uuid)
    repo["master"]["notes"].put("later", b"1")

    def die(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if point == "fetch":
            patch.setattr(taking.Copies, "put", die)
        else:
            patch.setattr("vzarr.overlay.transfer.mirror._hold", die)
        with pytest.raises(KeyboardInterrupt):
            copy(source, target)
    assert not list(repo.objects.walk("tmp"))
    there = opening.open_objects(folder)
    assert not [f for f in verify(there) if f.damage]
    assert not rebuild(there).lost
    with vzarr.open(folder) as back:
        assert contents_of(back, repo["master"].uuid) == before


def test_a_server_that_goes_away_shows_nothing_partial_and_the_same_command_goes_on(tmp_path: Path):
    with make(tmp_path / "first") as repo, serving(tmp_path / "served") as server:
        count = 0

        def kill(_total: int, _size: int) -> None:
            nonlocal count
            count += 1
            if count == 20:
                server.process.kill()

        with open_place(repo.url) as here, open_place(server.url, TOKEN) as there:  # noqa: SIM117
            with pytest.raises(StorageError, match="goes on where this one stopped"):
                mirror(here, there, opened=True, progress=kill)
        folder = tmp_path / "served" / repo.uuid
        whole = sum(size for _, size in repo.objects.walk(layout.node(repo.uuid)))
        assert not (folder / "log").exists()
        with serving(tmp_path / "served") as again, open_place(repo.url) as here, open_place(again.url, TOKEN) as there:
            with pytest.raises(FormatError, match="never finished"):
                vzarr.open(str(folder))
            done = mirror(here, there)
            assert 0 < done.nbytes < whole
            with vzarr.clone(f"{again.url}/{repo.uuid}", str(tmp_path / "back")) as back:
                assert contents_of(back, repo.uuid) == contents_of(repo, repo.uuid)


def test_a_tampered_object_is_refused_by_name(sides):
    repo = sides["repo"]
    key = f"{layout.zarr(repo.uuid)}/seg/0/c/0/0/0"
    file = Path(repo.objects.path(key))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    with pytest.raises(FormatError, match=key):
        copy(sides["served"], sides["file"])
    assert opening.open_objects(sides["file"]).get(layout.log_entry(0)) is None
    file.write_bytes(whole)
    copy(sides["served"], sides["file"])


def test_an_object_of_a_moment_that_came_otherwise_is_refused_by_name(sides, monkeypatch: pytest.MonkeyPatch):
    real = Host.ask

    def tampered(self: Host, method: str, path: str, *more: object) -> object:
        answer, content = real(self, method, path, *more)
        return answer, content + b"?" if method == "GET" and "/moments/" in path else content

    with monkeypatch.context() as patch:
        patch.setattr(Host, "ask", tampered)
        with pytest.raises(FormatError, match=r"open/objects/[0-9a-f]{64} is not what http"):
            copy(sides["served"], sides["file"])
    there = opening.open_objects(sides["file"])
    assert there.get(layout.moment()) is None
    assert not list(sides["repo"].objects.walk("tmp"))


@pytest.mark.parametrize("token", ["", "wrong", "ünicode"])
def test_only_who_has_the_token_mirrors(way, token: str, tmp_path: Path):
    _, source, target, folder = way
    with pytest.raises(ForbiddenError, match="admin token"):
        copy(source, target, token=token)
    assert not Path(folder).exists()


def test_a_mirror_in_a_server_is_read_only_and_shows_what_is_new(sides, tmp_path: Path):
    repo, there, second = sides["repo"], sides["there"], sides["second"]
    copy(repo.url, there, opened=False)
    with vzarr.clone(there, str(tmp_path / "clone")) as clone:
        assert clone.root["settings"].get("t") == b"2"
        late = clone["master"].newversion().commit()
        for mirrored in (there, sides["folder"]):
            with open_place(mirrored, TOKEN) as place, pytest.raises(InvalidInputError, match="a mirror, which takes"):
                push(open_place(clone.url), place)
        sealed = f"{second.url}/api/node/{repo.uuid}"
        assert fetch(f"{sealed}/notes/key/a") == (200, b"1")
        assert b"locked node" in fetch(f"{sealed}/notes/key/new", "POST", "x")[1]
        for url, body in (
            (f"{sealed}/settings/key/new", "x"),
            (f"{sealed}/branch", '{"branch": "new"}'),
            (f"{second.url}/api/node/{repo['master'].uuid}/notes/key/new", "x"),
            (f"{second.url}/api/repo/{repo.uuid}/log", '{"log": ["x"]}'),
            (f"{second.url}/api/repo/{repo['master'].uuid}/instance", '{"dataname": "n", "typename": "keyvalue"}'),
        ):
            status, said = fetch(url, "POST", body)
            assert (status, b"is a mirror: its keys are in the original" in said) == (503, True), (url, said)
        assert late.uuid not in fetch(f"{second.url}/api/repos/info")[1].decode()
        repo["master"]["settings"].put("t", b"3")
        tip = repo["master"].commit()
        copy(repo.url, there, opened=False)
        assert fetch(f"{second.url}/api/node/{tip.uuid}/notes/key/b") == (200, b"2")
        assert fetch(f"{second.url}/api/node/{tip.uuid}/settings/key/t") == (200, b"3")


def test_what_is_no_mirror_is_left_alone(sides, tmp_path: Path):
    repo = sides["repo"]
    with vzarr.clone(repo.url, sides["folder"]), pytest.raises(AlreadyExistsError, match="no mirror"):
        copy(repo.url, sides["there"])
    with make(tmp_path / "other") as other, pytest.raises(InvalidInputError, match="named by its root"):
        copy(other.url, sides["served"])


def test_a_mirror_that_became_a_repo_is_left_alone(sides):
    copy(sides["repo"].url, sides["there"])
    assert not rebuild(opening.open_objects(sides["folder"])).lost
    with pytest.raises(AlreadyExistsError, match="repo of its own"):
        copy(sides["repo"].url, sides["there"])


def test_who_cannot_reach_the_keys_says_so_before_anything_of_a_moment_is_copied(sides, tmp_path: Path, asked):
    copy(sides["served"], sides["there"], opened=False)
    asked.clear()
    with pytest.raises(AuthorityUnavailableError, match="mirror"):
        copy(sides["there"], str(tmp_path / "third"))
    assert asked["POST moments"] == 0
    copy(sides["there"], str(tmp_path / "third"), opened=False)
    assert not list(verify(opening.open_objects(tmp_path / "third")))


def test_no_id_of_a_stranger_leads_out_of_the_mirror(sides):
    repo = sides["repo"]
    op = {"op": "node", "id": "../../x", "parents": [repo.uuid], "branch": "b", "note": "", "seal": "0" * 64}
    entry = orjson.loads(repo.objects.get(layout.log_entry(repo.state.next - 1)))
    entry.update(number=repo.state.next, id="0" * 32, ops=[op])
    repo.objects.put(layout.log_entry(entry["number"]), orjson.dumps(entry))
    for source in (repo.url, sides["served"]):
        with pytest.raises(InvalidInputError, match=re.escape("../../x")):
            copy(source, sides["file"], opened=False)


def test_a_server_of_an_older_release_is_told_apart(sides, tmp_path: Path):
    class Older(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_PUT = do_POST = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Older) as older:
        threading.Thread(target=older.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{older.server_port}/{sides['repo'].uuid}"
        for ends in ((url, str(tmp_path / "x")), (sides["repo"].url, url)):
            with pytest.raises(FormatError, match="takes part in no mirrors: no vzarr server, or of an older release"):
                copy(*ends)
        older.shutdown()


def fetch(url: str, method: str = "GET", body: str = "") -> tuple[int, bytes]:
    """Status and content of an answer."""
    host, _, path = url.removeprefix("http://").partition("/")
    server = Host(host, secure=False)
    answer, content = server.ask(method, f"/{path}", body.encode() or None)
    server.close()
    return answer.status, content
