"""What is lost or damaged comes back as the very bytes that were sealed, or not at all and with a word why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.care.rebuild import rebuild_damaged, rebuild_version
from vzarr.overlay.care.verify import verify
from vzarr.types import registry

ONES = np.ones((2, 2, 2), "u1")


@pytest.fixture
def repo(file_repo: vzarr.Repo) -> vzarr.Repo:
    """A root, two children, one of which deletes a part of an array at once, and their merge with changes of its own.

    The arrays of all of them have chunks, some a window below voxel 0; there are loose keys, groups and keys.
    """
    root = file_repo.root
    for path in ("b", "a/x", "a.b"):
        root.create_array(path, dtype="u1", chunks=(2, 2, 2))
        root.write_chunks(path, {(z, 0, 0): ONES for z in range(0, 40, 13)})
    root.create_group("a", {"said": "at the root"})
    root.write("a.b", (-2, 0, 0), ONES)
    registry.create(root, "notes", "keyvalue").put("k", b"root")
    child = root.commit("root").newversion()
    child.write_chunks("b", {(0, 0, 0): ONES, (-1, 0, 0): ONES})
    child.delete_chunks("a/x", [(13, 0, 0)])
    for path in ("z", "0"):
        child.create_array(path, dtype="u1", chunks=(2, 2, 2))
        child.write_chunks(path, {(0, 0, 0): ONES})
    child["notes"].put("k", b"child")
    child.commit("child")
    side = root.branch("side")
    side.write_chunks("b", {(26, 0, 0): 2 * ONES})
    side["notes"].put("other", b"side")
    side.commit("side")
    merged = file_repo.merge([child, side])
    merged.write_chunks("z", {(0, 0, 1): 3 * ONES})
    merged["notes"].put("k", b"merged")
    merged.commit("merged")
    last = merged.newversion()
    last.write_chunks("z", {(4, 4, 4): ONES})
    last.commit("last").tag("v1")
    return file_repo


def content(repo: vzarr.Repo) -> dict[str, object]:
    """All that any version says, as one reads it anew."""
    found: dict[str, object] = {}
    with vzarr.open(repo.url) as fresh:
        for node in fresh.state.nodes:
            version = fresh[node]
            for path, array in version.zarr.members(max_depth=None):
                found[f"{node}:{path}"] = array[...].tobytes() if hasattr(array, "shape") else dict(array.attrs)
            found[f"{node}:keys"] = {k: version["notes"].get(k) for k in version["notes"].list_keys()}
    return found


KINDS = (
    "seal.json", "tree.json", "sums/sha256", "owners/table.json", "owners/pages", "keys/layers.json", "base.json",
    "base/tree.json", "base/owners/table.json",
)  # fmt: skip


@pytest.mark.parametrize("ref", ["master~3", "master~2", "side", "master~1", "master", "v1"])
@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_each_derived_object_comes_back(repo: vzarr.Repo, ref: str, harm: str):
    node, before = repo.resolve(ref), content(repo)
    folder = Path(repo.objects.path(layout.node(node)))
    there = [kind for kind in KINDS if (folder / kind).exists()]
    assert {"seal.json", "tree.json", "sums/sha256"} <= {*there, "tree.json"}
    for kind in there:
        was = (folder / kind).read_bytes()
        (folder / kind).unlink() if harm == "lost" else (folder / kind).write_bytes(was[:-3] + b"???")
        found = [f for f in verify(repo.objects) if f.damage]
        assert any(f.key.endswith(kind) for f in found), kind
        written, failed = rebuild_damaged(repo.objects, found)
        assert (written, failed) == ([f"{layout.node(node)}/{kind}"], []), kind
        assert (folder / kind).read_bytes() == was
    assert list(verify(repo.objects)) == []
    assert content(repo) == before


@pytest.mark.parametrize("ref", ["master~3", "master~2", "master~1"])
def test_several_that_vouch_for_one_another_come_back_together(repo: vzarr.Repo, ref: str):
    node, before = repo.resolve(ref), content(repo)
    folder = Path(repo.objects.path(layout.node(node)))
    for kind in ("seal.json", "tree.json", "owners/table.json", "owners/pages"):
        (folder / kind).unlink(missing_ok=True)
    assert rebuild_damaged(repo.objects, list(verify(repo.objects)))[1] == []
    for kind in ("sums/sha256", "tree.json"):
        (folder / kind).unlink(missing_ok=True)
    assert rebuild_damaged(repo.objects, list(verify(repo.objects)))[1] == []
    assert list(verify(repo.objects)) == []
    assert content(repo) == before
    assert rebuild_version(repo.objects, repo.state, node) == ([], {})


def test_documents_and_markers_beside_chunks_come_back(repo: vzarr.Repo):
    node = repo.resolve("master~2")
    for key in (f"{layout.zarr(node)}/b/zarr.json", f"{layout.zarr(node)}/a/x/c/13/0/0"):
        Path(repo.objects.path(key)).unlink()
        assert rebuild_damaged(repo.objects, list(verify(repo.objects))) == ([key], [])
    assert list(verify(repo.objects)) == []


def test_parts_that_were_deleted_at_once_are_remembered(repo: vzarr.Repo):
    version = repo["master"].newversion()
    asyncio.run(version.store.delete_dir("b/c/0"))
    version.write_chunks("b", {(0, 0, 5): ONES})
    version.commit()
    assert not version.zarr["b"][0:1, 0:1, 0:1].any()
    for kind in ("owners/pages", "owners/table.json"):
        Path(repo.objects.path(f"{layout.node(version.uuid)}/{kind}")).unlink()
    assert rebuild_damaged(repo.objects, list(verify(repo.objects)))[1] == []
    assert list(verify(repo.objects)) == []


@pytest.mark.parametrize(("side", "strategy"), [(2, "ours"), (5, "theirs")])
def test_a_merge_that_preferred_a_side_is_done_again(repo: vzarr.Repo, side: int, strategy: str):
    last = repo["master"]
    one, other = last.newversion(), last.branch("b")
    for version, value in ((one, 2), (other, 5)):
        version.write_chunks("b", {(0, 0, 0): value * ONES, (value, 0, 0): ONES})
        version.commit()
    merged = repo.merge([one, other], strategy).commit()
    assert merged.zarr["b"][2, 0, 0] == side
    for kind in ("base/owners/table.json", "owners/pages"):
        Path(repo.objects.path(f"{layout.node(merged.uuid)}/{kind}")).unlink()
    assert rebuild_damaged(repo.objects, list(verify(repo.objects)))[1] == []
    assert list(verify(repo.objects)) == []


def test_what_nothing_else_tells_is_named_with_what_to_do(repo: vzarr.Repo):
    node = repo.resolve("master~2")
    chunk = f"{layout.zarr(node)}/b/c/-1/0/0"
    for key in (chunk, layout.owner_pages(node), layout.sums(node)):
        Path(repo.objects.path(key)).unlink()
    written, failed = rebuild_damaged(repo.objects, list(verify(repo.objects)))
    assert written == []
    assert {f.key for f in failed} >= {layout.sums(node)}
    assert all("clone or mirror" in f.message for f in failed)
    assert repo.objects.get(layout.owner_pages(node)) is None


def test_a_merge_that_was_decided_by_hand_cannot_be_done_again(repo: vzarr.Repo):
    last = repo["master"]
    one, other = last.newversion(), last.branch("b")
    for version, value in ((one, 2), (other, 5)):
        version.write_chunks("b", {(0, 0, 0): value * ONES, (value, 0, 0): ONES})
        version.commit()
    merged = repo.merge([one, other], lambda _dispute: 9 * ONES).commit()
    table = f"{layout.node(merged.uuid)}/base/owners/table.json"
    Path(repo.objects.path(layout.owner_pages(merged.uuid))).unlink()
    Path(repo.objects.path(table)).unlink()
    written, failed = rebuild_damaged(repo.objects, list(verify(repo.objects)))
    assert {f.key for f in failed} == {table, layout.owner_pages(merged.uuid)} - {*written}
    assert failed
    assert all("clone or mirror" in f.message for f in failed)
