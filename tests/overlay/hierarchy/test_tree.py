"""Metadata documents: what makes an array, how its chunks are named, when it stays the same array."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from vzarr.errors import InvalidInputError
from vzarr.overlay.hierarchy import marks, tree
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Entry, Tree

ID = ArrayId("0" * 32, "a")


def docs(**options: Any) -> dict[str, bytes]:
    """Documents of an array as zarr writes them."""
    held: dict[str, Any] = {}
    zarr.create_array(MemoryStore(held), **{"shape": (8, 8), "chunks": (4, 4), "dtype": "u2", **options})
    return {k: v.to_bytes() for k, v in held.items()}


@given(
    ndim=st.integers(0, 4),
    separator=st.sampled_from("./"),
    style=st.sampled_from(["v2", "v3-default", "v3-v2"]),
    data=st.data(),
)
def test_keys_are_those_of_zarr_and_lead_back(ndim: int, separator: str, style: str, data: st.DataObject):
    name = "default" if style == "v3-default" else "v2"
    held: dict[str, Any] = {}
    array = zarr.create_array(
        MemoryStore(held), shape=(3,) * ndim, chunks=(1,) * ndim, dtype="u1", fill_value=0,
        zarr_format=2 if style == "v2" else 3, chunk_key_encoding={"name": name, "separator": separator},
    )  # fmt: skip
    spec = tree.parse_array({k: v.to_bytes() for k, v in held.items()})
    coord = data.draw(st.tuples(*[st.integers(0, 2)] * ndim))
    before = set(held)
    array[coord if coord else ...] = 1
    (key,) = set(held) - before
    assert spec.key(coord) == key
    assert spec.coord(key) == coord
    signed = data.draw(st.tuples(*[st.integers(-(10**9), 10**9)] * ndim))
    assert spec.coord(spec.key(signed)) == signed


NO_CHUNKS = [
    "c",
    "c/",
    "c/0",
    "c/0/0/0",
    "c/00/0",
    "c/+1/0",
    "c/1/ 0",
    "c/-0/0",
    "c/1_0/0",
    "c/٣/0",
    "c.0.0",
    "0/0",
    "",
]


@pytest.mark.parametrize("key", [*NO_CHUNKS, "c/0/zarr.json"])
def test_no_two_keys_name_one_chunk(key: str):
    assert tree.parse_array(docs()).coord(key) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"7", b"\xff", b"{}", b'{"zarr_format": 3}',
        b'{"zarr_format": 2, "node_type": "group"}',
        b'{"zarr_format": 3, "node_type": "array"}', b'{"zarr_format": 3, "node_type": "array", "shape": 3}',
        b'{"zarr_format": 3, "node_type": "array", "shape": ["x"], "chunk_grid": {"name": "regular"}}',
        b'{"zarr_format": 3, "node_type": "array", "shape": [1], "chunk_grid": []}',
    ],
)  # fmt: skip
def test_what_is_no_metadata(data: bytes):
    assert tree.parse_doc("zarr.json", data) is None
    assert tree.spec_of("zarr.json", data) is None
    with pytest.raises(InvalidInputError, match="no Zarr array"):
        tree.parse_array({"zarr.json": data})


@pytest.mark.parametrize("change", [{"dtype": "u4"}, {"chunks": (2, 4)}, {"fill_value": 1}, {"compressors": None}])
def test_what_changes_the_meaning_of_stored_bytes(change: dict[str, Any]):
    for zarr_format in (2, 3):
        plain = tree.parse_array(docs(zarr_format=zarr_format))
        assert tree.parse_array(docs(zarr_format=zarr_format, **change)).meaning != plain.meaning


def test_what_does_not():
    plain = tree.parse_array(docs()).meaning
    for change in ({"shape": (9, 1)}, {"attributes": {"a": 1}}, {"dimension_names": ("y", "x")}):
        assert tree.parse_array(docs(**change)).meaning == plain
    assert tree.parse_array(docs(shards=(8, 8))).chunks == (8, 8)
    spaced = {"zarr.json": orjson.dumps(orjson.loads(docs()["zarr.json"]))}
    assert tree.parse_array(spaced).meaning == plain


def test_a_tree_survives_its_bytes():
    entries = {
        "": Entry({"zarr.json": b"{}"}),
        "a": ArrayEntry(docs(), ID, (-4, 8)),
        "b/ä": ArrayEntry(docs(zarr_format=2), ArrayId("x", "b", 2)),
    }
    whole = Tree(entries, {"loose/key": "0" * 32})
    assert Tree.from_bytes(whole.to_bytes()) == whole
    turned = Tree(dict(reversed(entries.items())), whole.loose)
    assert turned.to_bytes() == whole.to_bytes()


def test_the_innermost_array_owns_a_key():
    entries = {"": Entry({}), "a": ArrayEntry(docs(), ID), "a/b": ArrayEntry(docs(), ID), "ab": Entry({})}
    for key, path in {"a/c/0/0": "a", "a/b/c/0/0": "a/b", "a/bc": "a", "a/b/c": "a/b"}.items():
        assert tree.array_of(entries, key)[0] == path
    for key in ("a", "ab/c/0/0", "zarr.json", "c/0/0"):
        assert tree.array_of(entries, key) is None
    assert tree.array_of({"": ArrayEntry(docs(), ID)}, "c/0/0")[0] == ""
    assert sorted(tree.below({"a": 1, "a/b": 1, "ab": 1}, "a")) == ["a", "a/b"]


def test_origins_come_and_go_with_the_attributes():
    for zarr_format, name in ((3, "zarr.json"), (2, ".zattrs")):
        entry = ArrayEntry(docs(zarr_format=zarr_format, attributes={"a": 1}), ID, (-4, 0))
        data = entry.shown_docs()[name]
        plain, origin = tree.split_origin(name, data)
        assert origin == (-4, 0)
        assert orjson.loads(plain) == orjson.loads(entry.docs[name])
        assert tree.split_origin(name, plain) == (plain, None)


def test_folders_of_one_path_differ_by_identity():
    names = {ArrayId(c, "a/b", n).folder(of_root=False, root="r") for c in ("x", "y") for n in (0, 1)}
    assert len(names) == 4
    assert all(tree.RESERVED.search(n) for n in names)
    assert ArrayId("x", "a/b").folder(of_root=True, root="r") == "a/b"
    assert ArrayId("r", "a/b").folder(of_root=False, root="r") == "a/b"
    assert ArrayId(*ID.to_json()) == ID


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_marked_metadata_are_refused_by_zarr(zarr_format: int):
    plain = docs(zarr_format=zarr_format)
    found = marks.marked(plain, (-4, 0))
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    held = {k: buffer.from_bytes(v) for k, v in found.items()}
    with pytest.raises((KeyError, ValueError), match="vzarr"):
        zarr.open_array(MemoryStore(held), mode="r")


def test_only_small_documents_are_remembered():
    for size in (10, 1 << 15):
        group = orjson.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"filler": "x" * size}})
        tree._kept_doc.cache_clear()
        assert [tree.read_doc("zarr.json", group) for _ in range(2)] == [(True, None)] * 2
        assert tree._kept_doc.cache_info().currsize == (size < tree._KEPT_BYTES)
