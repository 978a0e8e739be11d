"""Taking stock of a folder: chunks, what lies beside them and checksums, in little memory and in the order of keys."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.sealing import seal
from vzarr.overlay.views.inventory import BATCH, Inventory, Places

ONE = np.ones((2, 2), "u1")


def places(version: vzarr.Version) -> Places:
    entries = {p: e for p, e in version.view.entries.items() if isinstance(e, ArrayEntry)}
    return Places(version.uuid, entries, lambda _entry, coord: min(coord) >= 0)


def make(version: vzarr.Version, path: str) -> None:
    version.create_array(path, dtype="u1", chunks=(2, 2), shape=(8, 8), codecs=(), dimension_names=None)


@pytest.mark.parametrize("paths", [["a"], ["a", "a-b", "a.b", "g/a", "g/a0", "g.x/a"]])
def test_a_list_of_checksums_is_sorted_by_whole_keys(file_repo: vzarr.Repo, paths: list[str]):
    root = file_repo.root
    for path in paths:
        make(root, path)
        root.write_chunks(path, {(y, x): ONE * y for y in range(3) for x in range(2)})
        root.store.write(f"{path}/c.txt", b"beside")
        root.store.write(f"{path}/c/0.txt", b"beside")
    folder = Path(file_repo.objects.path(layout.node(root.uuid)))
    root.commit()
    sums = (folder / "sums/sha256").read_bytes()
    rows = list(seal.read_sums(sums))
    keys = [key for key, _size, _digest in rows]
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"seal.json", "sums/sha256"}
    assert keys == sorted(there)
    for key, size, digest in rows:
        data = (folder / key).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)
    assert {k for k in root.view.loose() if not k.endswith(".txt")} == set()
    assert len(root.view.loose()) == 2 * len(paths)


def test_chunks_beside_and_gone(file_repo: vzarr.Repo):
    root, objects = file_repo.root, file_repo.objects
    make(root, "a")
    folder = layout.zarr(root.uuid)
    held = {"a/c/0/0": b"1234", "a/c/1/0": layout.MARKER, "a/c/-1/0": b"x", "a/c/2": b"x", "b/c/0/0": b"x"}
    for key, data in held.items():
        objects.put(f"{folder}/{key}", data)
    found = Inventory(objects, root.uuid, objects.walk(folder), places(root))
    written = found.chunks(root.view.array("a").id)
    assert written.as_mapping() == {(0, 0): root.uuid, (1, 0): 1}
    assert found.beside == ["a/c/-1/0", "a/c/2", "a/zarr.json", "b/c/0/0", "zarr.json"]
    assert b"".join(found.sums).count(b"\n") == 7


def test_a_chunk_costs_its_line_and_its_coordinates():
    with vzarr.create("memory://inventory") as repo:
        make(repo.root, "a")
        count, node, folder = 5 * BATCH, repo.uuid, layout.zarr(repo.uuid)
        rows = [(f"{folder}/a/c/{n // 100}/{n % 100}", 4) for n in range(count)]
        objects = Same("same")
        tracemalloc.start()
        try:
            found = Inventory(objects, node, iter(rows), places(repo.root))
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        line = len(b"".join(found.sums)) / count
        assert len(found.chunks(repo.root.view.array("a").id).coords) == count
        assert kept < (line + 2 * 8 + 1) * count * 1.25
        assert peak < kept + 3_000_000  # a batch on its way


class Same(MemoryObjects):
    """Four bytes at every key."""

    def read_into(self, key: str, buffer: bytearray) -> memoryview:
        return memoryview(b"1234")
