"""Palettes against the volumes they stand for; the cache is bounded, is used, and is never stale."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vzarr
from tests.overlay.reading.test_identity import age
from vzarr.types import kept, registry
from vzarr.types.atonce import WouldWaitError, at_once
from vzarr.types.labelmap import volumes
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.palettes import Palette

SIDE = 16
_opened: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and "/zarr/" in str(arguments[0]):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    limit = kept.cache.limit
    kept.cache.clear()
    yield
    kept.keep_at_most(limit)
    kept.cache.clear()


@pytest.fixture
def seg(tmp_path: Path) -> LabelMap:
    """Two blocks in an open version that inherits them."""
    root = vzarr.create(str(tmp_path / "repo")).root
    handle = registry.create(root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
    handle.write((0, 0, 0), np.arange(1, 3, dtype=np.uint64).repeat(SIDE)[None, None].repeat(SIDE, 0).repeat(SIDE, 1))
    root.commit()
    return root.newversion()["seg"]


@pytest.fixture
def mixed(tmp_path: Path) -> LabelMap:
    """Two bodies in each of two blocks."""
    root = vzarr.create(str(tmp_path / "repo")).root
    handle = registry.create(root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
    handle.write((0, 0, 0), np.tile(np.arange(1, 3, dtype=np.uint64), SIDE)[None, None].repeat(SIDE, 0).repeat(SIDE, 1))
    root.commit()
    return root.newversion()["seg"]


def opened(ask: object) -> int:
    """Stored chunks that a call opens."""
    global _opened
    _opened = []
    try:
        ask()
        return len([name for name in _opened if name.endswith(("/0/0/0", "/0/0/1"))])
    finally:
        _opened = None


@given(hnp.arrays(np.uint64, st.tuples(*[st.integers(1, 5)] * 3), elements=st.sampled_from([0, 1, 7, 2**64 - 1])))
def test_a_palette_is_the_block(block: np.ndarray):
    palette = Palette.of(block)
    assert np.array_equal(palette.voxels(), block)
    assert sorted(palette.labels.tolist()) == np.unique(block).tolist()
    moved = palette.labels // np.uint64(2)
    assert np.array_equal(palette.voxels(moved), block // np.uint64(2))


@pytest.mark.parametrize("form", ["blocks", "lz4", "gzip", "uncompressed"])
def test_a_second_read_opens_no_chunk(seg: LabelMap, form: str):
    asks = {
        "stream": lambda: b"".join(seg.block_stream([(0, 0, 0), (0, 0, 1)], form)),
        "points": lambda: seg.labels_at([(0, 0, 0), (1, 1, 31)]),
        "box": lambda: seg.read((1, 1, 1), (9, 9, 25)),
    }
    first = {name: ask() for name, ask in asks.items()}
    for name, ask in asks.items():
        assert opened(ask) == 0, name
        assert np.array_equal(ask(), first[name])
    kept.cache.clear()
    assert opened(asks["points"]) == 2


def test_the_blocks_of_a_small_body_are_kept_when_they_are_asked_for_again(
    mixed: LabelMap, monkeypatch: pytest.MonkeyPatch
):
    expected = mixed.sparsevol(1).runs()
    assert opened(lambda: mixed.sparsevol(1).runs()) == 2
    with at_once():
        np.testing.assert_array_equal(mixed.sparsevol(1).runs(), expected)
    kept.cache.clear()
    monkeypatch.setattr(volumes, "_MOST_KEPT", 0)
    assert [opened(lambda: mixed.sparsevol(1).runs()) for _ in range(3)] == [2, 2, 2]


def test_who_must_not_wait_gets_no_body_whose_blocks_are_not_in_memory(
    mixed: LabelMap, monkeypatch: pytest.MonkeyPatch
):
    mixed.find(1)
    with at_once(), pytest.raises(WouldWaitError):
        mixed.sparsevol(1).runs()
    for _ in range(2):
        mixed.sparsevol(1).runs()
    monkeypatch.setattr(volumes, "_MOST_DRAWN", 0)
    with at_once(), pytest.raises(WouldWaitError):
        mixed.sparsevol(1).runs()


def test_no_limit_no_cache_and_the_same_answers(seg: LabelMap):
    kept.keep_at_most(0)
    ask = lambda: seg.labels_at([(0, 0, 0), (1, 1, 31)])  # noqa: E731
    assert ask().tolist() == [1, 2]
    assert opened(ask) == 2
    assert kept.cache.nbytes == 0


def test_an_edit_of_bodies_shows_without_reading_a_block_again(seg: LabelMap):
    ask = lambda: seg.labels_at([(0, 0, 0), (1, 1, 31)])  # noqa: E731
    stream = lambda: b"".join(seg.block_stream([(0, 0, 1)], "blocks"))  # noqa: E731
    before = ask().tolist(), stream()
    seg.merge(1, [2])
    assert opened(ask) == 0
    assert ask().tolist() == [1, 1] != before[0]
    assert stream() != before[1]
    assert seg.labels_at([(1, 1, 31)], supervoxels=True).tolist() == [2]


WRITE = """
import sys, numpy as np, vzarr
vzarr.open(sys.argv[1])[sys.argv[2]]["seg"].write((0, 0, 0), np.full((16, 16, 16), int(sys.argv[3]), np.uint64))
"""


def test_what_another_process_writes_is_seen_at_once(seg: LabelMap, tmp_path: Path):
    ask = lambda: seg.labels_at([(0, 0, 0), (1, 1, 31)]).tolist()  # noqa: E731
    parent = seg.at(seg.version.parents[0])
    assert ask() == [1, 2]
    for value in (8, 9):
        url, uuid = seg.version.url.removeprefix("file://"), seg.version.uuid
        subprocess.run([sys.executable, "-c", WRITE, url, uuid, str(value)], check=True)
        assert ask() == [value, 2]
        age(tmp_path)
        assert ask() == [value, 2]
        assert opened(ask) == 0
    assert parent.labels_at([(0, 0, 0)]).tolist() == [1]


def test_whoever_must_not_wait_gets_what_is_in_memory_and_nothing_else(seg: LabelMap):
    ask = lambda: seg.labels_at([(0, 0, 0)])  # noqa: E731
    with at_once(), pytest.raises(WouldWaitError):
        ask()
    ask()
    with at_once():
        assert ask().tolist() == [1]
        with pytest.raises(WouldWaitError):
            b"".join(seg.block_stream([(0, 0, 0)], "blocks"))
