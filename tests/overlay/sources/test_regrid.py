"""A source on a grid of its own, shown on one that is aligned to voxel 0: each voxel stays where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vzarr.geometry import Coord, box_of_block, iter_coords, slices
from vzarr.overlay.chunks.codec import codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.sources.base import ChunkReader, Layout, Locator
from vzarr.overlay.sources.files import LocalFiles
from vzarr.overlay.sources.regrid import Regridded


class Held(ChunkReader):
    """Chunks in memory."""

    def __init__(self, layout: Layout, voxels: np.ndarray, absent: set[Coord], *, cut: bool) -> None:
        super().__init__(LocalFiles(Path("/nowhere")), "", layout)
        self.voxels, self.absent, self.cut = voxels, absent, cut
        self.reads: list[Coord] = []

    @property
    def locator(self) -> Locator:
        return {"url": self.files.url, "format": "held"}

    def metadata(self) -> bytes:
        return json.dumps(self.layout.shape).encode()

    def key(self, coord: Coord) -> str:
        return "-".join(map(str, coord))

    def coords(self) -> Iterator[Coord]:
        return (c for c in iter_coords(self.layout.grid) if c not in self.absent)

    def read(self, coord: Coord) -> Any:
        self.reads.append(coord)
        if coord in self.absent:
            return None
        found = self.voxels[slices(box_of_block(coord, self.layout.chunks))]
        if self.cut:
            found.flags.writeable = False
            return found
        pads = [(0, c - n) for c, n in zip(self.layout.chunks, found.shape, strict=True)]
        return np.pad(found, pads, constant_values=99)


@st.composite
def readers(draw: st.DrawFn) -> Held:
    chunks = draw(st.tuples(*[st.integers(1, 5)] * 2))
    shape = draw(st.tuples(*[st.integers(1, 12)] * 2))
    offset = draw(st.just(()) | st.tuples(*[st.integers(-12, 12)] * 2))
    layout = Layout(np.dtype("u2"), shape, chunks, offset, fill_value=7, dimension_names=None)
    voxels = np.arange(1000, 1000 + shape[0] * shape[1], dtype="u2").reshape(shape)
    absent = draw(st.sets(st.sampled_from(list(iter_coords(layout.grid)))))
    return Held(layout, voxels, absent, cut=draw(st.booleans()))


@given(readers())
def test_voxels_stay_where_they_are(reader: Held):
    layout, shown = reader.layout, Regridded(reader)
    offset = layout.offset or (0, 0)
    entry = ArrayEntry(shown.docs, ArrayId("", ""), shown.origin)
    assert all(o % c == 0 for o, c in zip(entry.window[0], layout.chunks, strict=True))
    assert all(a <= o for a, o in zip(entry.window[0], offset, strict=True))
    there = set()
    for coord in iter_coords((tuple(a - 1 for a in shown.box[0]), tuple(b + 1 for b in shown.box[1]))):
        box = box_of_block(coord, layout.chunks)
        expected, stored = np.full(layout.chunks, 7, "u2"), False
        for voxel in iter_coords(box):
            own = tuple(v - o for v, o in zip(voxel, offset, strict=True))
            if all(0 <= v < n for v, n in zip(own, layout.shape, strict=True)):
                held = tuple(v // c for v, c in zip(own, layout.chunks, strict=True)) not in reader.absent
                stored |= held
                if held:
                    expected[tuple(v - a for v, a in zip(voxel, box[0], strict=True))] = reader.voxels[own]
        found = shown.voxels(coord)
        assert (found is not None) == stored
        if found is not None:
            there.add(coord)
            assert np.array_equal(found, expected)
            found[...] = 0  # the caller's own
            data, size = shown.fetch(coord)
            assert size == len(data)
            assert shown.fetch(coord, -5, 3) == (data[-5:][:3], size)
            assert shown.fetch(coord, 2) == (data[2:], size)
            assert np.array_equal(codec_of(entry).decode(data), expected)
    assert set(shown.coords()) == there


def test_a_source_chunk_that_serves_several_is_decoded_once():
    layout = Layout(np.dtype("u1"), (16, 16), (4, 4), (2, 2), dimension_names=None)
    reader = Held(layout, np.ones((16, 16), "u1"), set(), cut=True)
    shown = Regridded(reader)
    for coord in iter_coords(shown.box):
        shown.voxels(coord)
    assert sorted(reader.reads) == sorted(iter_coords(layout.grid))


def test_an_aligned_source_is_read_chunk_by_chunk():
    layout = Layout(np.dtype("u1"), (16, 16), (4, 4), (8, -4), dimension_names=None)
    reader = Held(layout, np.ones((16, 16), "u1"), set(), cut=True)
    shown = Regridded(reader)
    assert shown.origin == (0, -4)
    assert shown.keys((2, -1)) == ["0-0"]
    assert shown.voxels((2, -1)).all()
    assert reader.reads == [(0, 0)]
