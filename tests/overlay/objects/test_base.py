"""Object stores: ranges, atomic puts, exclusive creates, and failures that are not absences."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.opening import open_objects


@pytest.fixture
def objects(url: str) -> Objects:
    return open_objects(url)


@pytest.fixture
def files(tmp_path: Path) -> FileObjects:
    return FileObjects(tmp_path)


def test_absent_is_none_everywhere(objects: Objects):
    assert objects.get("a/b") is None
    assert objects.fetch("a/b", 0, 0) is None
    assert objects.size("a") is None
    assert objects.read_into("a", bytearray(4)) is None
    assert list(objects.walk()) == []
    assert list(objects.walk("a")) == []
    assert objects.list_dir("a") == ([], [])
    objects.delete("a/b")
    objects.delete_tree("a")


def test_a_folder_is_no_object_and_an_object_no_folder(objects: Objects):
    objects.put("a/b", b"1")
    assert objects.get("a") is None
    assert objects.fetch("a", 0, 0) is None
    assert objects.get("a/b/c") is None
    assert objects.read_into("a", bytearray(4)) is None
    objects.delete("a")
    assert objects.get("a/b") == b"1"
    assert list(objects.walk("a/b")) == []


def test_a_new_folder_is_there_at_the_end(objects: Objects):
    objects.put("a/x", b"0")
    with objects.new_folder("a/b") as put:
        put("c/0", b"1")
        put("zarr.json", b"2" * 100_000)
        put("c/1", b"")
    assert {key: objects.get(key) for key, _ in objects.walk()} == {
        "a/b/c/0": b"1",
        "a/b/c/1": b"",
        "a/b/zarr.json": b"2" * 100_000,
        "a/x": b"0",
    }
    with objects.new_folder("d/e") as put:
        put("f", b"3")
    assert objects.get("d/e/f") == b"3"


def test_a_folder_of_files_is_seen_whole_or_not_at_all(files: FileObjects):
    def fail() -> None:
        with files.new_folder("a/b") as put:
            put("c/0", b"1")
            assert list(files.walk("a")) == []
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(files.walk()) == []
    files.put("a/b/c", b"1")
    with pytest.raises(StorageError, match="could not write a/b"), files.new_folder("a/b") as put:
        put("d", b"2")
    assert list(files.walk()) == [("a/b/c", 1)]


@given(data=st.binary(max_size=30), offset=st.integers(-40, 40), length=st.none() | st.integers(0, 40))
def test_ranges(tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int, length: int | None):
    start = max(0, len(data) + offset) if offset < 0 else offset
    expected = data[start:] if length is None else data[start : start + length]
    for objects in (MemoryObjects("ranges"), FileObjects(tmp_path_factory.getbasetemp() / "ranges")):
        objects.put("k", data)
        assert objects.fetch("k", offset, length) == (expected, len(data))


def test_listings_are_sorted_and_cut_at_folders(objects: Objects):
    for key in ("b/2", "b/10", "b/c/d", "ba", "a"):
        objects.put(key, key.encode())
    folders, files = objects.list_dir("")
    assert (sorted({*folders} - {"tmp"}), files) == (["b"], ["a", "ba"])
    assert objects.list_dir("b") == (["c"], ["10", "2"])
    assert dict(objects.walk("b")) == {"b/10": 4, "b/2": 3, "b/c/d": 5}
    objects.rename_tree("b", "x/y")
    assert [k for k, _ in objects.walk("x")] == ["x/y/10", "x/y/2", "x/y/c/d"]
    objects.delete_tree("x/y/c")
    objects.delete_tree("b")
    assert sorted(k for k, _ in objects.walk()) == ["a", "ba", "x/y/10", "x/y/2"]
    for key in ("x/y.z", "x/y-/z", "x/y0"):
        objects.put(key, b"")
    assert [k for k, _ in objects.walk("x")] == ["x/y-/z", "x/y.z", "x/y/10", "x/y/2", "x/y0"]
    objects.put("x/y.d/e", b"")
    assert objects.list_dir("x") == (["y", "y-", "y.d"], ["y.z", "y0"])


def test_what_is_certainly_in_no_folder(files: FileObjects):
    files.put("a/b/c", b"1")
    assert [files.may_hold(f) for f in ("a", "a/b", "x", "a/b/c/d", "a/x/y")] == [True, True, False, False, False]
    assert MemoryObjects("certainly").may_hold("x"), "nobody can tell"


def test_create_never_replaces(objects: Objects):
    assert objects.create("a/b", b"1")
    assert not objects.create("a/b", b"2")
    assert objects.get("a/b") == b"1"
    objects.put("a/b", b"3")
    assert not objects.create("a/b", b"1")
    assert objects.get("a/b") == b"3"


def test_nothing_unfinished_stays(files: FileObjects):
    files.put("a", b"1")
    files.create("a", b"2")
    with pytest.raises(StorageError):
        files.put("a/b", b"1")
    assert [k for k, _ in files.walk()] == ["a"]


def test_a_put_whose_stage_was_removed_fails_and_leaves_no_trace(files: FileObjects):
    files.make_dir("stage")
    files.put("a", b"1", stage="stage")
    files.delete_tree("stage")
    with pytest.raises(StorageError):
        files.put("a", b"2", stage="stage")
    assert files.get("a") == b"1"


def test_readers_see_whole_objects_while_they_are_replaced(objects: Objects):
    stop = threading.Event()
    objects.put("k", b"0" * 5000)

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            objects.put("k", bytes([48 + n % 10]) * (5000 + n % 100))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        buffer = bytearray(10)
        for _ in range(300):
            assert len(set(objects.get("k"))) == 1
            assert len(set(bytes(objects.read_into("k", buffer)))) == 1
    finally:
        stop.set()
        thread.join()


def test_failures_are_not_absences(files: FileObjects):
    loop = Path(files.path("loop"))
    loop.symlink_to(loop)
    for read in (files.get, files.size, lambda k: files.read_into(k, bytearray(1))):
        with pytest.raises(StorageError, match="loop") as caught:
            read("loop")
        assert isinstance(caught.value, OSError)
        assert caught.value.errno
    with pytest.raises(StorageError):
        list(files.walk("loop"))
    name = "x" * 300
    assert files.get(name) is None
    with pytest.raises(StorageError):
        files.put(f"{name}/a", b"1")


def test_two_stores_of_one_name_hold_the_same():
    MemoryObjects("shared").put("a", b"1")
    assert MemoryObjects("shared").get("a") == b"1"
    assert MemoryObjects("other").get("a") is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("/a/b", "file:///a/b"),
        ("file:///a/b%20c", "file:///a/b c"),
        ("memory://x/", "memory://x"),
        ("memory://x/y", "memory://x/y"),
        (Path("/a"), "file:///a"),
        ("a", f"file://{os.getcwd()}/a"),  # noqa: PTH109
    ],
)
def test_urls(given: str | Path, url: str):
    assert open_objects(given).url == url


@pytest.mark.parametrize(
    ("given", "error"),
    [("", InvalidInputError), ("s3://", UnsupportedError), ("nope://x/y", UnsupportedError)],
)
def test_other_urls_are_refused(given: str, error: type[Exception]):
    with pytest.raises(error):
        open_objects(given)


def test_a_copy_is_an_object_of_its_own(objects: Objects):
    objects.put("a/b", b"1")
    objects.put("c", b"2")
    for _ in range(2):
        objects.copy("a/b", "c")
        objects.copy("a/b", "d/e/f")
        objects.copy("a/b", "a/b")
    assert [objects.get(k) for k in ("a/b", "c", "d/e/f")] == [b"1"] * 3
    assert list(objects.walk("tmp")) == []
    objects.put("c", b"3")
    objects.delete("a/b")
    assert [objects.get(k) for k in ("a/b", "c", "d/e/f")] == [None, b"3", b"1"]
    with pytest.raises(StorageError, match="could not copy"):
        objects.copy("a/b", "x")
    assert objects.get("x") is None


def test_where_files_get_no_second_name_they_are_copied(files: FileObjects, monkeypatch: pytest.MonkeyPatch):
    files.put("a", b"1")
    Path(files.path("link")).symlink_to(files.path("a"))
    files.copy("link", "b")
    assert not Path(files.path("b")).is_symlink()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    files.copy("a", "c")
    assert files.get("b") == files.get("c") == b"1"
    assert Path(files.path("a")).stat().st_nlink == 1


def test_a_copy_of_a_writer_that_is_gone_fails(files: FileObjects):
    files.put("a", b"1")
    files.make_dir("stage")
    files.copy("a", "b", stage="stage")
    files.delete_tree("stage")
    with pytest.raises(StorageError):
        files.copy("a", "c", stage="stage")
    assert files.get("c") is None


@pytest.mark.parametrize("key", ["../x", "a/../../x", ".."])
def test_nothing_is_changed_outside_of_the_folder(tmp_path: Path, key: str):
    (tmp_path / "x").write_bytes(b"whose it is")
    files = FileObjects(tmp_path / "repo")
    files.put("a/y", b"1")
    changes: list[Callable[[], object]] = [
        lambda: files.put(key, b"2"),
        lambda: files.create(f"{key}/new", b"2"),
        lambda: files.delete(key),
        lambda: files.delete_tree(key),
        lambda: files.move("a/y", key),
    ]
    for change in changes:
        with pytest.raises(StorageError, match="leads out"):
            change()
    assert (tmp_path / "x").read_bytes() == b"whose it is"
    assert files.get("a/y") == b"1"


def test_what_the_system_reads_in_parts_is_read_whole(files: FileObjects, monkeypatch: pytest.MonkeyPatch):
    """Linux reads less than 2 GiB at a time."""
    real, data = os.readv, bytes(range(10))
    files.put("a", data)
    monkeypatch.setattr(os, "readv", lambda fd, views: real(fd, [view[:3] for view in views]))
    found = files.read_into("a", bytearray())
    assert found is not None
    assert bytes(found) == data
    monkeypatch.setattr(os, "readv", lambda _fd, _views: 0)
    with pytest.raises(StorageError, match="could not be read whole"):
        files.read_into("a", bytearray())
