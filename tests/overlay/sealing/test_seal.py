"""Seals: deterministic, chained by checksums from the log on, every changed byte named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

import vzarr
from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.sealing import seal
from vzarr.overlay.sealing.seal import Record

DATA = np.arange(64, dtype="u2").reshape(8, 8) + 1


@pytest.fixture
def sealed(version: vzarr.Version) -> vzarr.Version:
    """A sealed version that wrote chunks, a loose key and sidecar keys."""
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.write("a", (0, 0), DATA)
    version.store.write("notes/x", b"loose")
    version.repo.record_instance(version, "kv", "keyvalue")
    version.transact("kv", lambda tx: tx.put(b"k", b"v"))
    return version.commit("done")


def _sums(version: vzarr.Version) -> dict[str, tuple[int, str]]:
    data = version.repo.objects.get(layout.sums(version.uuid))
    return {k: (size, digest) for k, size, digest in seal.read_sums(data)}


def test_a_record_survives_its_bytes():
    record = Record(("a", "b"), ("a", "00"), ("b", "11"), "22", {"i": 3}, 7)
    assert Record.from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}', b'{"format": "x"}', b"null"])
def test_a_damaged_record_is_refused(data: bytes):
    with pytest.raises(FormatError):
        Record.from_bytes(data)


def test_a_record_of_a_newer_format_is_refused():
    plain = orjson.loads(Record((), ("a", "0"), ("a", "0")).to_bytes())
    with pytest.raises(FormatError, match="reads up to"):
        Record.from_bytes(orjson.dumps({**plain, "format": layout.FORMAT + 1}))


def test_the_log_holds_the_hash_of_the_seal_and_the_seal_that_of_all_else(sealed: vzarr.Version):
    objects, node = sealed.repo.objects, sealed.uuid
    data = objects.get(layout.seal(node))
    assert seal.sha256(data) == sealed.info.seal
    record = Record.from_bytes(data)
    assert record.parents == sealed.info.parents
    assert record.sums == seal.sha256(objects.get(layout.sums(node)))
    assert record.keys == {sealed.instance_info("kv").data_uuid: 1}
    folder = layout.node(node)
    stored = {k[len(folder) + 1 :] for k, _ in objects.walk(folder)}
    assert set(_sums(sealed)) == stored - {"seal.json", "sums/sha256"}
    for key, (size, digest) in _sums(sealed).items():
        whole = objects.get(f"{folder}/{key}")
        assert (len(whole), seal.sha256(whole)) == (size, digest)
    assert list(_sums(sealed)) == sorted(_sums(sealed))


def test_two_committers_write_the_same_bytes(url: str):
    """What seals a version depends on what is in it, not on when or by whom it is sealed."""
    found = []
    for n in range(2):
        with vzarr.create(f"{url}/{n}", root="r") as repo:
            version = repo.root
            version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
            order = [(y, x) for y in (0, 4) for x in (0, 4)]
            for y, x in order if n else order[::-1]:
                version.write("a", (y, x), DATA[y : y + 4, x : x + 4])
            version.commit(f"note {n}", user=f"user {n}")
            found.append(repo.objects.get(layout.seal("r")))
    assert found[0] == found[1]


@pytest.mark.parametrize("part", ["seal", "tree", "owner_table"])
def test_a_changed_byte_in_what_a_version_is_read_by_is_named(sealed: vzarr.Version, part: str):
    key = getattr(layout, part)(sealed.uuid)
    objects = sealed.repo.objects
    data = bytearray(objects.get(key))
    data[len(data) // 2] ^= 1
    objects.put(key, bytes(data))
    with vzarr.open(sealed.url) as repo, pytest.raises(FormatError, match=key.replace(".", r"\.")):
        repo[sealed.uuid].store.read("a/zarr.json")


def test_changed_owner_pages_are_named(sealed: vzarr.Version):
    key = layout.owner_pages(sealed.uuid)
    objects = sealed.repo.objects
    objects.put(key, b"\0" * objects.size(key))
    with vzarr.open(sealed.url) as repo, pytest.raises(FormatError, match=key):
        repo[sealed.uuid].read("a", (0, 0), (8, 8))


@pytest.mark.parametrize("part", ["seal", "tree", "owner_table", "owner_pages"])
def test_a_missing_part_is_an_error_and_no_empty_version(sealed: vzarr.Version, part: str):
    key = getattr(layout, part)(sealed.uuid)
    sealed.repo.objects.delete(key)
    with vzarr.open(sealed.url) as repo, pytest.raises((FormatError, StorageError), match=key.replace(".", r"\.")):
        repo[sealed.uuid].read("a", (0, 0), (8, 8))


def test_a_missing_chunk_of_a_sealed_version_is_an_error(sealed: vzarr.Version):
    key = next(k for k, _ in sealed.repo.objects.walk(layout.zarr(sealed.uuid)) if k.endswith("c/1/0"))
    sealed.repo.objects.delete(key)
    for read in (
        lambda: sealed.read("a", (0, 0), (8, 8)),
        lambda: sealed.zarr["a"][...],
        lambda: sealed.store.read("a/c/1/0"),
        lambda: list(sealed.read_chunks("a", [(1, 0)])),
    ):
        with pytest.raises(StorageError, match="is missing"):
            read()
    assert sealed.store.read("a/c/7/7") is None


def test_an_unchanged_child_adds_only_a_seal(sealed: vzarr.Version):
    child = sealed.newversion().commit()
    folder = layout.node(child.uuid)
    assert {k[len(folder) + 1 :] for k, _ in sealed.repo.objects.walk(folder)} == {"seal.json", "sums/sha256"}
    assert np.array_equal(child.zarr["a"][...], DATA)


def test_a_tag_is_sealed_and_equal(sealed: vzarr.Version):
    tag = sealed.tag("v1.0")
    assert (tag.uuid, tag.branch_name, tag.sealed) == ("v1.0", "tag-v1.0", True)
    assert np.array_equal(tag.zarr["a"][...], DATA)
    assert tag.keys("kv").get(b"k") == b"v"
    assert sealed.repo["v1.0"] == tag


def test_sealed_versions_need_no_keys(sealed: vzarr.Version, tmp_path: Path):
    if not sealed.url.startswith("file:"):
        pytest.skip("what lies in memory has no folder to take away")
    sealed.repo.close()
    objects = sealed.repo.objects
    objects.delete_tree("keys")
    with vzarr.open(sealed.url) as repo:
        assert np.array_equal(repo[sealed.uuid].zarr["a"][...], DATA)
        assert repo[sealed.uuid].store.read("notes/x")[0] == b"loose"


def test_a_list_of_checksums_that_was_cut_short_is_none():
    line = f"{'0' * 64} 3 a key\n".encode()
    assert list(seal.read_sums(b"")) == []
    assert list(seal.read_sums(line)) == [("a key", 3, "0" * 64)]
    for cut in range(1, len(line)):
        with pytest.raises(ValueError, match="no end"):
            list(seal.read_sums(line + line[:-cut]))
