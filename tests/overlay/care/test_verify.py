"""Every kind of damage is found and named; a repo that went through everything is clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

import vzarr
from vzarr.errors import NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.history import logcheck
from vzarr.overlay.owners.directory import Page, Table, encode_block
from vzarr.overlay.sealing.seal import Record, sha256

CHUNK = (2, 2, 2)
ONES = np.ones(CHUNK, "u1")


@pytest.fixture
def repo(file_repo: vzarr.Repo) -> vzarr.Repo:
    """A history with everything in it: deletions, renames, keys, loose keys, a merge, a tag, an open tip."""
    repo, root = file_repo, file_repo.root
    root.create_array("a", dtype="u1", chunks=CHUNK)
    root.write_chunks("a", {(z, 0, 0): ONES for z in range(4)})
    root.create_array("c", dtype="u1", chunks=CHUNK)
    root.store.write("readme.txt", b"hello")
    info = repo.record_instance(root, "notes", "keyvalue")
    root.transact(info, lambda tx: tx.put(b"k", b"v"))
    left, right = root.commit().newversion(), root.branch("side")
    left.write_chunks("a", {(0, 0, 0): ONES, (20, 0, 0): ONES})
    left.delete_chunks("a", [(1, 0, 0)])
    left.store.write("new.txt", b"1")
    right.write_chunks("a", {(3, 0, 0): ONES, (-1, 0, 0): ONES})
    right.rename("c", "b")
    left.commit().tag("v1")
    right.commit()
    merged = repo.merge([left, right])
    merged.write_chunks("b", {(0, 0, 0): ONES})
    merged.commit().newversion().write_chunks("b", {(9, 9, 9): ONES})
    return repo


def names(repo: vzarr.Repo, ref: str | None = None, *, damage: bool = True) -> set[str]:
    return {f.name for f in verify(repo.objects, ref) if f.damage == damage}


def folder(repo: vzarr.Repo) -> Path:
    return Path(repo.url.removeprefix("file://"))


def test_a_sound_repo_has_no_findings(repo: vzarr.Repo):
    assert list(verify(repo.objects)) == []
    for version in repo.versions():
        assert list(verify(repo.objects, version.uuid)) == []


def test_so_has_a_new_one(url: str):
    with vzarr.create(url) as repo:
        assert list(verify(repo.objects)) == []
        with pytest.raises(NotFoundError):
            list(verify(repo.objects, "nothing"))


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("zarr/a/c/2/0/0", "object-differs"),
        ("tree.json", "tree-differs"),
        ("owners/table.json", "table-differs"),
        ("owners/pages", "pages-damaged"),
        ("sums/sha256", "sums-differs"),
        ("seal.json", "seal-differs"),
        ("zarr/readme.txt", "object-differs"),
    ],
)
def test_a_changed_byte_is_found(repo: vzarr.Repo, key: str, found: str):
    spoil(folder(repo) / layout.node(repo.uuid) / key)
    assert found in names(repo)
    assert found in names(repo, repo.uuid)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("zarr/a/c/2/0/0", {"object-missing", "chunk-missing"}),
        ("tree.json", {"tree-missing", "object-missing"}),
        ("owners/table.json", {"table-missing", "object-missing"}),
        ("owners/pages", {"pages-damaged", "object-missing"}),
        ("sums/sha256", {"sums-missing"}),
        ("seal.json", {"seal-missing"}),
        ("zarr/readme.txt", {"loose-missing", "object-missing"}),
    ],
)
def test_a_missing_object_is_found(repo: vzarr.Repo, key: str, found: set[str]):
    (folder(repo) / layout.node(repo.uuid) / key).unlink()
    assert names(repo) == found
    assert found <= names(repo, repo.uuid)


def test_what_an_ancestor_lost_is_a_damage_of_who_needs_it(repo: vzarr.Repo):
    (folder(repo) / layout.node(repo.uuid) / "zarr/a/c/2/0/0").unlink()
    assert names(repo, "side") == {"chunk-missing"}
    assert names(repo, "v1") == {"chunk-missing"}
    (folder(repo) / layout.node(repo.uuid) / "zarr/a/c/2/0/0").write_bytes(b"")
    (folder(repo) / layout.node(repo.uuid) / "zarr/a/c/0/0/0").unlink()
    assert names(repo, "side") == {"chunk-missing"}
    assert names(repo, "v1") == set()


def test_a_damaged_sidecar_is_found(repo: vzarr.Repo):
    keys = folder(repo) / layout.keys(repo.uuid, repo.state.instances["notes"].data_uuid)
    (keys / "values/c/0").write_bytes(b"nonsense")
    assert names(repo) == {"keys-damaged", "object-differs"}


def test_a_truncated_object_is_named_with_its_size(repo: vzarr.Repo):
    chunk = folder(repo) / layout.node(repo.uuid) / "zarr/a/c/2/0/0"
    size = chunk.stat().st_size
    chunk.write_bytes(chunk.read_bytes()[:-3])
    (finding,) = verify(repo.objects)
    assert finding.key == f"nodes/{repo.uuid}/zarr/a/c/2/0/0"
    assert f"{size - 3} bytes, not {size}" in finding.message


def test_a_gap_in_the_log_is_found(repo: vzarr.Repo):
    (folder(repo) / layout.log_entry(3)).unlink()
    assert "log-gap" in names(repo)


def test_a_damaged_entry_is_found(repo: vzarr.Repo):
    (folder(repo) / layout.log_entry(3)).write_bytes(b'{"number": 3')
    assert "log-damaged" in names(repo)


def test_an_entry_that_makes_no_sense_is_found(repo: vzarr.Repo):
    key = folder(repo) / layout.log_entry(2)
    entry = orjson.loads(key.read_bytes())
    key.write_bytes(orjson.dumps({**entry, "ops": [{"op": "seal", "id": "nobody", "sha256": ""}]}))
    assert "log-damaged" in names(repo)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"checkpoint": 255, "entries": []}',
        b'{"checkpoint": 0, "entries": [{"number": 1}]}',
        b'{"checkpoint": 0, "state": {}}',
        b'{"checkpoint": 0, "state": null}',
    ],
)
def test_a_wrong_hint_is_found(repo: vzarr.Repo, data: bytes):
    (folder(repo) / layout.LATEST).write_bytes(data)
    assert names(repo) == {"hint-damaged"}


def test_a_wrong_checkpoint_is_found(repo: vzarr.Repo):
    state, _ = logcheck.read_log(repo.objects)
    key = folder(repo) / layout.checkpoint(state.next - 1)
    key.write_bytes(state.compact().to_bytes())
    assert names(repo) == set()
    key.write_bytes(replace(state, alias="other").compact().to_bytes())
    assert names(repo) == {"checkpoint-damaged"}


def test_a_root_that_is_not_the_logs_is_found(repo: vzarr.Repo):
    key = folder(repo) / layout.REPO
    key.write_bytes(key.read_bytes().replace(repo.uuid.encode(), b"f" * 32))
    assert names(repo) == {"repo-damaged"}


def reseal(repo: vzarr.Repo, node: str, change: Callable[[Page], Page]) -> None:
    """Write one version's only page anew, with every checksum right up to the log."""
    table_key, where = layout.owner_table(node), folder(repo)
    table = Table.from_bytes((where / table_key).read_bytes())
    ((array, blocks),) = table.arrays.items()
    at, ref = next((at, r) for at, r in blocks.items() if r.node == node)
    reader = repo._storage.pages
    local, place = next((k, p) for k, p in reader.block(ref).items() if p.node == node)
    pages = change(reader.page(place)).encode()
    block = encode_block({**reader.block(ref), local: type(ref)(node, 0, len(pages))})
    (where / layout.owner_pages(node)).write_bytes(pages + block)
    new = Table({array: {**blocks, at: type(ref)(node, len(pages), len(block))}}).to_bytes()
    (where / table_key).write_bytes(new)
    record = Record.from_bytes((where / layout.seal(node)).read_bytes())
    lines = (where / layout.sums(node)).read_text().splitlines()
    sums = "".join(
        f"{sha256(data)} {len(data)} {name}\n"
        for name in (line.split(" ", 2)[2] for line in lines)
        for data in [(where / layout.node(node) / name).read_bytes()]
    ).encode()
    (where / layout.sums(node)).write_bytes(sums)
    data = Record(**{**record.__dict__, "table": (node, sha256(new)), "sums": sha256(sums)}).to_bytes()
    (where / layout.seal(node)).write_bytes(data)
    for entry in (where / "log").glob("*"):
        old = repo.state.nodes[node].seal
        entry.write_bytes(entry.read_bytes().replace(old.encode(), sha256(data).encode()))


