"""Writers who make one array of an open root larger at the same moment: it covers what each of them wrote."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import vzarr

WRITERS, ROUNDS, SIDE = 8, 12, 4


@pytest.mark.parametrize("sign", [1, -1])
def test_no_growth_is_lost(tmp_path: Path, keys: str | None, sign: int):
    """Above voxel 0 the folder's own document says how large the array is, below it a row of the keys."""
    url = str(tmp_path / "repo")
    barrier = Barrier(WRITERS)
    with vzarr.create(url, keys=keys) as repo:
        for n in range(ROUNDS):
            repo.root.create_array(f"a{n}", dtype="u1", chunks=(SIDE,), shape=(SIDE,), dimension_names=None)

        def write(writer: int) -> None:
            with vzarr.open(url) as own:
                for n in range(ROUNDS):
                    barrier.wait()
                    own.root.write_chunks(f"a{n}", {(sign * (writer + 1),): np.full(SIDE, writer + 1, "u1")})

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(WRITERS)))
        last = sign * WRITERS * SIDE
        expected = ((min(0, last),), (max(SIDE, last + SIDE),))
        assert [repo.root.bounds(f"a{n}") for n in range(ROUNDS)] == [expected] * ROUNDS
