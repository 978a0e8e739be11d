"""Transfers to and from a running server: the same promises as between folders, and nothing for who has no token."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import orjson
import pytest

import vzarr
from tests.serving import TOKEN, Server, serving
from vzarr.cli import main
from vzarr.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.transfer.client import KIND
from vzarr.overlay.transfer.copying import Row
from vzarr.overlay.transfer.direct import Way, Ways
from vzarr.overlay.transfer.places import Place, open_place
from vzarr.overlay.transfer.stripes import Stripes
from vzarr.overlay.transfer.verbs import clone, fetch, push

CHUNK = (4, 4, 4)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """Two branches, a merge, keys and a tag, all sealed."""
    with vzarr.create(str(tmp_path / "first"), alias="lab", description="of flies") as repo:
        root = repo.root
        root.create_array("a", dtype="u1", chunks=CHUNK)
        root.write("a", (0, 0, 0), np.random.default_rng(0).integers(0, 255, (12, 12, 12), "u1"))
        info = repo.record_instance(root, "notes 1", "keyvalue")
        root.transact(info, lambda tx: tx.put(b"k", b"0"))
        child = root.commit("the beginning").newversion()
        child.write("a", (4, 0, 0), np.full((4, 8, 8), 1, "u1"))
        child.write("a", (-4, 0, 0), np.full((4, 4, 4), 3, "u1"))
        child.commit()
        side = root.branch("side")
        side.transact(info, lambda tx: tx.put(b"k", b"1"))
        side.commit().tag("v1")
        repo.merge(["side", child]).commit()
        yield repo


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """A server that all tests share, each with repos of its own."""
    with serving(root) as server:
        yield server


def contents(repo: vzarr.Repo) -> dict[str, object]:
    found: dict[str, object] = {}
    for version in repo.versions():
        box = version.bounds("a")
        keys = {n: dict(version.keys(n).scan()) for n in repo.state.instances}
        found[version.uuid] = (version.info.parents, version.note, box, version.read("a", *box).tobytes(), keys)
    return found


OPENED: list[Place] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def at(server: Server, root: str = "", token: str = TOKEN) -> Place:
    OPENED.append(open_place(f"{server.url}/{root}".rstrip("/"), token))
    return OPENED[-1]


def here(repo: vzarr.Repo | Path) -> Place:
    return open_place(repo.url if isinstance(repo, vzarr.Repo) else str(repo))


def test_there_and_back_again(repo: vzarr.Repo, server: Server, root: Path, tmp_path: Path):
    with here(repo) as mine, at(server) as theirs:
        assert clone(mine, theirs).nbytes > 0
        assert push(mine, theirs).versions == []
        before = len(repo.log())
        push(theirs, mine)  # it is known now which repo is meant
        assert len(repo.log()) == before, "nothing was missing, so nothing is written"
    tip = repo["master"].newversion()
    tip.write("a", (0, 0, 0), np.full(CHUNK, 9, "u1"))
    tip.commit()
    moved: list[int] = []
    done = push(here(repo), at(server, repo.uuid[:6]), progress=lambda _n, size: moved.append(size))
    assert list(done.versions) == [tip.uuid]
    assert len(moved) == sum(1 for _ in repo.objects.walk(layout.node(tip.uuid)))
    assert done.nbytes == sum(moved)
    with vzarr.clone(f"{server.url}/{repo.uuid}", str(tmp_path / "back")) as back:
        assert contents(back) == contents(repo)
        assert not list(verify(back.objects))
    with vzarr.open(str(root / repo.uuid)) as served:
        assert contents(served) == contents(repo)
        assert not list(verify(served.objects))


def test_only_who_has_the_token_writes(repo: vzarr.Repo, server: Server):
    for token in ("", "wrong", "ünicode"):
        with pytest.raises(ForbiddenError, match="admin token"):
            clone(here(repo), at(server, token=token))
    assert not list(at(server, repo.uuid).state().nodes)
    clone(here(repo), at(server))
    repo["master"].newversion().commit()
    with pytest.raises(ForbiddenError):
        push(here(repo), at(server, token=""))
    assert push(at(server, repo.uuid, token=""), here(repo)).versions == []


def test_who_gives_which_labels_is_told_over_http(repo: vzarr.Repo, server: Server, tmp_path: Path):
    clone(here(repo), at(server))
    served = at(server, repo.uuid).stripes()
    assert here(repo).stripes().known == {served.own: served.clone}
    for name, token in (("known", TOKEN), ("unknown", "")):
        clone(at(server, repo.uuid, token=token), here(tmp_path / name))
    mine = [here(tmp_path / name).stripes().own for name in ("known", "unknown")]
    assert set(at(server, repo.uuid).stripes().known) == {served.own, mine[0]}
    push(here(tmp_path / "unknown"), at(server, repo.uuid))
    assert set(at(server, repo.uuid).stripes().known) == {served.own, *mine}


def test_two_labs_and_a_server(repo: vzarr.Repo, server: Server, tmp_path: Path):
    clone(here(repo), at(server))
    theirs = f"{server.url}/{repo.uuid[:8]}"
    with vzarr.clone(theirs, str(tmp_path / "second")) as other:
        for each, coord in ((repo, (0, 0, 0)), (other, (1, 1, 1))):
            tip = each["master"].newversion()
            tip.write_chunks("a", {coord: np.full(CHUNK, 5, "u1")})
            tip.commit()
        repo.push(theirs, token=TOKEN)
        with pytest.raises(ConflictError, match="not fast-forward") as refused:
            other.push(theirs, token=TOKEN)
        assert refused.value.conflicts == ["master"]
        other.fetch(theirs, "lab")
        merged = other.merge(["master", "lab-master"]).commit()
        assert merged.read("a", (0, 0, 0), (1, 1, 1)) == merged.read("a", (4, 4, 4), (5, 5, 5)) == 5
        other.push(theirs, token=TOKEN)
        repo.pull(theirs)
        assert repo["master"].uuid == merged.uuid


def test_what_grew_on_both_sides_can_be_put_beside_over_http(repo: vzarr.Repo, server: Server, root: Path):
    clone(here(repo), at(server))
    with vzarr.open(str(root / repo.uuid)) as served:
        served["master"].newversion().commit()
        tip = repo["master"].newversion().commit()
        fetch(here(repo), at(server), "lab")
        assert served["lab-master"].uuid == tip.uuid


def test_a_server_that_goes_away_shows_nothing_partial_and_the_same_command_goes_on(repo: vzarr.Repo, tmp_path: Path):
    with serving(tmp_path / "served") as server:
        count = 0

        def kill(_total: int, _size: int) -> None:
            nonlocal count
            count += 1
            if count == 10:
                server.process.kill()

        with pytest.raises(StorageError, match="goes on where this one stopped"):
            clone(here(repo), at(server), progress=kill)
    with serving(tmp_path / "served") as server:
        with pytest.raises(NotFoundError):
            push(here(repo), at(server))
        done = clone(here(repo), at(server))
        whole = sum(s for n in done.versions for _, s in repo.objects.walk(layout.node(n)))
        assert 0 < done.nbytes < whole
        with vzarr.clone(server.url, str(tmp_path / "back")) as back:
            assert contents(back) == contents(repo)


def test_a_tampered_object_is_refused_by_name(repo: vzarr.Repo, server: Server, root: Path, tmp_path: Path):
    clone(here(repo), at(server))
    key = f"{layout.zarr(repo.uuid)}/a/c/0/0/0"
    file = root / repo.uuid / key
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(FormatError, match=key):
        clone(at(server, repo.uuid), here(tmp_path / "second"))
    with pytest.raises((NotFoundError, FormatError)):
        vzarr.open(str(tmp_path / "second"))


def test_remotes_that_are_none(repo: vzarr.Repo, server: Server, tmp_path: Path):
    with pytest.raises(NotFoundError, match="no repo"):
        push(here(repo), at(server))
    with pytest.raises(NotFoundError, match="no repo"):
        push(here(repo), at(server, "abc"))
    for url in ("http://a/b/c", "http://", "http://user@host", "http://host?x=1"):
        with pytest.raises(InvalidInputError, match="HOST"):
            open_place(url)
    for url in ("http://[bad", "http://host:x"):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            open_place(url)
    with pytest.raises(StorageError, match="cannot be reached"):
        open_place("http://127.0.0.1:1").state()
    with pytest.raises(InvalidInputError, match="named by its root"):
        clone(here(repo), at(server, "fly"))
    with pytest.raises(InvalidInputError, match="keys"):
        clone(here(repo), at(server), keys="sqlite:////tmp/x")
    with vzarr.create(str(tmp_path / "stranger")) as stranger:
        stranger.root.commit()
        clone(here(stranger), at(server))
        with pytest.raises(InvalidInputError, match="unrelated"):
            push(here(repo), at(server, stranger.uuid))
        with pytest.raises(AlreadyExistsError):
            clone(here(stranger), at(server))
        clone(here(repo), at(server))
        with pytest.raises(InvalidInputError, match=r"serves \d+ repos"):
            at(server).state()
        repo["master"].newversion().commit()
        assert len(push(here(repo), at(server)).versions) == 1, "a clone finds its own"


@pytest.fixture
def answering() -> Iterator[tuple[str, list[tuple[int, dict[str, str], bytes]]]]:
    """A server that says whatever it is told to."""
    answers: list[tuple[int, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()


NODE = {"op": "node", "id": "a" * 32, "parents": [], "branch": "", "note": "", "log": [], "seal": None}
NODE |= {"created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}
REPO = {"op": "repo", "root": "a" * 32, "alias": "", "description": ""}


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b"404 page not found", "older release"),
        (500, b"oh no", "oh no"),
        (302, b"", "302"),
        (200, b"<html>", "no JSON"),
        (200, b"[]", "JSON object"),
        (200, orjson.dumps({"format": 99, "ops": []}), "upgrade"),
        (200, orjson.dumps({"format": 1, "ops": [NODE]}), "one operation 'repo'"),
        (200, orjson.dumps({"format": 1, "ops": [REPO, {**NODE, "id": "../../x"}]}), "cannot be '../../x'"),
        (200, orjson.dumps({"format": 1, "ops": [REPO, {**NODE, "parents": ["b"]}]}), "before it makes it"),
        (200, orjson.dumps({"format": 1, "ops": [REPO, {**NODE, "seal": 7}]}), "'seal'"),
        (200, orjson.dumps({"format": 1, "ops": [REPO, NODE, NODE]}), "twice"),
        (200, orjson.dumps({"format": 1, "ops": [REPO, {**NODE, "more": 1}]}), "has the keys"),
        (200, orjson.dumps({"format": 1, "ops": [REPO, {"op": "instance_remove", "name": "a"}]}), "one operation"),
    ],
)
def test_servers_of_another_kind(answering, status: int, body: bytes, says: str):
    url, answers = answering
    answers.append((status, {}, body))
    with pytest.raises((FormatError, StorageError, InvalidInputError), match=says), open_place(f"{url}/a") as place:
        place.state()


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"repos": 1, "keys": "a", "kept": 7}', b'{"keys": [[]]}', b'{"keys": ["b"]}']
)
def test_answers_that_are_none(answering, body: bytes):
    url, answers = answering
    answers.append((200, {}, body))
    with open_place(f"{url}/a") as place, pytest.raises(FormatError, match=r"127\.0\.0\.1"):
        place.lacking([Row("nodes/a/zarr/zarr.json", 1, "0" * 64)])
    with open_place(url) as place, pytest.raises(FormatError, match="'repos'"):
        place.state()


def test_a_server_that_fails_is_not_taken_for_one_of_an_earlier_release(answering):
    """Or two clones would give the same labels."""
    url, answers = answering
    answers.append((500, {KIND: "FormatError"}, b"stripes/7 is damaged"))
    with open_place(f"{url}/a", TOKEN) as place:
        for ask in (place.stripes, lambda: place.learn(Stripes(0, "", {7: "x"}))):
            with pytest.raises(FormatError, match="stripes/7 is damaged"):
                ask()
    answers[:] = [(404, {}, b"404 page not found")]
    with open_place(f"{url}/a", TOKEN) as place:
        assert place.stripes() == place.learn(Stripes(0, "", {7: "x"})) == Stripes()


@pytest.mark.parametrize(
    "way",
    [Way("http://[", {}), Way("http://a:b/c", {}), Way("ftp://a/b", {}), Way("http://127.0.0.1:1/", {"a": "b\n"})],
)
def test_ways_that_are_none_are_not_taken(way: Way):
    ways = Ways(lambda rows: {row.key: way for row in rows}, lambda row: row.key, secure=False)
    ways.expect([Row("a", 1, "0" * 64)])
    assert ways.get("a") is None
    ways.close()


def test_a_server_that_hangs_up(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(StorageError, match="went away"):
            open_place(f"http://127.0.0.1:{listener.getsockname()[1]}/a").state()
        thread.join()


def test_names_that_lead_elsewhere_are_refused(repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stranger's repo is whole by its own checksums, and still no name in it may lead out of its folder."""
    with vzarr.create(str(tmp_path / "evil")) as evil:
        evil.root.create_array("a", dtype="u1", chunks=CHUNK)
        monkeypatch.setattr(
            "vzarr.overlay.sealing.seal.read_sums", lambda data: iter([("../../../stolen", 1, "0" * 64)]), raising=True
        )
        evil.root.commit()
        with pytest.raises(FormatError, match="no object of the version"):
            clone(here(evil), here(tmp_path / "second"))


