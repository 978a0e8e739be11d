"""Repos of some versions of another: each holds what it held, under its own id, and stores only what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.cli import main
from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.extract import limited
from vzarr.overlay.extract.limited import limit, nearest
from vzarr.types import registry

CHUNK = (32, 32, 32)
SHAPE = (64, 64, 64)


def voxels(seed: int, kind: str = "u1") -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 6, SHAPE, kind)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """Seven versions with a branch and a merge, in which every kind of thing changes; a tag; an open tip."""
    with vzarr.create(str(tmp_path / "first"), alias="fly") as repo:
        a = repo.root
        a.create_instance("seg", "labelmap", config={"MaxDownresLevel": "1", "BlockSize": "32,32,32"})
        a.create_instance("notes", "keyvalue")
        a.create_instance("loose", "keyvalue", versioned=False).put("k", b"now")
        a["seg"].write((0, 0, 0), voxels(0, "u8"))
        a["notes"].put("a", b"1")
        a.create_array("plain", dtype="u1", chunks=CHUNK)
        a.write("plain", (0, 0, 0), voxels(1))
        a.store.write("readme.txt", b"one")
        a.commit("the first", log=["begun"])
        b = a.newversion("second")
        b["seg"].merge(1, [2])
        b.write("plain", (-32, 0, 0), voxels(2))
        b["notes"].put("b", b"2")
        b.commit()
        c = b.newversion()
        c["seg"].write((0, 0, 32), voxels(3, "u8")[:, :, :32])
        c["notes"].delete("a")
        c.delete_chunks("plain", [(0, 0, 1)])
        c.resize("plain", (0, 0, 0), (64, 64, 32))
        c.store.write("readme.txt", b"two")
        c.create_array("new/deep", dtype="f4", chunks=(8, 8))
        c.write("new/deep", (0, 0), np.ones((16, 16), "f4"))
        c.commit("third")
        side = a.branch("side")
        side["seg"].merge(3, [4])
        side["notes"].put("s", b"3")
        side.commit()
        merged = repo.merge([c, side], "ours")
        merged["notes"].put("m", b"4")
        merged.store.delete_sync("readme.txt")
        merged.commit("joined")
        d = merged.newversion()
        d.rename("new", "moved")
        d.rename("plain", "plain2")
        d.resize("plain2", (32, 0, 0), (64, 64, 32))
        d.create_array("plain", dtype="u2", chunks=CHUNK)
        d.write("plain", (0, 0, 0), voxels(5, "u2"))
        d.commit()
        d.tag("v1.0")
        d.newversion()["notes"].put("open", b"x")
        yield repo


def contents(version: vzarr.Version) -> dict[str, object]:
    """All that a version holds."""
    found: dict[str, object] = {key: bytes(version.store.read(key)[0]) for key in version.store.keys("")}
    for name in version.repo.state.instances:
        found[f"keys of {name}"] = dict(version.keys(name).scan())
    found["bounds"] = {path: version.bounds(path) for path in version.store.shown_entries() if version.has_array(path)}
    return found


def about(version: vzarr.Version) -> tuple[object, ...]:
    info = version.info
    return info.note, info.log, info.created


@pytest.mark.parametrize(
    "chosen", [[0, 1, 2, 3, 4, 5, 6], [0, 2, 5], [1, 2], [0, 3, 4, 5], [5], [1, 4, 5, 6], [0, 2, 3, 4], [3, 4]], ids=str
)
def test_each_version_holds_what_it_held(repo: vzarr.Repo, tmp_path: Path, chosen: list[int]):
    nodes = [repo.versions()[n].uuid for n in chosen]
    url = str(tmp_path / "second")
    assert limit(repo, [*reversed(nodes)], url) == nodes
    with vzarr.open(url) as made:
        assert [v.uuid for v in made.versions()] == nodes
        for node in nodes:
            assert contents(made[node]) == contents(repo[node])
            assert made[node].sealed
            assert about(made[node])[1:] == about(repo[node])[1:] or node == nodes[0]
            assert about(made[node])[0] == about(repo[node])[0]
            assert list(registry.verify(made[node])) == []
        assert list(verify(made.objects)) == []
        assert made.root["loose"].get("k") == b"now"
        ids = {i.name: i.data_uuid for i in repo.state.instances.values()}
        assert {i.name: i.data_uuid for i in made.state.instances.values()} == ids
        tip = made[nodes[-1]].branch("on")
        tip["seg"].write((0, 0, 0), voxels(9, "u8"))
        tip.commit()
        assert list(verify(made.objects)) == []


def test_a_version_stores_what_differs_from_the_one_before(repo: vzarr.Repo, tmp_path: Path):
    a, b, c = (v.uuid for v in repo.versions()[:3])
    told: list[int] = []
    limit(repo, [a, b, c], str(tmp_path / "second"), progress=lambda total, _size: told.append(total))
    with vzarr.open(str(tmp_path / "second")) as made:
        for node in (b, c):
            mine, theirs = (
                {k for k, _ in each.objects.walk(layout.zarr(node)) if "/c/" in k or "~" in k} for each in (made, repo)
            )
            assert len(mine) == len(theirs)
        assert told[-1] == len(told) == sum("/zarr/" in k and "/c/" in k for k, _ in made.objects.walk("nodes"))


def test_histories_are_cut_where_versions_are_left_out(repo: vzarr.Repo):
    a, b, c, side, merged, d, tag = (v.uuid for v in repo.versions()[:7])
    state = repo.state
    assert nearest(state, d, [a, c]) == [c]
    assert nearest(state, d, [a, b, side]) == [b, side]
    assert nearest(state, d, [a, side]) == [side]
    assert nearest(state, tag, [merged, a]) == [merged]
    assert nearest(state, a, [b]) == []


def test_what_is_cut_off_goes_on(repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nodes, url = [v.uuid for v in repo.versions()[:6]], str(tmp_path / "second")
    for count in range(1, 40, 3):
        calls = iter(range(count))
        with monkeypatch.context() as patch:
            patch.setattr(limited.Differences, "_copy", _cut(limited.Differences._copy, calls), raising=True)
            try:
                limit(repo, nodes, url)
                break
            except ZeroDivisionError:
                pass
    assert count > 1
    limit(repo, nodes, url)
    with vzarr.open(url) as made:
        for node in nodes:
            assert contents(made[node]) == contents(repo[node])
        assert list(verify(made.objects)) == []
    with pytest.raises(AlreadyExistsError):
        limit(repo, nodes[:2], url)


def _cut(whole, calls):
    def copy(self, progress, total, task):
        if next(calls, None) is None:
            raise ZeroDivisionError
        return whole(self, progress, total, task)

    return copy


def test_what_cannot_be_listed(repo: vzarr.Repo, tmp_path: Path):
    a, b, c, side = (v.uuid for v in repo.versions()[:4])
    for refs, kind in (
        ([], InvalidInputError),
        (["nowhere"], NotFoundError),
        (["master"], SealedError),
        ([b, side], InvalidInputError),
    ):
        with pytest.raises(kind):
            limit(repo, refs, str(tmp_path / "no"))
    assert not (tmp_path / "no").exists()
    with pytest.raises(AlreadyExistsError):
        limit(repo, [a, c], repo.url)


def test_the_two_repos_never_mix(repo: vzarr.Repo, tmp_path: Path):
    a, _, c = (v.uuid for v in repo.versions()[:3])
    limit(repo, [a, c], str(tmp_path / "second"))
    with vzarr.open(str(tmp_path / "second")) as made, pytest.raises(AlreadyExistsError, match="differ"):
        made.pull(repo.url)


def test_deleted_instances_stay_behind(repo: vzarr.Repo, tmp_path: Path):
    repo.delete_instance("seg")
    registry.rename(repo, "notes", "texts")
    nodes = [v.uuid for v in repo.versions()[:5]]
    limit(repo, nodes, str(tmp_path / "second"))
    with vzarr.open(str(tmp_path / "second")) as made:
        assert sorted(made.state.instances) == ["loose", "texts"]
        assert made.state.deleted == {}
        assert not [k for k, _ in made.objects.walk("nodes") if "/seg" in k]
        for node in nodes:
            assert contents(made[node]) == contents(repo[node])


def test_by_the_command_line(repo: vzarr.Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    url = str(tmp_path / "second")
    a, c = repo.versions()[0].uuid, repo.versions()[2].uuid
    assert main(["clone", repo.url, url, "--versions", f"{a[:9]},{c},v1.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"versions": [a, c, repo["v1.0"].parents[0].uuid, "v1.0"]}
    with vzarr.open(url) as made:
        assert contents(made["v1.0"]) == contents(repo["v1.0"])
    assert main(["clone", repo.url, f"{url}2", "--versions", a, "--mirror"]) == 1
    assert main(["clone", repo.url, f"{url}2", "--versions", a, "--depth", "1"]) == 1


@settings(max_examples=12)
@given(data=st.data())
def test_any_history_of_keys_and_chunks(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("limited")
    with vzarr.create(str(folder / "first")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(2,))
        repo.root.create_instance("kv", "keyvalue")
        versions = [repo.root]
        for step in range(data.draw(st.integers(3, 8), "versions")):
            tip = versions[-1]
            for place in data.draw(st.lists(st.integers(-3, 3), max_size=3, unique=True)):
                if data.draw(st.booleans()):
                    tip.write("a", (2 * place,), np.full(2, step + 1, "u1"))
                    tip["kv"].put(str(place), b"%d" % step)
                else:
                    tip.delete_chunks("a", [(place,)])
                    tip["kv"].delete(str(place))
            tip.commit()
            if len(versions) > 2 and data.draw(st.booleans(), "merge"):
                versions.append(repo.merge([data.draw(st.sampled_from(versions[:-1])), tip], "theirs"))
            else:
                versions.append(data.draw(st.sampled_from(versions)).branch(f"b{step}"))
        sealed = [v.uuid for v in versions[:-1]]
        chosen = [sealed[0], *data.draw(st.lists(st.sampled_from(sealed[1:]), min_size=1, unique=True))]
        limit(repo, chosen, str(folder / "second"))
        with vzarr.open(str(folder / "second")) as made:
            for node in chosen:
                assert contents(made[node]) == contents(repo[node])
            assert list(verify(made.objects)) == []
