"""The contract of objects on a real S3 server, through both clients; and what only an object store has."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.overlay.objects.test_base import (  # noqa: F401 - they run here on the fixtures of this folder
    test_a_folder_is_no_object_and_an_object_no_folder,
    test_absent_is_none_everywhere,
    test_create_never_replaces,
    test_listings_are_sorted_and_cut_at_folders,
    test_readers_see_whole_objects_while_they_are_replaced,
)
from vzarr.errors import SealedError, StorageError
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.drivers.s3 import S3
from vzarr.overlay.objects.remote import RemoteObjects
from vzarr.overlay.opening import open_objects

SHARED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED
@given(data=st.binary(max_size=30), offset=st.integers(-40, 40), length=st.none() | st.integers(0, 40))
def test_ranges(objects: RemoteObjects, data: bytes, offset: int, length: int | None):
    start = max(0, len(data) + offset) if offset < 0 else offset
    expected = data[start:] if length is None else data[start : start + length]
    objects.put("k", data)
    assert objects.fetch("k", offset, length) == (expected, len(data))


@pytest.mark.parametrize(("offset", "length"), [(0, None), (0, 0), (10, 20), (90, 20), (-10, None), (-10, 5)])
def test_a_range_tells_the_size_in_one_request(objects: RemoteObjects, offset: int, length: int | None):
    objects.put("k", bytes(100))
    objects.requests.clear()
    assert objects.fetch("k", offset, length)[1] == 100
    assert objects.requests.total() == 1


def test_keys_of_any_kind(objects: RemoteObjects):
    keys = ["a~b~0/c/-1/0", "a%b", "a#b", "a?versionId=x", "ü", "a b", "a+b", "a&b=c", "x'y", "(z)"]
    for key in keys:
        objects.put(key, key.encode())
    assert [objects.get(key) for key in keys] == [key.encode() for key in keys]
    assert sorted(k for k, _ in objects.walk()) == sorted(keys)
    objects.rename_tree("a~b~0", "moved~0")
    objects.delete_tree("")
    assert list(objects.walk()) == []


def test_more_than_a_page(objects: RemoteObjects):
    for key, _ in [*objects.walk()]:
        objects.delete(key)
    objects._each(lambda key: objects.put(key, b"1"), [f"f/{n:04}" for n in range(1203)])
    assert [k for k, _ in objects.walk("f")] == [f"f/{n:04}" for n in range(1203)]
    assert len(objects.list_dir("f")[1]) == 1203
    objects.requests.clear()
    objects.delete_tree("f")
    assert objects.requests == {"list": 2, "delete": 2}
    assert list(objects.walk()) == []


def test_a_second_client_sees_a_write_at_once(objects: RemoteObjects, lane: str):
    other = open_objects(objects.url)
    for n in range(20):
        assert objects.get(f"d/{n}") is None
        assert objects.list_dir("d")[1] == sorted(str(i) for i in range(n))
        other.put(f"d/{n}", b"1")
        assert objects.get(f"d/{n}") == b"1"
        assert len(list(objects.walk("d"))) == n + 1
    other.delete_tree("d")
    assert objects.list_dir("d") == ([], [])


def test_one_of_many_creates_wins(objects: RemoteObjects):
    for n in range(10):
        barrier, won = threading.Barrier(8), []

        def race(worker: int, n: int = n, barrier: threading.Barrier = barrier, won: list[int] = won) -> None:
            barrier.wait()
            if objects.create(f"race/{n}", b"the same bytes"):
                won.append(worker)

        racers = [threading.Thread(target=race, args=(w,)) for w in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert len(won) == 1


def test_a_stalled_writer_is_refused_at_the_last_moment(objects: RemoteObjects):
    valid = True
    objects.open_stage("stage", lambda: valid)
    objects.put("a", b"1", stage="stage")
    valid = False
    with pytest.raises(SealedError):
        objects.put("a", b"2", stage="stage")
    objects.open_stage("another", lambda: True)
    with pytest.raises(SealedError):
        objects.put("a", b"2", stage="stage")
    assert objects.get("a") == b"1"


def test_moving_what_is_not_there(objects: Objects):
    with pytest.raises(StorageError, match="missing"):
        objects.move("none", "there")
    assert objects.get("there") is None


def test_a_bucket_that_does_not_exist(lane: str):
    nowhere = open_objects(f"s3://nowhere-{uuid.uuid4().hex[:8]}/x")
    for use in (
        lambda: nowhere.get("a"),
        lambda: nowhere.size("a"),
        lambda: nowhere.fetch("a", 1, 2),
        lambda: nowhere.put("a", b"1"),
        lambda: nowhere.create("a", b"1"),
        lambda: nowhere.delete("a"),
        lambda: nowhere.list_dir(""),
        lambda: list(nowhere.walk()),
    ):
        with pytest.raises(StorageError, match="no bucket"):
            use()


def test_what_is_listed_a_few_at_a_time_is_listed_whole(objects: Objects, monkeypatch: pytest.MonkeyPatch):
    """Servers may give less than a page and say that there is more."""
    call, asked = S3._call, list[str]()

    async def few(driver: S3, verb: str, **options: Any) -> Any:
        asked.append(verb)
        return await call(driver, verb, **{**options, **({"MaxKeys": 3} if verb == "list_objects_v2" else {})})

    keys = [f"f/{n}" for n in range(8)]
    for key in keys:
        objects.put(key, b"x")
    monkeypatch.setattr(S3, "_call", few)
    assert [key for key, _size in objects.walk("f")] == keys
    assert asked.count("list_objects_v2") == 3
    objects.delete_tree("f")
    monkeypatch.undo()
    assert not list(objects.walk())
