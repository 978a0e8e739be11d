"""Blame against asking for the owner of every chunk, one by one."""

from __future__ import annotations

import itertools
import uuid

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from vzarr.overlay.compare.blame import NOBODY, UNRESOLVED

CHUNK = (2, 2, 2)
ONES = np.ones(CHUNK, "u1")

coordinate = st.tuples(st.integers(-20, 20), st.integers(-2, 2), st.integers(-1, 1))


@given(st.lists(st.sets(coordinate, min_size=1, max_size=8), min_size=1, max_size=4), st.booleans())
def test_it_is_what_each_owner_is(steps, seal: bool):
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        version = repo.root
        version.create_array("a", dtype="u1", chunks=CHUNK)
        for coords in steps:
            version = version.commit().newversion()
            version.write_chunks("a", dict.fromkeys(coords, ONES))
        version.delete_chunks("a", list(steps[0])[:2])
        if seal:
            version.commit()
        found = version.blame("a")
        hi = np.add(found.lo, found.owners.shape)
        everywhere = list(itertools.product(*map(range, found.lo, hi)))
        numbers = [NOBODY if o is None else repo.state.nodes[o].version_id for o in version.owners("a", everywhere)]
        assert found.owners.ravel().tolist() == numbers
        assert sum(found.counts().values()) == sum(n != NOBODY for n in numbers)


def test_a_box_gives_that_part(repo: vzarr.Repo):
    repo.root.create_array("a", dtype="u1", chunks=CHUNK)
    repo.root.write_chunks("a", {(0, 0, 0): ONES, (-1, 0, 4): ONES})
    whole, part = repo.root.blame("a"), repo.root.blame("a", ((-1, 0, 7), (1, 1, 9)))
    assert (whole.lo, whole.owners.shape) == ((-1, 0, 0), (2, 1, 5))
    assert (part.lo, part.owners.tolist()) == ((-1, 0, 3), [[[0, 1]], [[0, 0]]])


def test_as_zarr_it_says_what_the_numbers_mean(repo: vzarr.Repo):
    repo.root.create_array("a", dtype="u1", chunks=CHUNK)
    repo.root.write_chunks("a", {(-1, 0, 0): ONES})
    child = repo.root.commit("first").newversion()
    child.write_chunks("a", {(0, 0, 0): ONES})
    owners = child.blame("a").zarr()["owners"]
    assert isinstance(owners, zarr.Array)
    assert owners[:].tolist() == [[[1]], [[2]]]
    assert owners.attrs["origin"] == [-1, 0, 0]
    assert owners.attrs["versions"]["1"] == {"id": repo.uuid, "branch": "master", "note": "first"}
    with pytest.raises(ValueError, match="read-only"):
        owners[:] = 0


def test_chunks_in_conflict_are_marked(repo: vzarr.Repo):
    repo.root.create_array("a", dtype="u1", chunks=CHUNK)
    repo.root.commit()
    for value, branch in enumerate(("x", "y"), 1):
        version = repo.root.branch(branch)
        version.write_chunks("a", {(0, 0, 0): value * ONES})
        version.commit()
    merged = repo.merge(["x", "y"], keep_conflicts=True)
    assert merged.blame("a").owners.tolist() == [[[UNRESOLVED]]]
    merged.write_chunks("a", {(0, 0, 0): ONES})
    assert merged.blame("a").owners.tolist() == [[[merged.info.version_id]]]
