"""Sealed key changes: round trips, plain Zarr, and damage that is noticed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd

from vzarr.errors import FormatError, InvalidInputError
from vzarr.overlay.kv import sidecar
from vzarr.overlay.kv.sidecar import Change, Sidecar


def encode(changes: Iterable[Change]) -> dict[str, bytes]:
    """The objects of a sidecar, by name."""
    objects: dict[str, bytes] = {}
    count = sidecar.write(changes, objects.__setitem__)
    assert count == len(Sidecar(objects.get))
    return objects


SOME = [(b"", b"empty key"), (b"\0", b""), (b"a", None), (b"b", b"\0\0")]
MANY = [(b"%06d" % i, None if i % 7 == 0 else b"v" * (i % 50)) for i in range(100_000)]


def small_chunks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sidecar, "CHUNK_BYTES", dict.fromkeys(sidecar.ARRAYS, 16))
    patch.setattr(sidecar, "BLOCK", 3)


changes = st.dictionaries(st.binary(max_size=20), st.none() | st.binary(max_size=40), max_size=20)


@settings(max_examples=100, deadline=None)
@given(changes, st.booleans(), st.binary(max_size=20))
def test_round_trip(changes, small, other):
    with pytest.MonkeyPatch.context() as patch:
        if small:
            small_chunks(patch)
        read = Sidecar(encode(sorted(changes.items())).get)
        assert list(read) == sorted(changes.items())
    assert len(read) == len(changes)
    for key in [*changes, other]:
        assert read.lookup(key, "unchanged") == changes.get(key, "unchanged")


def write(objects: dict[str, bytes], folder: Path) -> None:
    for name, content in objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("changes", [[], SOME, MANY], ids=["none", "some", "many"])
def test_plain_zarr_reads_it(tmp_path, changes, consolidated):
    write(encode(changes), tmp_path)
    group = zarr.open_group(tmp_path, mode="r", use_consolidated=consolidated)
    assert {name: array.dtype.name for name, array in group.arrays()} == sidecar.ARRAYS
    keys, values = group["keys"][:].tobytes(), group["values"][:].tobytes()
    key_offsets, value_offsets = group["key_offsets"][:], group["value_offsets"][:]
    assert len(key_offsets) == len(changes) + 1
    np.testing.assert_array_equal(group["deleted"][:], [value is None for _, value in changes])
    for i in (*range(min(4, len(changes))), *range(70_000, min(70_010, len(changes)))):
        assert keys[key_offsets[i] : key_offsets[i + 1]] == changes[i][0]
        assert values[value_offsets[i] : value_offsets[i + 1]] == (changes[i][1] or b"")


def test_same_changes_same_bytes():
    assert encode(SOME) == encode(iter(SOME))
    assert encode(SOME) != encode(SOME[1:])


def test_objects_leave_as_soon_as_they_are_full():
    """Changes of 64 MiB: never more than a few MiB wait to be written, or are kept by who reads them."""
    given = left = kept = 0
    noise = np.random.default_rng(1)
    objects: dict[str, bytes] = {}

    def changes() -> Iterator[Change]:
        nonlocal given, kept
        for n in range(1024):
            value = noise.bytes(1 << 16)
            given += len(value)
            kept = max(kept, given - left)
            yield b"%06d" % n, value

    def put(name: str, data: bytes) -> None:
        nonlocal left
        objects[name] = data
        left += len(data)

    assert sidecar.write(changes(), put) == 1024
    assert given == 64 << 20
    assert kept < 4 << 20
    assert sum(len(value or b"") for _, value in Sidecar(objects.get)) == given


def test_a_small_sidecar_is_a_few_small_objects():
    objects = encode(SOME)
    assert len(objects) == 11
    assert sum(len(objects[f"{name}/c/0"]) for name in sidecar.ARRAYS) < 200


def test_lookup_reads_few_chunks():
    objects = encode(MANY)
    opened = []

    def get(name):
        opened.append(name)
        return objects.get(name)

    assert Sidecar(get).lookup(b"054321", "unchanged") == dict(MANY)[b"054321"]
    assert len(opened) <= 12
    assert len(opened) == len(set(opened))


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"]])
def test_order_is_demanded(keys):
    with pytest.raises(InvalidInputError, match="ascending"):
        encode((key, b"") for key in keys)


@pytest.mark.parametrize("name", [name for name in encode(SOME) if "/c/" in name])
@pytest.mark.parametrize("content", [None, b"", b"rubbish", sidecar._zstd.encode(b"12345678")])
def test_damage_is_noticed(name, content):
    with pytest.raises(FormatError, match=name):
        list(Sidecar((encode(SOME) | {name: content}).get))


def test_offsets_that_lead_nowhere():
    far = sidecar._zstd.encode(np.array([0, 0, 1, 2, 99], "<u8"))
    with pytest.raises(FormatError, match="keys"):
        list(Sidecar((encode(SOME) | {"key_offsets/c/0": far}).get))


@pytest.mark.parametrize("content", [None, b"{}", b"[]", b"not json", encode([])["keys/zarr.json"]])
def test_no_sidecar(content):
    with pytest.raises(FormatError, match="no sidecar"):
        Sidecar({"zarr.json": content}.get)


def test_a_chunk_that_claims_or_holds_more_than_it_may_takes_no_memory():
    """They come from other people's repos."""
    objects = encode(SOME)
    bomb = Zstd(level=1).encode(bytes(1 << 28))
    group = orjson.loads(objects["zarr.json"])
    for length in (0, 1 << 40):
        group["consolidated_metadata"]["metadata"]["values"]["chunk_grid"]["configuration"]["chunk_shape"] = [length]
        with pytest.raises(FormatError, match="sidecar array values has chunks of"):
            Sidecar({**objects, "zarr.json": orjson.dumps(group)}.get)
    tracemalloc.start()
    with pytest.raises(FormatError, match="damaged: a zstd frame of 268435456 bytes"):
        list(Sidecar({**objects, "values/c/0": bomb}.get))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 24


def test_newer_format():
    newer = encode(SOME)["zarr.json"].replace(b'"version": 1', b'"version": 2')
    with pytest.raises(FormatError, match="format 2"):
        Sidecar((encode(SOME) | {"zarr.json": newer}).get)


def test_failures_pass_through():
    def get(name):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Sidecar(get)
