"""Clone, push, pull and fetch: versions arrive whole and checked or not at all, in any order of events."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import vzarr
from vzarr.cli import main
from vzarr.errors import (
    AlreadyExistsError,
    AuthorityUnavailableError,
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from vzarr.overlay import layout, opening
from vzarr.overlay.care.verify import verify
from vzarr.overlay.transfer.places import Place, open_place
from vzarr.overlay.transfer.verbs import clone, fetch, push
from vzarr.types import registry

CHUNK = (4, 4, 4)


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (8, 8, 8), "u1")


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A repo with some history: two branches, a merge, keys, a tag and an open tip."""
    with vzarr.create(str(tmp_path / "first"), alias="lab", description="of flies") as repo:
        root = repo.root
        root.create_array("a", dtype="u1", chunks=CHUNK)
        root.write("a", (0, 0, 0), voxels(0))
        info = repo.record_instance(root, "notes", "keyvalue")
        root.transact(info, lambda tx: (tx.put(b"k", b"0"), tx.put(b"gone", b"1")))
        child = root.commit("the beginning").newversion()
        child.write("a", (4, 0, 0), voxels(1)[:4])
        child.transact(info, lambda tx: (tx.put(b"k", b"1"), tx.delete(b"gone")))
        child.add_log(["a line"])
        child.commit()
        side = root.branch("side")
        side.delete_chunks("a", [(0, 0, 0)])
        side.commit().tag("v1")
        repo.merge(["side", child]).commit().newversion().write("a", (0, 0, 0), voxels(2))
        yield repo


def contents(repo: vzarr.Repo) -> dict[str, object]:
    """All that sealed versions hold, and what is known of them."""
    found: dict[str, object] = {}
    for version in repo.versions():
        if version.sealed:
            box = version.bounds("a")
            keys = {n: dict(version.keys(n).scan()) for n in repo.state.instances}
            about = (version.info.parents, version.info.branch, version.note, version.info.log, version.info.created)
            found[version.uuid] = (about, box, version.read("a", *box).tobytes(), keys)
    return found


def place(repo_or_path: vzarr.Repo | Path | str) -> Place:
    return open_place(repo_or_path.url if isinstance(repo_or_path, vzarr.Repo) else str(repo_or_path))


