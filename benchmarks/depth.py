"""A thousand versions of one array, each with a few scattered chunks: nothing may grow with them but the chunks.

    python benchmarks/depth.py             about half a minute
    python benchmarks/depth.py --check     exit status 1 when a bar is missed

A shallow repo is measured beside the deep one, version by version, so that a busy moment hits both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bars import Bars, interleaved, ratios
from volumes import image

import vzarr

CHUNK = 64
COMMIT, BYTES, OPEN = 1.3, 1.15, 1.3
Coord = tuple[int, ...]


class History:
    """A repo that gets version after version, each rewriting some scattered chunks.

    Parameters
    ----------
    folder
        Where the repo is made.
    size
        Voxels a side of its only array.
    count
        Chunks that a version rewrites.
    """

    def __init__(self, folder: Path, size: int, count: int) -> None:
        self.folder, self.side, self.count = folder, size // CHUNK, count
        self.rng = np.random.default_rng(5)
        self.voxels = image(CHUNK, seed=1)
        self.repo = vzarr.create(str(folder))
        self.tip = self.repo.root
        self.tip.create_array("a", dtype="u1", chunks=(CHUNK,) * 3, shape=(size,) * 3)
        self.tip.write("a", (0, 0, 0), image(size))
        self.tip.commit()
        self.took: dict[str, list[float]] = {name: [] for name in ("version", "commit", "commit, CPU")}

    def add(self) -> None:
        """One more version; its times are kept."""
        places = self.rng.permutation(self.side**3)[: self.count]
        coords = np.stack(np.unravel_index(places, (self.side,) * 3), 1).tolist()
        start = time.perf_counter()
        self.tip = self.tip.newversion()
        self.tip.write_chunks("a", {tuple(c): self.voxels for c in coords})
        closing, cpu = time.perf_counter(), time.process_time()
        self.tip.commit()
        self.took["commit, CPU"].append(time.process_time() - cpu)
        self.took["commit"].append(time.perf_counter() - closing)
        self.took["version"].append(time.perf_counter() - start)

    def cold(self) -> Callable[[], Any]:
        """Opens the repo from nothing and reads a chunk of the tip."""
        lo = (CHUNK,) * 3

        def run() -> None:
            with vzarr.open(str(self.folder)) as repo:
                repo["master"].read("a", lo, tuple(2 * c for c in lo))

        return run

    def stored(self) -> tuple[int, int]:
        """Bytes of all files, and of all chunks among them."""
        sizes = {p: p.stat().st_size for p in self.folder.rglob("*") if p.is_file() and "keys" not in p.parts}
        return sum(sizes.values()), sum(n for p, n in sizes.items() if "c" in p.parts)


def measure(folder: Path, size: int, depth: int, count: int, last: int) -> Bars:
    """All figures: the `last` versions of a deep history against the first of a shallow one."""
    deep, shallow = History(folder / "deep", size, count), History(folder / "shallow", size, count)
    for _ in range(depth - last):
        deep.add()
    deep.took = {name: [] for name in deep.took}
    before = deep.stored()
    interleaved({"deep": deep.add, "shallow": shallow.add}, last)
    after = deep.stored()
    bars = Bars()
    for name, seconds in deep.took.items():
        bars.add(f"{name}, last {last} / first {last}", ratios(seconds, shallow.took[name]), "", COMMIT)
    for name, seconds in deep.took.items():
        bars.add(f"{name} at depth {depth:,}", [s * 1e3 for s in seconds], " ms")
    bars.add("bytes of a version / its chunks", [(after[0] - before[0]) / (after[1] - before[1])], "", BYTES)
    young = History(folder / "young", size, count)
    young.add()
    jobs = {"deep": deep.cold(), "young": young.cold()}
    interleaved(jobs, 3)
    opens = interleaved(jobs, 31)
    bars.add(f"cold open and one chunk, depth {depth:,} / 1", ratios(opens["deep"], opens["young"]), "", OPEN)
    opens = interleaved(jobs, 31, time.process_time)
    bars.add(f"the same, CPU, depth {depth:,} / 1", ratios(opens["deep"], opens["young"]), "", OPEN)
    bars.add(f"cold open and one chunk at depth {depth:,}", [s * 1e3 for s in opens["deep"]], " ms")
    for history in (deep, shallow, young):
        history.repo.close()
    return bars


def main(arguments: list[str] | None = None) -> int:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="voxels a side of the array")
    parser.add_argument("--depth", type=int, default=1000, help="number of versions")
    parser.add_argument("--chunks", type=int, default=8, help="chunks that each of them rewrites")
    parser.add_argument("--last", type=int, default=50, help="versions that are compared")
    parser.add_argument("--folder", help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vzarr-depth-", dir=given.folder) as folder:
        bars = measure(Path(folder), given.size, given.depth, given.chunks, given.last)
    title = f"{given.depth:,} versions of {given.size}^3 voxels, {given.chunks} scattered chunks each"
    return bars.report(title, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
