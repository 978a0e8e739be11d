"""Boxes of voxels: any box, negative too, against one big array; and the sharing of work between threads."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from vzarr.errors import InvalidInputError, VzarrError
from vzarr.overlay.reading import regions

LOW, HIGH = -20, 28


@pytest.fixture(scope="module")
def versions() -> Iterator[tuple[list[vzarr.Version], np.ndarray]]:
    """A sealed and an open version with the same voxels, and those from `LOW` to `HIGH`."""
    rng = np.random.default_rng(0)
    model = np.full((HIGH - LOW,) * 3, 3, "u2")
    with vzarr.create("memory://regions") as repo:
        version = repo.root
        version.create_array("a", dtype="u2", chunks=(8, 4, 6), fill_value=3, codecs="labels")
        for _ in range(4):
            for _ in range(4):
                lo = rng.integers(-16, 12, 3)
                values = rng.integers(0, 9, rng.integers(1, 12, 3)).astype("u2")
                version.write("a", lo, values)
                model[tuple(slice(a - LOW, a - LOW + n) for a, n in zip(lo, values.shape, strict=True))] = values
            version = version.commit().newversion()
        yield [version.parents[0], version], model


points = st.tuples(*[st.integers(LOW, HIGH)] * 3)


@given(points, points)
def test_any_box_reads_as_one_array(versions, one, other):
    lo, hi = np.minimum(one, other), np.maximum(one, other)
    expected = versions[1][tuple(slice(a - LOW, b - LOW) for a, b in zip(lo, hi, strict=True))]
    for version in versions[0]:
        assert np.array_equal(version.read("a", lo, hi), expected)
        out = np.zeros(hi - lo, "u2")
        assert version.read("a", lo, hi, out=out) is out
        assert np.array_equal(out, expected)


@given(
    st.lists(st.tuples(points, st.tuples(*[st.integers(1, 10)] * 3), st.integers(1, 9)), min_size=1, max_size=4),
)
def test_any_box_can_be_written(boxes):
    model = np.zeros((HIGH + 12 - LOW,) * 3, "u1")
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        version = repo.root
        version.create_array("a", dtype="u1", chunks=(5, 5, 5))
        for lo, shape, value in boxes:
            version.write("a", lo, np.full(shape, value, "u1"))
            model[tuple(slice(a - LOW, a - LOW + n) for a, n in zip(lo, shape, strict=True))] = value
        assert np.array_equal(version.read("a", (LOW,) * 3, (HIGH + 12,) * 3), model)
        lo, hi = version.bounds("a")
        assert all(a <= b for a, b in zip(lo, np.min([b for b, _, _ in boxes], 0), strict=True))
        assert tuple(hi) == tuple(np.maximum(0, np.max([np.add(b, s) for b, s, _ in boxes], 0)))


def test_an_out_that_does_not_fit_is_refused(versions):
    for out in (np.zeros((2, 2, 3), "u2"), np.zeros((2, 2, 2), "u4"), np.zeros((2, 2), "u2")):
        with pytest.raises(InvalidInputError, match="out must have"):
            versions[0][0].read("a", (0, 0, 0), (2, 2, 2), out=out)


def test_a_strided_out_is_filled(versions):
    version, model = versions[0][0], versions[1]
    big = np.zeros((20, 20, 20), "u2")
    version.read("a", (-10, -10, -10), (0, 0, 0), out=big[::2, 10:, 5:15])
    assert np.array_equal(big[::2, 10:, 5:15], model[10:20, 10:20, 10:20])
    assert not big[1::2].any()


def test_chunks_are_fresh_and_in_order(versions):
    version = versions[0][1]
    stored = [tuple(c) for c in version.chunk_coords("a").tolist()]
    coords = [stored[1], stored[0], (9, 9, 9), stored[0], *stored * 3]
    found = list(version.read_chunks("a", coords))
    assert [c for c, _ in found] == coords
    assert found[2][1] is None
    kept = found[1][1].copy()
    found[3][1][...] = 77
    assert np.array_equal(found[1][1], kept)


def test_work_is_shared_in_order_and_failures_come_through():
    coords = [(n,) for n in range(200)]
    seen: set[int] = set()

    def square(coord: tuple[int, ...]) -> int:
        seen.add(threading.get_ident())
        threading.Event().wait(0.0005)
        return coord[0] ** 2

    assert regions.share(square, coords) == [n**2 for n in range(200)]
    assert len(seen) == 2
    assert regions.share(square, []) == []

    def fail(coord: tuple[int, ...]) -> int:
        if coord[0] == 5:
            raise InvalidInputError("five")
        return square(coord)

    with pytest.raises(InvalidInputError, match="five"):
        regions.share(fail, coords)
    assert regions.share(square, coords[:3]) == [0, 1, 4]


def test_many_threads_read_and_write_at_once(repo: vzarr.Repo):
    version = repo.root
    version.create_array("a", dtype="u2", chunks=(8, 8), dimension_names=None)
    version.grow("a", (0, 0), (64, 64))
    failures: list[Exception] = []

    def run(row: int) -> None:
        try:
            for n in range(1, 20):
                version.write("a", (8 * row, 0), np.full((8, 64), n, "u2"))
                found = version.read("a", (0, 0), (64, 64))
                assert (found[8 * row : 8 * row + 8] == n).all()
        except (AssertionError, VzarrError) as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(r,)) for r in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