def test_a_tag_given_twice_is_refused_by_name(repo: vzarr.Repo, tmp_path: Path):
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        repo["master"].tag("v2")
        other[repo.uuid].tag("v2")
        with pytest.raises(AlreadyExistsError, match="version v2 of their own"):
            push(here(other), here(repo))


def test_no_name_that_arrives_hides_another(repo: vzarr.Repo, tmp_path: Path):
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        repo[repo.uuid].tag("v2")
        other[repo.uuid].branch("v2").commit()
        for target, source in ((repo, other), (other, repo)):
            with pytest.raises(AlreadyExistsError, match="'v2' is a branch in one of the repos and a version or tag"):
                push(here(source), here(target))


def test_parts_of_a_history_come_from_a_server_and_go_to_one(
    repo: vzarr.Repo, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    clone(here(repo), at(server))
    there, before = f"{server.url}/{repo.uuid}", at(server, repo.uuid).stripes()
    monkeypatch.setenv("VZARR_ADMIN_TOKEN", TOKEN)
    sealed = [v for v in repo.versions() if v.sealed]
    tip, chosen = sealed[-1], [sealed[1].uuid, sealed[-1].uuid]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["clone", there, str(tmp_path / "flat"), "--flatten", tip.uuid]) == 0
    assert main(["clone", there, str(tmp_path / "some"), "--versions", ",".join(chosen)]) == 0
    with vzarr.open(str(tmp_path / "flat")) as flat, vzarr.open(str(tmp_path / "some")) as some:
        box = tip.bounds("a")
        assert flat.root.read("a", *box).tobytes() == tip.read("a", *box).tobytes()
        assert [v.uuid for v in some.versions()] == chosen
        for each in some.versions():
            assert each.read("a", *box).tobytes() == repo[each.uuid].read("a", *box).tobytes()
            assert dict(each.keys("notes 1").scan()) == dict(repo[each.uuid].keys("notes 1").scan())
    capsys.readouterr()
    assert main(["clone", repo.url, server.url, "--flatten", tip.uuid, "--json"]) == 0
    made = orjson.loads(capsys.readouterr().out)["root"]
    with vzarr.clone(f"{server.url}/{made}", str(tmp_path / "back")) as back:
        assert back.root.read("a", *box).tobytes() == tip.read("a", *box).tobytes()
    assert at(server, repo.uuid).stripes() == before, "drafts are no clones"
    assert not list(tmp_path.glob("vzarr-draft-*"))


