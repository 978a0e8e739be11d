"""Partial clones in a server: made there, kept there, read from there, and never taken for whole ones."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.overlay.transfer.conftest import Receiver
from tests.serving import TOKEN, Server, serving
from vzarr.cli import main
from vzarr.errors import ForbiddenError, FormatError, InvalidInputError, StorageError
from vzarr.overlay import opening
from vzarr.overlay.care.verify import verify
from vzarr.overlay.sealing import leftout
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, push
from vzarr.types.registry import create

EDGE = 32
SIZE = (EDGE, EDGE, EDGE)


def voxels(value: int, blocks: int = 1) -> np.ndarray:
    return np.full((EDGE, EDGE, EDGE * blocks), value, np.uint8)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """An image of four blocks, of which each version but the first replaces one; a branch from the first; a ROI."""
    with vzarr.create(str(tmp_path / "first")) as repo:
        create(repo.root, "em", "uint8blk").write((0, 0, 0), voxels(1, 4))
        create(repo.root, "more", "uint8blk").write((0, 0, 0), voxels(9))
        create(repo.root, "hot", "roi").replace(np.array([[0, 0, 0, 1]]))
        tip = repo.root.commit()
        for n in range(2):
            tip = tip.newversion()
            tip["em"].write((0, 0, n * EDGE), voxels(n + 2))
            tip.commit()
        side = repo.root.branch("side")
        side["em"].write((0, 0, 3 * EDGE), voxels(5))
        side.commit()
        yield repo


@pytest.fixture
def there(served: tuple[Path, Server]) -> Iterator[Receiver]:
    made = Receiver(*served)
    with made.opened:
        yield made


def row(version: vzarr.Version) -> list[int]:
    """The values of the four blocks."""
    return version["em"].read((0, 0, 0), (1, 1, 4 * EDGE)).ravel()[::EDGE].tolist()


def asked(there: Receiver, node: str, block: int) -> bytes | str:
    """A block as the server shows it, or what it says instead."""
    url = f"{there.server.url}/api/node/{node}/em/raw/0_1_2/{EDGE}_{EDGE}_{EDGE}/{block * EDGE}_0_0"
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.read().decode()


def test_the_server_shows_what_it_has_and_says_what_it_has_not(repo: vzarr.Repo, there: Receiver):
    there.clone(repo, Limits(1), branches=["master"]).close()
    tip = repo["master"].uuid
    assert [asked(there, tip, n) for n in range(4)] == [voxels(v).tobytes() for v in (2, 3, 1, 1)]
    for n in range(2):
        assert "is not in this partial clone (--depth 1)" in asked(there, repo.uuid, n)
    there.bring(repo, branches=["side"])
    assert [asked(there, repo["side"].uuid, n) for n in range(4)] == [voxels(v).tobytes() for v in (1, 1, 1, 5)]
    assert [asked(there, repo.uuid, n) for n in range(4)] == [voxels(1).tobytes()] * 4


def test_bytes_that_were_not_sealed_are_not_taken_for_what_was_left_out(repo: vzarr.Repo, there: Receiver):
    there.clone(repo, Limits(1), branches=["master"]).close()
    key = next(key for key in leftout.read(opening.open_objects(there.root / repo.uuid), repo.uuid) if "/em" in key)
    right = repo.objects.get(key) or b""

    def put(data: bytes) -> int:
        where = f"/api/transfer/{repo.uuid}/objects/{key}?sha256={hashlib.sha256(data).hexdigest()}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(there.server.url + where, data, headers, method="PUT")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status
        except urllib.error.HTTPError as e:
            with e:
                return e.code

    assert [put(data) for data in (b"wrong", right[:-1], b"")] == [400] * 3
    assert not (there.root / repo.uuid / key).exists()
    assert put(right) == 200


def test_a_push_without_versions_brings_what_more_branches_need(repo: vzarr.Repo, there: Receiver):
    """The branch is there already, since the main one builds on it, but not by all that its newest version shows."""
    merged = repo.merge(["master", "side"])
    merged["em"].write((0, 0, 0), voxels(7, 4))
    merged.commit()
    with there.clone(repo, Limits(1), branches=["master"]) as part:
        with pytest.raises(StorageError, match="partial clone"):
            row(part["side"])
        assert there.bring(repo, branches=["side"]).versions == []
        assert row(part["side"]) == [1, 1, 1, 5]
        assert there.bring(repo, branches=["side"]).nbytes == 0
        assert len(part.log()) == 1
        left = {key for version in part.versions() for key in leftout.read(part.objects, version.uuid)}
        assert left, "the branch's own beginning is nobody's newest version"
        assert not [key for key in left if part.objects.size(key) is not None]
        assert {f.name for f in verify(part.objects)} == {"left-out"}


def test_who_clones_from_there_gets_it_right_or_is_told(repo: vzarr.Repo, there: Receiver, tmp_path: Path):
    there.clone(repo, Limits(1, ("em",)), branches=["master"]).close()
    with pytest.raises(StorageError, match=r"is not in this partial clone \(--depth 1 --instances em\)"):
        vzarr.clone(there.url(repo), str(tmp_path / "whole"))
    with pytest.raises(FormatError, match="never finished"):
        vzarr.open(str(tmp_path / "whole"))
    with vzarr.clone(there.url(repo), str(tmp_path / "part"), depth=1, instances=["em"]) as part:
        assert row(part["master"]) == [2, 3, 1, 1]
        assert not [f for f in verify(part.objects) if f.damage]


def test_from_server_to_server(repo: vzarr.Repo, there: Receiver, tmp_path: Path):
    there.clone(repo).close()
    with serving(tmp_path / "other") as server:
        other = Receiver(tmp_path / "other", server)
        with other.opened, there.place(repo) as source:
            clone(source, other.place(repo), limits=Limits(roi=("hot", "")))
            with vzarr.open(str(tmp_path / "other" / repo.uuid)) as part:
                assert part["master"]["em"].read((0, 0, 0), SIZE).tobytes() == voxels(2).tobytes()
                with pytest.raises(StorageError, match=f"--roi hot,{repo['master'].uuid}"):
                    row(part["master"])
                assert {f.name for f in verify(part.objects)} == {"left-out"}


def test_only_who_has_the_token_makes_one(repo: vzarr.Repo, there: Receiver):
    for token in ("", "wrong"):
        with pytest.raises(ForbiddenError, match="admin token"):
            clone(open_place(repo.url), there.place(repo, token), limits=Limits(1))
    assert not (there.root / repo.uuid).exists()
    there.clone(repo, Limits(1)).close()
    tip = repo["master"].newversion()
    tip["em"].write((0, 0, 0), voxels(8))
    tip.commit()
    with pytest.raises(ForbiddenError):
        push(open_place(repo.url), there.place(repo, "wrong"))
    assert there.bring(repo).versions == [tip.uuid]


@pytest.mark.parametrize("at", [1, 12, 30])
def test_a_server_that_is_killed_claims_nothing_and_goes_on(repo: vzarr.Repo, tmp_path: Path, at: int):
    root, count = tmp_path / "served", 0
    with serving(root) as server:

        def kill(_total: int, _size: int) -> None:
            nonlocal count
            count += 1
            if count == at:
                server.process.kill()

        here = Receiver(root, server)
        with here.opened, pytest.raises(StorageError, match="goes on where this one stopped"):
            here.clone(repo, Limits(1), branches=["master"], progress=kill)
    with pytest.raises(FormatError, match="never finished"):
        vzarr.open(str(root / repo.uuid))
    with serving(root) as server:
        here = Receiver(root, server)
        with here.opened, here.clone(repo, Limits(1), branches=["master"]) as part:
            assert row(part["master"]) == [2, 3, 1, 1]
            with pytest.raises(StorageError, match="partial clone"):
                row(part.root)
            assert {f.name for f in verify(part.objects)} - {"unfinished"} == {"left-out"}


def test_a_server_of_an_earlier_release_is_not_given_half_a_repo(repo: vzarr.Repo):
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.path)
            self.send_error(404, "page not found")

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with open_place(f"http://127.0.0.1:{server.server_port}", TOKEN) as old:
                with pytest.raises(InvalidInputError, match="clone into it without --depth 1"):
                    clone(open_place(repo.url), old, limits=Limits(1))
                assert old.limits() == Limits()
        finally:
            server.shutdown()
            thread.join()
    assert seen == [f"/api/transfer/{repo.uuid}/partial"], "no place was made"


def test_by_the_command_line(repo: vzarr.Repo, there: Receiver, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("VZARR_ADMIN_TOKEN", TOKEN)
    url = there.url(repo)
    assert main(["clone", repo.url, url, "--depth", "1", "--instances", "em,hot", "-b", "master"]) == 0
    assert main(["clone", repo.url, url, "--depth", "1"]) == 1
    assert "push to it" in capsys.readouterr().err
    assert main(["verify", str(there.root / repo.uuid)]) == 0
    assert "left-out" in capsys.readouterr().out
    assert main(["push", repo.url, url]) == 0
    with vzarr.open(str(there.root / repo.uuid)) as part:
        assert row(part["side"]) == [1, 1, 1, 5]
    assert main(["clone", url, str(tmp_path / "flat"), "--flatten", "side", "--instances", "em"]) == 0
    with vzarr.open(str(tmp_path / "flat")) as flat:
        assert row(flat.root) == [1, 1, 1, 5]
    for more in (["--flatten", "side"], ["--versions", f"{repo.uuid},{repo['master'].uuid}"]):
        capsys.readouterr()
        assert main(["clone", url, str(tmp_path / "no"), *more]) == 1
        assert "partial clone (--depth 1 --instances em,hot)" in capsys.readouterr().err
    assert main(["clone", repo.url, there.server.url, "--flatten", "master", "--roi", "hot", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["root"]
    assert asked(there, made, 0) == voxels(2).tobytes()