@pytest.mark.parametrize(
    ("owner", "found"), [("f" * 32, {"owner-unknown", "owner-unexplained"}), ("ROOT", {"owner-unexplained"})]
)
def test_an_owner_that_nobody_made_is_found_though_every_checksum_is_right(
    file_repo: vzarr.Repo, owner: str, found: set[str]
):
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=CHUNK)
    root.write_chunks("a", {(0, 0, 0): ONES})
    child = root.commit().newversion()
    child.write_chunks("a", {(0, 0, 1): ONES})
    child.commit()
    named = owner.replace("ROOT", root.uuid)
    reseal(file_repo, child.uuid, lambda page: page)
    assert names(file_repo) == set()
    reseal(file_repo, child.uuid, lambda page: page.with_codes(np.array([5]), [named]))
    assert names(file_repo) == found
    assert "chunk-missing" in names(file_repo, child.uuid)


def test_what_interrupted_writes_left_is_told_but_no_damage(repo: vzarr.Repo):
    where = folder(repo)
    tip = repo["master"].uuid
    for key in ("tmp/x", "nodes/abandoned/zarr/x", "nodes/lost-tag/seal.json", f"nodes/{tip}/seal.json"):
        (where / key).parent.mkdir(parents=True, exist_ok=True)
        (where / key).write_bytes(b"{}")
    for key in ("journal/dead/x", "zarr/a/c/7/7/7"):
        (where / layout.node(repo.uuid) / key).parent.mkdir(parents=True, exist_ok=True)
        (where / layout.node(repo.uuid) / key).write_bytes(b"late")
    assert names(repo) == set()
    assert names(repo, damage=False) == {
        "unfinished",
        "node-unknown",
        "seal-without-entry",
        "commit-interrupted",
        "journal-left",
        "object-unlisted",
    }