def test_by_the_command_line(repo: vzarr.Repo, server: Server, tmp_path: Path, capsys, monkeypatch):
    assert main(["clone", repo.url, server.url]) == 1
    assert "admin token" in capsys.readouterr().err
    assert main(["clone", repo.url, server.url, "--token", TOKEN]) == 0
    monkeypatch.setenv("VZARR_ADMIN_TOKEN", TOKEN)
    repo["master"].newversion().commit()
    assert main(["push", repo.url, server.url]) == 0, "a clone finds its own"
    assert "1 versions" in capsys.readouterr().out
    assert main(["clone", f"{server.url}/{repo.uuid}", str(tmp_path / "second")]) == 0


def test_secrets_are_not_repeated(server: Server):
    """Errors come into records of jobs and logs."""
    for url, token in ((server.url, "secret\n"), ("http://ann:secret@host", ""), ("http://host?admintoken=secret", "")):
        with pytest.raises(InvalidInputError, match="token") as error:
            open_place(url, token).state()
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "given", "tokens"),
    [
        (["clone", "http://a/x", "/there"], ["--token", "t"], ["t", "t"]),
        (["clone", "http://a/x", "/there"], [], ["", "env"]),
        (["clone", "http://a/x", "http://b"], ["--token", "t"], ["", "t"]),
        (["clone", "http://a/x", "http://b"], ["--from-token", "f"], ["f", "env"]),
        (["clone", "http://a/x", "http://b", "--mirror"], ["--token", "t"], ["t", "t"]),
        (["clone", "http://a/x", "/there", "--mirror"], [], ["env", "env"]),
        (["push", "/here", "http://b"], [], ["", "env"]),
        (["pull", "/here", "http://a"], [], ["", "env"]),
        (["fetch", "http://b/x", "http://a", "--as", "a"], ["--token", "t"], ["", "t"]),
    ],
)
def test_who_is_only_read_from_is_told_no_token_of_another(
    words: list[str], given: list[str], tokens: list[str], monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []

    def note(_url: str, token: str) -> Place:
        told.append(token)
        if len(told) == 2:
            raise InvalidInputError("enough")
        return open_place("memory://nothing")

    monkeypatch.setattr("vzarr.cli.transfer.open_place", note)
    monkeypatch.setenv("VZARR_ADMIN_TOKEN", "env")
    assert main([*words, *given]) == 1
    assert told == tokens