@pytest.fixture(params=["files", "memory"])
def second(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a clone may be made."""
    return str(tmp_path / "second") if request.param == "files" else f"memory://{uuid4().hex}"


def test_a_clone_is_equal_and_can_be_gone_on_with(repo: vzarr.Repo, second: str):
    done = clone(place(repo), place(second))
    assert done.nbytes > 0
    with vzarr.open(second) as other:
        assert contents(other) == contents(repo)
        assert (other.uuid, other.state.alias, other.state.description) == (repo.uuid, "lab", "of flies")
        assert not list(verify(other.objects))
        assert all(v.sealed for v in other.versions())
        tip = other["master"].newversion()
        tip.transact("notes", lambda tx: tx.put(b"k", b"2"))
        assert dict(tip.keys("notes").scan()) == {b"k": b"2"}
        tip.write("a", (0, 0, 0), voxels(3))
        tip.commit()
        assert not list(verify(other.objects))


def test_only_sealed_versions_travel_and_a_new_one_moves_only_its_own(repo: vzarr.Repo, second: str):
    clone(place(repo), place(second))
    assert push(place(repo), place(second)).versions == []
    tip = repo["master"]
    tip.commit()
    moved: list[int] = []
    done = push(place(repo), place(second), progress=lambda _count, size: moved.append(size))
    assert list(done.versions) == [tip.uuid]
    folder = layout.node(tip.uuid)
    assert done.nbytes == sum(moved) == sum(size for _, size in repo.objects.walk(folder))
    with vzarr.open(second) as other:
        assert contents(other) == contents(repo)


def test_one_branch(repo: vzarr.Repo, second: str):
    clone(place(repo), place(second), branches=["side"])
    with vzarr.open(second) as other:
        assert other.branches() == ["master", "side"]
        assert len(other.versions()) == 2
        with pytest.raises(NotFoundError):
            push(place(repo), place(second), branches=["nowhere"])
        push(place(repo), place(second), branches=["master"])
        assert len(other.versions()) == 4
        assert {k: v for k, v in contents(repo).items() if k in other.state.nodes} == contents(other)


def test_two_labs_edit_pull_and_merge(repo: vzarr.Repo, second: str):
    repo["master"].commit()
    clone(place(repo), place(second))
    with vzarr.open(second) as other:
        mine, theirs = repo["master"].newversion(), other["master"].newversion()
        mine.write_chunks("a", {(0, 0, 0): np.full(CHUNK, 1, "u1")})
        mine.transact("notes", lambda tx: tx.put(b"mine", b"1"))
        theirs.write_chunks("a", {(1, 1, 1): np.full(CHUNK, 2, "u1")})
        theirs.transact("notes", lambda tx: tx.put(b"theirs", b"2"))
        mine.commit()
        theirs.commit()
        before = contents(repo)
        with pytest.raises(ConflictError, match="not fast-forward") as refused:
            push(place(other), place(repo))
        assert refused.value.conflicts == ["master"]
        assert contents(repo) == before
        fetch(place(other), place(repo), "lab2")
        assert repo["lab2-master"].uuid == theirs.uuid
        merged = repo.merge(["master", "lab2-master"]).commit()
        assert merged.read("a", (0, 0, 0), (1, 1, 1)) == 1
        assert merged.read("a", (4, 4, 4), (5, 5, 5)) == 2
        assert dict(merged.keys("notes").scan()) == {b"k": b"1", b"mine": b"1", b"theirs": b"2"}
        push(place(repo), place(other))
        assert other["master"].uuid == merged.uuid
        seen = {k: v[1:] for k, v in contents(repo).items()}
        assert {k: v[1:] for k, v in contents(other).items()} == seen


def test_an_open_version_of_ones_own_stops_a_pull(repo: vzarr.Repo, second: str):
    clone(place(repo), place(second))
    with vzarr.open(second) as other:
        other["master"].newversion()
        repo["master"].commit()
        with pytest.raises(ConflictError, match="not fast-forward"):
            push(place(repo), place(second))
        with pytest.raises(ConflictError, match=f"`vzarr commit {other.url} master`, then `vzarr fetch"):
            other.pull(repo.url)


class Dying(Place):
    """A place whose writer dies at the n-th object."""

    def __init__(self, inner: Place, writes: int) -> None:
        self.inner, self.url, self.left = inner, inner.url, writes
        self.state, self.get, self.size = inner.state, inner.get, inner.size
        self.begin, self.publish, self.shared = inner.begin, inner.publish, inner.shared
        self.stripes, self.learn = inner.stripes, inner.learn
        self.limits, self.wanted, self.leave_out = inner.limits, inner.wanted, inner.leave_out

    def state(self): ...
    def get(self, key): ...
    def size(self, key): ...
    def begin(self, root, keys=None, avoid=None, limits=None, durability=None): ...
    def wanted(self, arrival): ...
    def stripes(self): ...
    def learn(self, theirs): ...
    def publish(self, arrival, brought=None): ...
    def shared(self): ...

    def put(self, key: str, data: bytes) -> None:
        if self.left <= 0:
            raise StorageError("the cable was cut")
        self.left -= 1
        self.inner.put(key, data)


def test_a_clone_is_made_in_an_empty_folder(repo: vzarr.Repo, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letters.txt").write_text("dear")
    with pytest.raises(AlreadyExistsError, match=r"not empty: it holds letters\.txt"):
        clone(place(repo), place(str(tmp_path / "mine")))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letters.txt"]
    (tmp_path / "mine" / "letters.txt").unlink()
    clone(place(repo), place(str(tmp_path / "mine")))


def test_what_is_fetched_needs_a_name(repo: vzarr.Repo, second: str):
    clone(place(repo), place(second))
    with pytest.raises(InvalidInputError, match="--as NAME"):
        fetch(place(second), place(repo), "")
    with pytest.raises(InvalidInputError, match="branch name"):
        fetch(place(second), place(repo), "a:b")


@pytest.mark.parametrize("writes", [0, 1, 5, 20, 40])
def test_a_transfer_that_was_cut_off_shows_nothing_and_is_resumed(repo: vzarr.Repo, second: str, writes: int):
    with pytest.raises(StorageError, match="cable"):
        clone(place(repo), Dying(place(second), writes))
    with pytest.raises((NotFoundError, FormatError)):
        vzarr.open(second)
    done = clone(place(repo), place(second))
    total = sum(s for n in done.versions for _, s in repo.objects.walk(layout.node(n)))
    assert done.nbytes < total if writes else done.nbytes == total
    with vzarr.open(second) as other:
        assert contents(other) == contents(repo)
        assert not list(verify(other.objects))


def test_who_is_told_of_objects_may_end_the_transfer(repo: vzarr.Repo, second: str):
    told: list[tuple[int, int]] = []

    def stop(count: int, size: int) -> None:
        told.append((count, size))
        if len(told) >= 20:
            raise InterruptedError("cancelled")

    with pytest.raises(InterruptedError):
        clone(place(repo), place(second), progress=stop)
    total = sum(1 for n in repo.state.nodes for _ in repo.objects.walk(layout.node(n)))
    assert len(told) < total / 2, "what had not begun is left alone"
    assert clone(place(repo), place(second)).nbytes > 0


def test_a_tampered_object_is_refused_by_name(repo: vzarr.Repo, second: str):
    key = f"{layout.zarr(repo.uuid)}/a/c/0/0/0"
    data = repo.objects.get(key)
    repo.objects.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FormatError, match=key):
        clone(place(repo), place(second))
    repo.objects.put(key, data)
    clone(place(repo), place(second))


def test_a_half_written_object_is_copied_again(repo: vzarr.Repo, second: str):
    with pytest.raises(StorageError):
        clone(place(repo), Dying(place(second), 30))
    target = open_place(second)
    key = next(k for k, _ in target.objects.walk("nodes"))
    target.put(key, b"x" * target.size(key))
    clone(place(repo), place(second))
    with vzarr.open(second) as other:
        assert not list(verify(other.objects))


def test_what_is_no_place_to_go_is_refused(repo: vzarr.Repo, second: str, tmp_path: Path):
    with pytest.raises(NotFoundError, match="no repo"):
        push(place(repo), place(second))
    with pytest.raises(NotFoundError, match="no repo"):
        clone(place(tmp_path / "nothing"), place(second))
    with vzarr.create(second) as stranger:
        stranger.root.commit()
        with pytest.raises(InvalidInputError, match="unrelated"):
            push(place(repo), place(second))
        with pytest.raises(AlreadyExistsError):
            clone(place(repo), place(second))
    with vzarr.create(str(tmp_path / "new")) as new, pytest.raises(NotFoundError, match="sealed"):
        clone(place(new), place(tmp_path / "third"))
    clone(place(repo), place(tmp_path / "fourth"))
    with pytest.raises(AlreadyExistsError):
        clone(place(repo), place(tmp_path / "fourth"))


def test_instances_of_one_name_made_apart(repo: vzarr.Repo, second: str):
    repo["master"].commit()
    clone(place(repo), place(second))
    with vzarr.open(second) as other:
        for each in (repo, other):
            tip = each["master"].branch("mine" if each is repo else "yours")
            each.record_instance(tip, "rois", "roi")
            tip.commit()
        with pytest.raises(AlreadyExistsError, match="'rois'"):
            push(place(other), place(repo))


def test_by_the_python_face(repo: vzarr.Repo, second: str):
    with vzarr.clone(repo.url, second) as other:
        tip = repo["master"].commit()
        assert list(repo.push(second).versions) == [tip.uuid]
        theirs = other["master"].newversion().commit()
        assert list(repo.pull(second).versions) == [theirs.uuid]
        repo["master"].newversion().commit()
        theirs = other["master"].newversion().commit()
        with pytest.raises(ConflictError):
            repo.pull(second)
        repo.fetch(second, "lab2")
        assert repo["lab2-master"].uuid == theirs.uuid


def test_by_the_command_line(repo: vzarr.Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    second = str(tmp_path / "second")
    assert main(["clone", repo.url, second, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["versions"]) == 5
    assert main(["push", repo.url, second]) == 0
    assert "nothing was missing" in capsys.readouterr().out
    repo["master"].commit()
    assert main(["pull", second, repo.url]) == 0
    assert "1 versions" in capsys.readouterr().out
    assert main(["newversion", second]) == main(["commit", second]) == 0
    repo["master"].newversion().commit()
    assert main(["pull", repo.url, second]) == 1
    assert "not fast-forward" in capsys.readouterr().err
    assert main(["fetch", repo.url, second, "--as", "lab2"]) == 0
    assert main(["merge", repo.url, "master", "lab2-master"]) == 0


def told(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Commands that an error tells to run."""
    return [shlex.split(line)[1:] for line in re.findall("`(.*?)`", capsys.readouterr().err)]


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_what_is_told_about_branches_that_grew_apart_works(
    repo: vzarr.Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
):
    other = str(tmp_path / "a second one")
    assert main(["clone", repo.url, other]) == 0
    assert main(["commit", repo.url, "master"]) == 0
    for growth in range(2):
        assert main(["newversion", other, "master"]) == main(["commit", other, "master"]) == 0
        assert main([verb, repo.url, other]) == 1
        commands = told(capsys)
        assert commands == [
            ["fetch", repo.url, f"file://{other}", "--as", "theirs"],
            ["merge", repo.url, "master", "theirs-master"],
        ]
        assert main(commands[0]) == 0
        if not growth and verb == "push":
            assert main(["push", repo.url, other]) == 1
            assert told(capsys) == commands[1:], "it has been fetched"
        if growth:
            assert main(commands[1]) == 0
    assert main(["commit", repo.url, "master"]) == 0
    assert main(["push", repo.url, other]) == 0


def test_no_id_of_a_stranger_leads_out_of_the_clone(repo: vzarr.Repo, tmp_path: Path):
    """A stranger's repo may be whole by its own checksums: what its log calls a version names folders here, too."""
    with vzarr.create(str(tmp_path / "evil"), root="victim") as evil:
        evil.root.create_array("a", dtype="u1", chunks=(4, 4))
        evil.root.commit()
    for path in (tmp_path / "evil" / "log").iterdir():
        if path.suffix == ".json":
            path.write_bytes(path.read_bytes().replace(b"victim", b"../../victim"))
        else:
            path.unlink()
    (tmp_path / "evil" / "nodes" / "victim").rename(tmp_path / "victim")  # where its log says that it is
    with pytest.raises(FormatError, match="victim"):
        clone(open_place(str(tmp_path / "evil")), open_place(str(tmp_path / "home" / "second")))
    assert not (tmp_path / "home").exists()


def test_a_clone_outlasts_what_is_asked(repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    target, synced = str(tmp_path / "second"), []
    monkeypatch.setattr("vzarr.overlay.objects.durable._sync", lambda path: synced.append(str(path)))
    with pytest.raises(InvalidInputError, match="durability"):
        vzarr.clone(repo.url, target, durability="for ever")
    assert not Path(target).exists()
    assert main(["clone", repo.url, target, "--durability", "fsync"]) == 0
    assert {str(tmp_path / "second"), str(tmp_path / "second" / "log")} <= {*synced}
    assert any("/nodes/" in path for path in synced)
    with vzarr.open(target) as other:
        assert opening.read_meta(other.objects)["durability"] == "fsync"
        assert not list(verify(other.objects))
    assert main(["clone", repo.url, str(tmp_path / "third"), "--mirror", "--durability", "fsync"]) == 1


def test_a_clone_that_was_interrupted_lasts_as_it_was_begun(repo: vzarr.Repo, tmp_path: Path):
    url = str(tmp_path / "second")
    open_place(url).begin(repo.uuid, durability="fsync")
    with pytest.raises(InvalidInputError, match="another durability: fsync"):
        vzarr.clone(repo.url, url, durability="process")
    with vzarr.clone(repo.url, url) as other:
        assert opening.read_meta(other.objects)["durability"] == "fsync"


def test_nothing_arrives_where_keys_are_out_of_reach(repo: vzarr.Repo, tmp_path: Path):
    """Who has the keys would never hear of those that came, and show the version without them."""
    keys, url = tmp_path / "keys.sqlite", str(tmp_path / "second")
    vzarr.clone(repo.url, url, keys=f"sqlite:///{keys}").close()
    tip = repo["master"]  # open
    registry.create(tip, "late", "keyvalue").put("a", b"1")
    tip.commit()
    keys.rename(tmp_path / "elsewhere")
    with pytest.raises(AuthorityUnavailableError, match="cannot open key store"):
        push(open_place(repo.url), open_place(url))
    assert not (tmp_path / "second" / "nodes" / tip.uuid).exists(), "it is refused before anything is copied"
    (tmp_path / "elsewhere").rename(keys)
    assert push(open_place(repo.url), open_place(url)).versions == [tip.uuid]
    with vzarr.open(url) as other:
        assert other["master"]["late"].get("a") == b"1"
        keys.rename(tmp_path / "elsewhere")
    assert push(open_place(repo.url), open_place(url)).versions == [], "nothing is missing, nothing is refused"
