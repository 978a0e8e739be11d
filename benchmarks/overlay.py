"""Workloads W1 to W9 for vzarr and its peers, interleaved, in one table of ratios.

    python benchmarks/overlay.py                  about five minutes
    python benchmarks/overlay.py --quick          small volumes, no deep history: does it run at all?
    python benchmarks/overlay.py --json out.json  also every single timing
    python benchmarks/overlay.py --check          exit status 1 if a bar is missed

See benchmarks/README.md for what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from backends import BACKENDS, OPEN, ROOT, SEALED, Backend, Reader
from bars import Bars
from numpy.typing import NDArray
from results import Results
from volumes import blocks, image, labels

CHUNK = 64
HELD = (
    ("vzarr", "TensorStore", 1.0, ("W2", "W3", "W4", "W5", "W7 read")),
    ("vzarr", "TensorStore", 1.15, ("W1", "W7 write", "W8")),
    ("vzarr", "LocalStore", 1.0, ("W9",)),
    ("vzarr", "OCDBT", 1.2, ("W6",)),
    ("vzarr Store", "LocalStore", 1.2, ("W1", "W2", "W3", "W4", "W5", "W7")),
)
"""Whose time is held against whose, the ratio that the median may have, and beginnings of the workloads."""
Coord = tuple[int, ...]
Boxes = list[tuple[Coord, Coord]]


class Bench:
    """One run: the backends at hand, the volume they hold, and what was measured.

    Parameters
    ----------
    backends
        At least the base.
    size
        Voxels a side of the image volume.
    rounds
        Pairs per row.
    """

    def __init__(self, backends: list[Backend], size: int, rounds: int) -> None:
        self.backends, self.size, self.rounds = backends, size, rounds
        self.results = Results(backends[0].name)
        self.volume: NDArray[Any] = image(size)
        self.rng = np.random.default_rng(7)

    def write_and_read(self) -> None:
        """W1 and W2, then reads of the open root."""
        self._write_rows("W1 write whole", self.volume, "image")
        whole = [((0, 0, 0), self.volume.shape)]
        self._read_row("W2 read whole, root", self._readers(ROOT), whole)
        self.read_version(ROOT)

    def read_version(self, which: str, name: str = "") -> None:
        """W3 to W5, W8 and W9 on one version."""
        name = name or which
        readers = self._readers(which)
        n, chunk = self.size, CHUNK
        corners = self.rng.integers(0, n // chunk, (40, 3)) * chunk
        self._read_row(f"W3 random chunk, {name}", readers, _boxes(corners, (chunk,) * 3))
        corners = self.rng.integers(0, n - 2 * chunk + 1, (4, 3)) | 1
        corners = np.minimum(corners, n - 2 * chunk)
        self._read_row(f"W4 unaligned 128^3 cutout, {name}", readers, _boxes(corners, (2 * chunk,) * 3))
        planes = np.stack([self.rng.integers(0, n, 3), np.zeros(3, int), np.zeros(3, int)], 1)
        self._read_row(f"W5 XY slice, {name}", readers, _boxes(planes, (1, n, n)))
        self.open_and_list(which, name)

    def open_and_list(self, which: str, name: str) -> None:
        """W8 and W9 on one version."""
        at, end = (chunk_lo := (CHUNK,) * 3), tuple(c + CHUNK for c in chunk_lo)
        opens = {b.name: (lambda b=b: [b.open(which)(at, end) for _ in range(3)]) for b in self.backends}
        self.results.measure(f"W8 cold open and one chunk, {name}", opens, self.rounds, per=3)
        counts = {b.name: (lambda b=b: b.count(which)) for b in self.backends}
        self.results.measure(f"W9 list, {name}", counts, self.rounds)

    def edit(self, count: int, name: str) -> None:
        """W6: versions that replace some random chunks."""
        fresh = blocks(image(2 * CHUNK, seed=1), CHUNK)
        parts = list(fresh.values())
        grid = np.stack(np.unravel_index(self.rng.permutation((self.size // CHUNK) ** 3), (self.size // CHUNK,) * 3), 1)
        chunks = {tuple(map(int, c)): parts[i % len(parts)] for i, c in enumerate(grid[:count])}
        jobs = {b.name: (lambda b=b: b.edit(chunks)) for b in self.backends}
        self.results.measure(name, jobs, self.rounds)
        for coord, voxels in chunks.items():
            self.volume[tuple(slice(c * CHUNK, (c + 1) * CHUNK) for c in coord)] = voxels

    def deepen(self, depth: int) -> str:
        """Make a long history of small versions, and say whether making one slowed down."""
        voxels = image(CHUNK, seed=2)
        coords = [(0, y, x) for y in range(2) for x in range(2)]
        took: dict[str, list[float]] = {b.name: [] for b in self.backends if b.versioned}
        for i in range(depth):
            for backend in random.sample([b for b in self.backends if b.versioned], len(took)):
                start = time.perf_counter()
                backend.edit({coords[i % 4]: voxels})
                took[backend.name].append(time.perf_counter() - start)
        for backend in self.backends:
            if not backend.versioned:
                backend.edit(dict.fromkeys(coords, voxels))
        for _, y, x in coords:
            self.volume[:CHUNK, y * CHUNK : (y + 1) * CHUNK, x * CHUNK : (x + 1) * CHUNK] = voxels
        tenth = max(1, depth // 10)
        lines = [f"One chunk and commit, {depth:,} times; median of the first and of the last {tenth}:"]
        for name, seconds in took.items():
            first, last = (statistics.median(s) * 1e3 for s in (seconds[:tenth], seconds[-tenth:]))
            lines.append(f"- {name}: {first:.1f} ms, {last:.1f} ms, ratio {last / first:.2f}")
        return "\n".join(lines)

    def labels(self, size: int) -> None:
        """W7: the same for a label volume, written and read whole."""
        volume = labels(size)
        self._write_rows("W7 write labels", volume, "labels")
        self._read_row("W7 read labels, root", self._readers(ROOT), [((0, 0, 0), volume.shape)], volume)

    def seal(self) -> None:
        """End the first version of every backend."""
        for backend in self.backends:
            backend.seal_root()

    def begin(self) -> None:
        """Open a new version in every backend."""
        for backend in self.backends:
            backend.begin()

    def _write_rows(self, name: str, volume: NDArray[Any], codec: str) -> None:
        made = {b.name: b for b in self.backends}

        def fresh(which: str) -> None:
            made[which].create(volume.shape, volume.dtype, CHUNK, codec)

        self.results.measure(
            name, {n: (lambda b=b: b.write(volume)) for n, b in made.items()}, self.rounds, before=fresh
        )

    def _readers(self, which: str) -> dict[str, Reader]:
        return {b.name: b.open(which) for b in self.backends}

    def _read_row(
        self, name: str, readers: dict[str, Reader], boxes: Boxes, volume: NDArray[Any] | None = None
    ) -> None:
        """Time reading some boxes, after checking once that every backend gives the right voxels."""
        truth = self.volume if volume is None else volume
        for who, read in readers.items():
            for lo, hi in boxes:
                if not np.array_equal(read(lo, hi), truth[tuple(map(slice, lo, hi))]):
                    raise SystemExit(f"{name}: {who} reads wrong voxels at {lo}")

        def job(read: Reader) -> Callable[[], Any]:
            return lambda: [read(lo, hi) for lo, hi in boxes]

        self.results.measure(name, {n: job(r) for n, r in readers.items()}, self.rounds, per=len(boxes))


def _boxes(corners: NDArray[Any], shape: Coord) -> Boxes:
    return [(lo := tuple(map(int, c)), tuple(a + n for a, n in zip(lo, shape, strict=True))) for c in corners]


def machine() -> str:
    """What this was measured on."""
    versions = []
    for package in ("vzarr", "zarr", "tensorstore", "icechunk", "numcodecs", "numpy"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load:.1f}; {', '.join(versions)}"


def bars_of(results: Results) -> Bars:
    """Ratios round by round with their bars, of all backends that were measured."""
    bars = Bars()
    for name, base, bar, workloads in HELD:
        for workload in (w for w in results.rows if w.startswith(workloads)):
            found = results.ratios(workload, name, base)
            if found:
                bars.add(f"{workload}: {name} / {base}", found, "x", bar)
    return bars


def run(bench: Bench, depth: int, label_size: int) -> list[str]:
    """All workloads in order; the lines to print below the table."""
    notes = []
    bench.write_and_read()
    bench.seal()
    bench.edit(100, "W6 100 chunks and commit")
    bench.read_version(SEALED)
    bench.begin()
    bench.read_version(OPEN)
    if depth:
        for backend in bench.backends:
            backend.seal_tip()
        notes.append(bench.deepen(depth))
        bench.edit(100, f"W6 100 chunks and commit, depth {depth:,}")
        bench.read_version(SEALED, f"depth {depth:,}, sealed")
        bench.begin()
        bench.read_version(OPEN, f"depth {depth:,}, open")
    bench.labels(label_size)
    return notes


def main(arguments: list[str] | None = None) -> int:
    """Parse arguments, run, print; the exit status is 1 where bars were missed and --check asks for that."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="pairs per row (default 9)")
    parser.add_argument("--size", type=int, default=512, help="voxels a side of the image volume")
    parser.add_argument("--labels", type=int, default=256, help="voxels a side of the label volume")
    parser.add_argument("--depth", type=int, default=1000, help="versions of the deep history; 0 for none")
    parser.add_argument("--only", default="", help="names of backends, comma-separated; the first is the base")
    parser.add_argument("--folder", help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--json", help="file for every single timing")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a bar is missed")
    parser.add_argument("--quick", action="store_true", help="small and short, for a first look")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rounds, given.size, given.labels, given.depth = 3, 256, 128, 20
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="vzarr-bench-", dir=given.folder) as folder:
        kinds = [k for k in BACKENDS if not given.only or k.name in given.only.split(",")]
        for kind in [k for k in kinds if k.missing()]:
            print(f"skipped: {kind.name} ({kind.needs} is not installed)", file=sys.stderr)
        bench = Bench([k(Path(folder)) for k in kinds if not k.missing()], given.size, given.rounds)
        notes = run(bench, given.depth, given.labels)
    names = [b.name for b in bench.backends]
    print(f"{machine()}; {given.rounds} rounds\n")
    print(bench.results.markdown(names, [("vzarr", "TensorStore"), ("vzarr", "OCDBT")]))
    print("\n" + "\n\n".join(notes))
    if given.json:
        Path(given.json).write_text(json.dumps({"machine": machine(), "seconds": bench.results.rows}))
    return bars_of(bench.results).report("\n# Bars", check=given.check)


if __name__ == "__main__":
    sys.exit(main())
