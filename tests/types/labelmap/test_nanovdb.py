"""NanoVDB files against a reader of its own, written after the format and not after the writer."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types.labelmap import nanovdb

HEAD = 16 + 176


def _set_bits(words: bytes) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little"))


def _signed21(number: int) -> int:
    return (number ^ 1 << 19) - (1 << 19)


class Parsed:
    """One grid, walked from the root by the offsets that its nodes hold."""

    def __init__(self, data: bytes) -> None:
        assert data[:8] == b"NanoVDB2"
        assert struct.unpack_from("<2H", data, 12) == (1, 0)
        self.size, self.file_size, self.key, self.voxels, self.type, self.grid_class = struct.unpack_from(
            "<4Q2I", data, 16
        )
        (name_size,) = struct.unpack_from("<I", data, 16 + 136)
        self.name = data[HEAD : HEAD + name_size - 1].decode()
        self.grid = data[HEAD + name_size :]
        assert self.grid[:8] == b"NanoVDB1"
        assert len(self.grid) == self.size == self.file_size == struct.unpack_from("<Q", self.grid, 32)[0]
        assert self.grid[40:296].split(b"\0")[0].decode() == self.name
        self.voxel_size = struct.unpack_from("<3d", self.grid, 608)
        self.world_box = struct.unpack_from("<6d", self.grid, 560)
        self.values = struct.unpack_from("<Q", self.grid, 656)[0]
        self.nodes = struct.unpack_from("<3I", self.grid, 672 + 32)
        self.root = 672 + struct.unpack_from("<4q", self.grid, 672)[3]
        self.box = struct.unpack_from("<6i", self.grid, self.root)

    def leaves(self) -> Iterator[tuple[tuple[int, int, int], int]]:
        """Origin (xyz) and place of each leaf."""
        for tile in range(struct.unpack_from("<I", self.grid, self.root + 24)[0]):
            at = self.root + 96 + 32 * tile
            key, child = struct.unpack_from("<Qq", self.grid, at)
            origin = [_signed21(key >> shift & 0xFFFFF) * 4096 for shift in (42, 21, 0)]
            yield from self._down(self.root + child, origin, 5)

    def _down(self, at: int, origin: list[int], log2: int) -> Iterator[tuple[tuple[int, int, int], int]]:
        nbytes, side = (1 << 3 * log2) // 8, 128 if log2 == 5 else 8
        table = at + 32 + 2 * nbytes + 32
        assert not any(self.grid[at + 32 : at + 32 + nbytes])
        for n in _set_bits(self.grid[at + 32 + nbytes : at + 32 + 2 * nbytes]).tolist():
            place = [n >> 2 * log2, n >> log2 & (1 << log2) - 1, n & (1 << log2) - 1]
            below = [o + p * side for o, p in zip(origin, place, strict=True)]
            (child,) = struct.unpack_from("<q", self.grid, table + 8 * n)
            if log2 == 5:
                yield from self._down(at + child, below, 4)
            else:
                yield tuple(below), at + child

    def points(self) -> dict[tuple[int, int, int], int]:
        """Active voxels (xyz) and their indices."""
        found = {}
        for origin, at in self.leaves():
            low = struct.unpack_from("<3i", self.grid, at)
            first, sums = struct.unpack_from("<2Q", self.grid, at + 80)
            active = _set_bits(self.grid[at + 16 : at + 80])
            inside = np.stack([active >> 6, active >> 3 & 7, active & 7], 1)
            assert tuple(inside.min(0) + origin) == low
            assert tuple(inside.max(0) - inside.min(0)) == tuple(self.grid[at + 12 : at + 15])
            for n, place in zip(active.tolist(), inside.tolist(), strict=True):
                word = n >> 6
                before = sums >> 9 * (word - 1) & 511 if word else 0
                number = first + before + int(np.count_nonzero((active < n) & (active >> 6 == word)))
                found[tuple(o + p for o, p in zip(origin, place, strict=True))] = number
        return found


@st.composite
def blocks(draw: st.DrawFn) -> list[tuple[tuple[int, int, int], np.ndarray]]:
    shape = tuple(draw(st.sampled_from([16, 32])) for _ in range(3))
    place = st.one_of(st.integers(-3, 3), st.sampled_from([-130_000, -257, 255, 256, 129_999]))
    coords = draw(st.lists(st.tuples(place, place, place), max_size=6, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return [(c, rng.random(shape) < draw(st.sampled_from([0, 0.001, 0.5, 1]))) for c in coords]


@settings(max_examples=25, deadline=None)
@given(blocks())
def test_a_reader_finds_the_voxels_and_numbers_them(given_blocks):
    wanted = set()
    for coord, mask in given_blocks:
        for point in np.argwhere(mask).tolist():
            z, y, x = (p + c * n for p, c, n in zip(point, coord, mask.shape, strict=True))
            wanted.add((x, y, z))
    parsed = Parsed(nanovdb.encode(given_blocks, "some name"))
    found = parsed.points()
    assert set(found) == wanted
    assert sorted(found.values()) == list(range(1, len(wanted) + 1))
    assert (parsed.voxels, parsed.values, parsed.name) == (len(wanted), len(wanted) + 1, "some name")
    assert (parsed.type, parsed.grid_class) == (20, 8)
    assert parsed.nodes[0] == len({tuple(c >> 3 for c in p) for p in wanted})
    if wanted:
        assert parsed.box == (*np.min(list(wanted), axis=0), *np.max(list(wanted), axis=0))


def test_coarse_voxels_lie_where_their_fine_ones_do(seg, volume):
    """The first voxel of scale 1 covers the first two of scale 0, whose middles are half a fine voxel off its own."""
    seg = seg.resized([8.0, 8.0, 20.0])
    fine, coarse = (Parsed(seg.body(5).nanovdb(scale)) for scale in (0, 1))
    assert set(fine.points()) == {(x, y, z) for z, y, x in seg.body(5).points().tolist()}
    assert (fine.voxel_size, coarse.voxel_size) == ((8, 8, 20), (16, 16, 40))
    first = np.array(coarse.box[:3])
    assert tuple(coarse.world_box[:3]) == tuple(first * [16, 16, 40] + [4, 4, 10])
    assert fine.name == "seg-5"


@pytest.mark.parametrize("name", ["a/b", 'a"b', "a\nb", "ä", "x" * 201])
def test_names_that_no_file_may_have(seg, name: str):
    with pytest.raises(InvalidInputError, match="a grid's name"):
        seg.body(5).nanovdb(name=name)


def test_a_scale_without_a_voxel(seg):
    with pytest.raises(NotFoundError):
        seg.body(5).nanovdb(9)


def test_blocks_that_are_no_leaves():
    with pytest.raises(InvalidInputError, match="leaves"):
        nanovdb.encode([((0, 0, 0), np.ones((8, 8, 12), bool))], "x")


def test_the_hash_of_a_name():
    """By hand: 'a' is 97; a long name overflows and comes back through the top byte."""
    assert nanovdb._name_key(b"a") == 97
    assert nanovdb._name_key(b"ab") == 97 * 67 + 98
    assert nanovdb._name_key(b"abcdefghijklmnop") < 1 << 64
