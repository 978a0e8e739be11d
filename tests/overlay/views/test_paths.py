"""What names a part of an array's chunks."""

from __future__ import annotations

import pytest

from vzarr.overlay.hierarchy.arrays import array_docs
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.views.paths import chunk_prefix, is_key


def entry(origin: tuple[int, ...] = ()) -> ArrayEntry:
    return ArrayEntry(array_docs((8, 8), (4, 4), "u1", (), 0, None, None), ArrayId("x", "a"), origin)


@pytest.mark.parametrize(("rest", "prefix"), [("c", ()), ("c/1", (1,)), ("c/0", (0,))])
def test_folders_of_chunks(rest: str, prefix: tuple[int, ...]):
    assert chunk_prefix(entry(), rest) == prefix
    assert chunk_prefix(entry((-4, 0)), rest) == tuple(c - 1 for c in prefix[:1])


@pytest.mark.parametrize("rest", ["", "d", "c/1/1", "c/01", "c/-1", "c/x", "c/1_0", "c/ 1", "cc", "zarr.json"])
def test_folders_that_hold_none(rest: str):
    assert chunk_prefix(entry(), rest) is None


@pytest.mark.parametrize("key", ["a", "a/b", ".a", "...", "a.", "..a/b", "a b", "ä"])
def test_keys(key: str):
    assert is_key(key)


@pytest.mark.parametrize("key", ["", ".", "..", "/", "a/", "/a", "a//b", "a/./b", "a/..", "../a", "a\0"])
def test_no_keys(key: str):
    assert not is_key(key)
