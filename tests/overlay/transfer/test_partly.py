"""Clones that are not the whole: partial ones, and mirrors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from tests.overlay.transfer.conftest import Receiver
from vzarr.cli import main
from vzarr.errors import (
    AlreadyExistsError,
    AuthorityUnavailableError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from vzarr.overlay import layout, opening
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import mirror as mirroring
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.place import WHOLE
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone
from vzarr.types.labelmap.verify import check_index
from vzarr.types.registry import create

BOX = (0, 0, 0), (64, 64, 128)


def labels(value: int) -> np.ndarray:
    return np.full((64, 64, 64), value, np.uint64)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """Three versions of a segmentation and an array; a branch from the first."""
    with vzarr.create(str(tmp_path / "first"), alias="fly") as repo:
        root = repo.root
        create(root, "seg", "labelmap").write((0, 0, 0), np.concatenate([labels(1), labels(2)], 2))
        root.create_array("em", dtype="u1", chunks=(64, 64, 64))
        root.write("em", (0, 0, 0), np.full((64, 64, 128), 7, "u1"))
        create(root, "notes", "keyvalue").put("a", b"1")
        create(root, "settings", "keyvalue", versioned=False).put("s", b"1")
        root.commit("one")
        side = root.branch("side")
        side["seg"].write((0, 0, 64), labels(9))
        side.commit("aside")
        second = root.newversion()
        second["seg"].write((0, 0, 0), labels(3))
        second.commit("two")
        third = second.newversion()
        third["seg"].merge(3, [2])
        third["notes"].put("a", b"2")
        third.commit("three")
        yield repo


def chunks_of(repo: vzarr.Repo) -> int:
    return sum("/zarr/" in key and not key.endswith("zarr.json") for key, _ in repo.objects.walk("nodes"))


def test_a_shallow_clone_has_what_its_newest_versions_need(repo: vzarr.Repo, receiver: Receiver):
    with receiver.clone(repo, Limits(1), branches=["master"]) as other:
        assert chunks_of(other) < chunks_of(repo)
        tip, mine = other["master"], repo["master"]
        assert tip.uuid == mine.uuid
        for path in ("seg/0", "em"):
            np.testing.assert_array_equal(tip.zarr[path][:], mine.zarr[path][:])
        assert dict(tip.keys("seg").scan()) == dict(mine.keys("seg").scan())
        assert other[repo.uuid]["notes"].get("a") == b"1"
        with pytest.raises(StorageError, match=r"partial clone \(--depth 1\)"):
            other[repo.uuid].read("seg/0", (0, 0, 0), (64, 64, 64))
        with pytest.raises(StorageError, match="partial clone"):
            other[repo.uuid].zarr["seg/0"][0, 0, 0]
        assert {f.name for f in verify(other.objects)} == {"left-out"}


def test_what_a_partial_clone_lost_is_told_from_what_it_left_out(repo: vzarr.Repo, receiver: Receiver):
    with receiver.clone(repo, Limits(1), branches=["master"]) as other:
        key = f"{layout.zarr(repo.uuid)}/em/c/0/0/1"
        other.objects.delete(key)
        assert {f.name for f in verify(other.objects) if f.damage} == {"object-missing", "chunk-missing"}
        with pytest.raises(StorageError, match="is missing, which"):
            other["master"].read("em", *BOX)


def test_a_partial_clone_goes_on(repo: vzarr.Repo, receiver: Receiver):
    with receiver.clone(repo, Limits(1), branches=["master"]) as other:
        tip = other["master"].newversion()
        tip["seg"].write((0, 0, 0), labels(5))
        tip.commit()
        other.push(repo.url)
        np.testing.assert_array_equal(repo["master"].zarr["seg/0"][:], tip.zarr["seg/0"][:])
        later = repo["master"].newversion()
        later["seg"].write((0, 0, 64), labels(6))
        later.commit()
        assert receiver.bring(repo, branches=["master"]).versions == [later.uuid]
        np.testing.assert_array_equal(other["master"].zarr["seg/0"][:], later.zarr["seg/0"][:])
        # The branch needs chunks of the root that nothing asked for before.
        receiver.bring(repo)
        np.testing.assert_array_equal(other["side"].zarr["seg/0"][:], repo["side"].zarr["seg/0"][:])
        assert {f.name for f in verify(other.objects)} <= {"left-out"}


def test_some_instances(repo: vzarr.Repo, receiver: Receiver, tmp_path: Path):
    with receiver.clone(repo, Limits(None, ("seg",))) as other:
        for version in (v for v in repo.versions() if v.sealed):
            np.testing.assert_array_equal(other[version.uuid].zarr["seg/0"][:], version.zarr["seg/0"][:])
            with pytest.raises(StorageError, match=r"--instances seg"):
                other[version.uuid].read("em", *BOX)
        assert not [f for f in verify(other.objects) if f.damage]
        assert check_index(other["master"]["seg"]) == []
    with pytest.raises(NotFoundError, match="'cells'"):
        clone(open_place(repo.url), open_place(str(tmp_path / "third")), limits=Limits(None, ("cells",)))
    with pytest.raises(InvalidInputError, match="at least 1"):
        Limits(0)


def test_a_partial_clone_is_resumed_with_the_same_limits(repo: vzarr.Repo, receiver: Receiver):
    def stop(_count: int, _size: int) -> None:
        raise StorageError("the cable was cut")

    with pytest.raises(StorageError, match="cable"):
        receiver.clone(repo, Limits(1), progress=stop)
    for others in (WHOLE, Limits(2)):
        with pytest.raises(InvalidInputError, match="begun with other limits: --depth 1"):
            receiver.clone(repo, others)
    receiver.clone(repo, Limits(1)).close()


def test_a_mirror_follows(repo: vzarr.Repo, tmp_path: Path):
    url = str(tmp_path / "mirror")
    tip = repo["master"].newversion("under way")
    first = mirror(open_place(repo.url), open_place(url))
    assert len(first.versions) == 4
    assert mirror(open_place(repo.url), open_place(url)).versions == []
    tip["notes"].put("b", b"3")
    tip.commit()
    repo.set_info(description="later")
    assert mirror(open_place(repo.url), open_place(url)).versions == [tip.uuid]
    assert _log(url) == _log(repo.url)
    assert not [f for f in verify(opening.open_objects(url)) if f.damage]
    with vzarr.open(url) as copy:
        assert copy.state.description == "later"
        assert copy[tip.uuid]["notes"].get("b") == b"3"
        assert copy["master"]["settings"].get("s") == b"1"
        with pytest.raises(AuthorityUnavailableError):
            copy["master"].newversion()


def test_a_mirror_takes_no_entries_after_those_of_another(
    repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Such as of a copy of the folder that went another way, and is mirrored to the same place at the same time."""
    url = str(tmp_path / "mirror")
    mirror(open_place(repo.url), open_place(url))
    before, real = repo.state.next, mirroring._copy_unversioned

    def quicker(*given: Any) -> int:
        opening.open_objects(url).put(layout.log_entry(before), b"{}")
        return real(*given)

    repo.set_info(description="later")
    monkeypatch.setattr(mirroring, "_copy_unversioned", quicker)
    with pytest.raises(AlreadyExistsError, match="their logs differ"):
        mirror(open_place(repo.url), open_place(url))
    assert _log(url)[layout.log_entry(before)] == b"{}"
    assert b"later" not in (opening.open_objects(url).get(layout.LATEST) or b"")


