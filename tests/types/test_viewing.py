"""Boxes of images from memory: the voxels that a plain read gives, opened twice at most, never stale."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vzarr
from tests.overlay.reading.test_identity import age
from vzarr.types import kept, registry, viewing
from vzarr.types.atonce import WouldWaitError, at_once

_opened: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and "/c/" in str(arguments[0]):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)


def opened(ask: Callable[[], Any]) -> int:
    """Stored chunks that a call opens."""
    global _opened
    _opened = []
    try:
        ask()
        return len(_opened)
    finally:
        _opened = None


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    kept.cache.clear()
    yield
    kept.cache.clear()


@pytest.fixture
def image(tmp_path: Path) -> Any:
    """Voxels from (-16, 0, 0) to (16, 32, 32) in blocks of 16, some of them absent, seen from a child."""
    root = vzarr.create(str(tmp_path / "repo")).root
    handle = registry.create(root, "em", "uint8blk", config={"BlockSize": "16,16,16", "Background": "9"})
    voxels = np.random.default_rng(0).integers(0, 255, (32, 32, 32), np.uint8)
    handle.write((-16, 0, 0), voxels)
    handle.version.delete_chunks(handle.path, [(0, 1, 1)])
    root.commit()
    return root.newversion()["em"]


CORNER = st.tuples(*[st.integers(-40, 40)] * 3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CORNER, st.tuples(*[st.integers(0, 40)] * 3))
def test_every_box_is_what_a_plain_read_gives(image: Any, lo: tuple[int, ...], size: tuple[int, ...]):
    hi = tuple(a + n for a, n in zip(lo, size, strict=True))
    expected = image.version.read(image.path, lo, hi)
    for _ in range(3):
        found = viewing.read_box(image.version, image.path, (lo, hi))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        found[...] = 0  # the caller's own


def test_pages_that_are_turned_open_each_chunk_twice(image: Any):
    def page(z: int) -> Any:
        return image.read((z, 0, 0), (z + 1, 16, 32))

    first = [image.version.read(image.path, (z, 0, 0), (z + 1, 16, 32)) for z in range(-16, 0)]
    plain = opened(lambda: image.version.read(image.path, (-16, 0, 0), (-15, 16, 32)))
    assert opened(lambda: page(-16)) == plain
    assert 0 < opened(lambda: page(-15)) <= plain
    assert opened(lambda: [page(z) for z in range(-16, 0)]) == 0
    with at_once():
        assert all(np.array_equal(page(z), first[z + 16]) for z in range(-16, 0))
        with pytest.raises(WouldWaitError):
            page(0)


def test_a_chunk_that_is_written_shows_at_once(image: Any, tmp_path: Path):
    ask = lambda: int(image.read((-16, 0, 0), (-15, 1, 1))[0, 0, 0])  # noqa: E731
    for value in (1, 2):
        for _ in range(3):
            ask()
        image.write((-16, 0, 0), np.full((16, 16, 16), value, np.uint8))
        assert [ask() for _ in range(3)] == [value] * 3
        age(tmp_path)
        assert [ask() for _ in range(3)] == [value] * 3


def test_a_chunk_that_is_deleted_shows_at_once(image: Any):
    box = (-16, 0, 0), (-15, 32, 32)
    for _ in range(3):
        assert not (image.read(*box) == 9).all()
    image.version.delete_chunks(image.path, [(-1, y, x) for y in range(2) for x in range(2)])
    for _ in range(3):
        assert (image.read(*box) == 9).all()


def test_a_whole_block_is_lent_to_who_does_not_change_it(image: Any):
    box = (-16, 0, 0), (0, 16, 16)
    expected = image.version.read(image.path, *box)
    first, again, third = [viewing.read_box(image.version, image.path, box, lent=True) for _ in range(3)]
    assert np.shares_memory(again, third)
    assert not third.flags.writeable
    own = image.read(*box)
    assert own.flags.writeable
    assert not np.shares_memory(own, third)
    for found in (first, again, third, own):
        np.testing.assert_array_equal(found, expected)
    for lo, hi in (((-16, 0, 0), (-1, 16, 16)), ((-17, 0, 0), (0, 16, 16)), ((0, 16, 16), (16, 32, 32))):
        for _ in range(3):
            found = viewing.read_box(image.version, image.path, (lo, hi), lent=True)
            np.testing.assert_array_equal(found, image.version.read(image.path, lo, hi))


def test_a_scan_keeps_nothing_but_its_trace(image: Any):
    image.read((-16, 0, 0), (16, 32, 32))
    assert kept.cache.nbytes <= 9 * kept._OVERHEAD + 8 * viewing._NAME
    for _ in range(2):
        image.read((-16, 0, 0), (16, 32, 32))
    assert kept.cache.nbytes >= 7 * 16**3


def test_large_boxes_and_chunks_are_read_past_it(image: Any, monkeypatch: pytest.MonkeyPatch):
    for name in ("MOST_CHUNKS", "_LARGEST"):
        monkeypatch.setattr(viewing, name, 7)
        for _ in range(3):
            assert opened(lambda: image.read((-16, 0, 0), (16, 32, 32))) >= 7
        monkeypatch.undo()
    assert kept.cache.nbytes == 0


def test_a_merge_is_read_anew_once_it_is_sealed(image: Any):
    """What it began with has the same node."""
    one = image.version.commit()
    two = one.parents[0].branch("side").commit()
    merged = one.repo.merge([one, two])["em"]
    box = (-16, 0, 0), (16, 16, 16)
    for _ in range(3):
        merged.read(*box)
    merged.write((-16, 0, 0), np.full((16, 16, 16), 77, np.uint8))
    merged.version.commit()
    for _ in range(3):
        assert (merged.at(merged.version).read(*box)[:16] == 77).all()