def _log(url: str) -> dict[str, bytes | None]:
    objects = opening.open_objects(url)
    return {key: objects.get(key) for key, _ in objects.walk("log") if key.endswith(".json")}


def test_a_mirror_becomes_a_repo(repo: vzarr.Repo, tmp_path: Path):
    url = str(tmp_path / "mirror")
    mirror(open_place(repo.url), open_place(url))
    assert rebuild(opening.open_objects(url)).restored
    with vzarr.open(url) as copy:
        tip = copy["master"].newversion()
        tip["notes"].put("c", b"4")
        tip.commit()
        assert copy.state.instances == repo.state.instances
    with pytest.raises(AlreadyExistsError, match="keys of its own"):
        mirror(open_place(repo.url), open_place(url))


def test_what_cannot_be_mirrored(repo: vzarr.Repo, tmp_path: Path):
    clone(open_place(repo.url), open_place(str(tmp_path / "clone")))
    with pytest.raises(AlreadyExistsError, match="no mirror"):
        mirror(open_place(repo.url), open_place(str(tmp_path / "clone")))
    with pytest.raises(InvalidInputError, match="memory"):
        mirror(open_place(repo.url), open_place("memory://mirror"))
    clone(open_place(repo.url), open_place(str(tmp_path / "part")), limits=Limits(1))
    with pytest.raises(InvalidInputError, match="partial clone"):
        mirror(open_place(str(tmp_path / "part")), open_place(str(tmp_path / "mirror")))


def test_by_the_command_line(repo: vzarr.Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    where = {name: str(tmp_path / name) for name in ("part", "mirror", "flat", "no")}
    assert main(["clone", repo.url, where["part"], "--depth", "1", "--instances", "seg,notes"]) == 0
    assert main(["verify", where["part"]]) == 0
    assert main(["clone", repo.url, where["mirror"], "--mirror"]) == 0
    assert main(["clone", repo.url, where["mirror"], "--mirror"]) == 0
    capsys.readouterr()
    assert main(["clone", repo.url, where["flat"], "--flatten", "side", "--json"]) == 0
    with vzarr.open(where["flat"]) as flat:
        assert json.loads(capsys.readouterr().out) == {"root": flat.uuid}
        assert flat.state.alias == "fly"
    assert main(["clone", repo.url, where["no"], "--flatten", "side", "--mirror"]) == 1
    assert main(["clone", repo.url, where["no"], "--flatten", "nowhere"]) == 1
    assert not Path(where["no"]).exists()
