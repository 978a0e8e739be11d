"""Labels against plain numpy and zarr doing the same work in the same run: one table, and a bar for each row.

    python benchmarks/labels.py             about three minutes
    python benchmarks/labels.py --quick     a small volume: does it run at all?
    python benchmarks/labels.py --check     exit status 1 if a bar is missed

``VZARR_TEST_DATA`` names the folder of real labels; without it they are synthetic.  See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import labelhost
import numpy as np
import orjson
from labelhost import BARE, NAME, Client, Segmentation, running, tile
from results import Results

import vzarr
from vzarr.ingest.pipeline import ingest
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.types.bytecodecs import gzip_raw, lz4_raw
from vzarr.types.labelmap import sparsevol
from vzarr.types.labelmap.blocks import decode_block, encode_block

BASE, OURS = "baseline", "vzarr"
Job = Callable[[], Any]


@dataclass(frozen=True)
class Bar:
    """What a row has to reach.

    Parameters
    ----------
    ratio
        Median of ours / baseline, round by round, at most; None for no such bar.
    beyond_ms
        Ours at most so many milliseconds above the baseline, by medians.
    ms
        Ours at most so many milliseconds.
    rate
        Voxels per second at least, in units of a million, for `voxels` a call.
    """

    ratio: float | None = None
    beyond_ms: float | None = None
    ms: float | None = None
    rate: float | None = None
    voxels: int = 0

    def judge(self, ratios: Sequence[float], base: float, ours: float) -> tuple[str, bool]:
        """The bar in words, and whether it is met; seconds."""
        if self.ratio is not None:
            return f"<= {self.ratio:g} x", statistics.median(ratios) <= self.ratio
        if self.beyond_ms is not None:
            return f"<= baseline + {self.beyond_ms:g} ms", ours * 1e3 <= base * 1e3 + self.beyond_ms
        if self.ms is not None:
            return f"<= {self.ms:g} ms", ours * 1e3 <= self.ms
        if self.rate is not None:
            found = self.voxels / ours / 1e6
            return f">= {self.rate:g} Mvoxel/s (is {found:.0f})", found >= self.rate
        return "-", True


class Bench:
    """One run.

    Parameters
    ----------
    segmentation
        What is asked.
    blocks
        Some of its blocks, as voxels.
    rounds
        Pairs per row.
    """

    def __init__(self, segmentation: Segmentation, blocks: list[labelhost.Labels], rounds: int) -> None:
        self.segmentation, self.blocks, self.rounds = segmentation, blocks, rounds
        self.handle = segmentation.handle
        self.path = f"/api/node/{self.handle.version.uuid}/{NAME}"
        self.results = Results(BASE)
        self.bars: dict[str, Bar] = {}

    def row(self, name: str, base: Job, ours: Job, bar: Bar, *, per: int = 1) -> None:
        """Measure one row, after a call of each to warm up."""
        base()
        ours()
        self.bars[name] = bar
        self.results.measure(name, {BASE: base, OURS: ours}, self.rounds, per=per)

    def reader(self, coords: Sequence[labelhost.Coord]) -> Job:
        """Read and decode blocks, and do nothing with them."""

        def read() -> None:
            for _ in self.handle.version.read_chunks(f"{NAME}/0", coords):
                pass

        return read

    # ------------------------------------------------------------ in the process

    def sparse_volumes(self) -> None:
        """Sparse volumes of a large and of a small body."""
        for body in (self.segmentation.small, self.segmentation.large):
            coords = self.segmentation.blocks_of(body)
            ours = partial(lambda b: sparsevol.encode_rles(*self.handle.sparsevol(b).parts()), body)
            self.row(f"sparsevol of {len(coords):,} blocks", self.reader(coords), ours, Bar(ratio=1.5))

    def points(self, count: int = 1000) -> None:
        """Labels at random points, against reading their blocks."""
        top = max(max(c) for cs in self.segmentation.where.values() for c in cs) + 1
        points = np.random.default_rng(0).integers(0, top * labelhost.BLOCK, (count, 3))
        coords = [tuple(c) for c in np.unique(points // labelhost.BLOCK, axis=0).tolist()]
        ours = partial(self.handle.labels_at, points)
        self.row(f"labels at {count:,} points", self.reader(coords), ours, Bar(ratio=2.0))

    def codec(self) -> None:
        """DVID's label block on one core, against zlib of the voxels and numpy's copy."""
        encoded = [encode_block(block) for block in self.blocks]
        bar = {"voxels": labelhost.BLOCK**3}
        for name, base, ours, rate in (
            ("encode", lambda: [gzip_raw(b) for b in self.blocks], lambda: [*map(encode_block, self.blocks)], 40),
            ("decode", lambda: [b.copy() for b in self.blocks], lambda: [*map(decode_block, encoded)], 100),
        ):
            self.row(f"{name} a label block", base, ours, Bar(rate=rate, **bar), per=len(self.blocks))

    def ingestion(self, folder: Path) -> None:
        """A volume with index and pyramid, against zarr writing the voxels alone."""
        side = round(len(self.blocks) ** (1 / 3))
        n = side * labelhost.BLOCK
        volume = np.concatenate(self.blocks).reshape(side, side, side, *[labelhost.BLOCK] * 3)
        volume = np.ascontiguousarray(volume.transpose(0, 3, 1, 4, 2, 5).reshape(n, n, n))
        np.save(folder / "volume.npy", volume)
        numbers = iter(range(1_000_000))
        repo = vzarr.create(str(folder / "ingested"))

        def plain() -> None:
            array = repo.root.zarr.create_array(
                f"plain{next(numbers)}", shape=volume.shape, chunks=(labelhost.BLOCK,) * 3, dtype=np.uint64
            )
            array[...] = volume

        def ours() -> None:
            name = f"s{next(numbers)}"
            ingest(repo.root, name, str(folder / "volume.npy"), typename="labelmap", blocks=(labelhost.BLOCK,) * 3)

        cores = min(2, os.cpu_count() or 1)
        self.row(f"ingest {n}^3 with index and pyramid", plain, ours, Bar(rate=10 * cores, voxels=volume.size))

    # ------------------------------------------------------------ over HTTP

    def short_requests(self, client: Client, bare: Client) -> None:
        """Short answers, against a server that sends as many bytes and does nothing."""
        wanted = {
            "size": f"size/{self.segmentation.large}",
            "label at a point": "label/100_90_80",
            "one block, blocks": "specificblocks?blocks=1,1,1",
            "one block, lz4": "specificblocks?blocks=1,1,1&compression=lz4",
            "sparsevol-coarse, small body": f"sparsevol-coarse/{self.segmentation.small}",
        }
        for name, path in wanted.items():
            size = len(client.ask(f"{self.path}/{path}"))
            bar = Bar(ratio=2.5) if not name.startswith("sparsevol") else Bar()
            self.row(name, _times(bare, f"/{size}"), _times(client, f"{self.path}/{path}"), bar, per=_CALLS)

    def block_ranges(self, client: Client) -> None:
        """Blocks of 4^3, in each form, against reading them with zarr and encoding them the plain way."""
        array, shape = self.handle.array(), (4 * labelhost.BLOCK,) * 3
        cut = tuple(slice(0, n) for n in shape)
        for form, pack in (("blocks", encode_block), ("lz4", lz4_raw)):
            ours = partial(client.ask, f"{self.path}/blocks/256_256_256/0_0_0?compression={form}")

            def plain(pack: Callable[[Any], bytes] = pack) -> None:
                volume = array[cut]
                for at in np.ndindex(4, 4, 4):
                    part = tuple(slice(a * 64, a * 64 + 64) for a in at)
                    pack(np.ascontiguousarray(volume[part]))

            self.row(f"blocks GET per 64^3, {form}", plain, ours, Bar(), per=64)

    def batches(self, client: Client) -> None:
        """Mappings and sizes of many ids, against finding them in a sorted table."""
        known = np.array(sorted(self.segmentation.where), np.uint64)
        for name, count, bar in (("mapping", 10_000, Bar(ms=5.0)), ("mapping", 2_523, Bar()), ("sizes", 2_523, Bar())):
            ids = known[: min(count, known.size)]
            ours = partial(client.ask, f"{self.path}/{name}", orjson.dumps(ids.tolist()))
            table = {BASE: lambda ids=ids: orjson.dumps(known[np.searchsorted(known, ids)].tolist())}
            self.row(f"{name} of {ids.size:,}", table[BASE], ours, bar)

    def volumes(self, client: Client, bare: Client) -> None:
        """Cut-outs as viewers ask for them, against a server that sends as many bytes and does nothing."""
        for name, path in (
            ("raw 64^3", "raw/0_1_2/64_64_64/64_64_64"),
            ("raw 64^3, unaligned", "raw/0_1_2/64_64_64/70_75_80"),
            ("raw 64^3, googlegzip", "raw/0_1_2/64_64_64/64_64_64?compression=googlegzip"),
        ):
            ours = partial(client.ask, f"{self.path}/{path}")
            size = len(ours())
            self.row(name, partial(bare.ask, f"/{size}"), ours, Bar())

    def edits(self, port: int, folder: Path) -> None:
        """Merges and cleaves by one and by four clients, against transactions that write as many rows."""
        taken = {self.segmentation.large, self.segmentation.small, self.segmentation.median}
        bodies = {body for body, _ in self.handle.list_bodies()} - taken
        free = iter([sv for sv, where in self.segmentation.where.items() if len(where) == 1 and sv in bodies])
        store = SqliteKV(folder / "bare.db")
        for clients in (1, 4):
            pairs: list[tuple[int, int]] = []
            with ThreadPoolExecutor(clients) as pool:
                merging = _Edits(self.path, port, clients, pool, "merge")
                cleaving = _Edits(self.path, port, clients, pool, "cleave")
                for edits, rows in ((merging, _MERGE_ROWS), (cleaving, _CLEAVE_ROWS)):
                    bare = _Transactions(store, rows, clients, pool)
                    name, bar = f"{edits.verb}, {clients} client{'s' * (clients > 1)}", Bar(beyond_ms=1.0)
                    self.bars[name] = bar
                    row = self.results.rows.setdefault(name, {BASE: [], OURS: []})
                    for n in range(self.rounds):
                        if edits is merging:
                            fresh = [(next(free), next(free)) for _ in range(_EDITS)]
                            pairs += fresh
                        else:
                            fresh = pairs[n * _EDITS : (n + 1) * _EDITS]
                        row[BASE].append(bare.run(_EDITS))
                        row[OURS].append(edits.run(fresh))
                merging.close()
                cleaving.close()

    # ------------------------------------------------------------ what came out

    def table(self) -> tuple[str, list[str]]:
        """The table, and the rows whose bar is missed."""
        lines = ["| what | baseline | vzarr | ratio (quartiles) | bar | |", "|---" * 6 + "|"]
        missed = []
        for name, row in self.results.rows.items():
            base, ours = statistics.median(row[BASE]), statistics.median(row[OURS])
            words, met = self.bars[name].judge(self.results.ratios(name, OURS), base, ours)
            missed += [] if met else [name]
            cell = self.results.cell(name, OURS)
            verdict = "" if words == "-" else "met" if met else "MISSED"
            lines.append(f"| {name} | {base * 1e3:.3f} ms | {ours * 1e3:.3f} ms | {cell} | {words} | {verdict} |")
        return "\n".join(lines), missed


_CALLS, _EDITS = 50, 20
# Keys and values as long as those that such an edit writes: (key, value) lengths; a tombstone has a value of 1.
_MERGE_ROWS = ((30, 13), (47, 1), (38, 1), (55, 1), (46, 1), (63, 1), (38, 60), (55, 1), (62, 200), (62, 60), (30, 9))
_CLEAVE_ROWS = (*_MERGE_ROWS, (38, 9), (55, 1), (30, 25), (38, 60), (30, 9))


def _times(client: Client, path: str) -> Job:
    return lambda: [client.ask(path) for _ in range(_CALLS)]


class _Edits:
    """Edits sent by some clients at a time; `run` gives the median latency in seconds."""

    def __init__(self, path: str, port: int, count: int, pool: ThreadPoolExecutor, verb: str) -> None:
        self.verb, self._path, self._pool = verb, path, pool
        self._clients = [Client(port) for _ in range(count)]

    def run(self, pairs: Sequence[tuple[int, int]]) -> float:
        shares = [pairs[n :: len(self._clients)] for n in range(len(self._clients))]
        found = self._pool.map(self._send, self._clients, shares)
        return statistics.median(seconds for part in found for seconds in part)

    def _send(self, client: Client, pairs: Sequence[tuple[int, int]]) -> list[float]:
        found = []
        for a, b in pairs:
            path, body = ("merge", [a, b]) if self.verb == "merge" else (f"cleave/{a}", [b])
            found.append(labelhost.seconds(partial(client.ask, f"{self._path}/{path}", orjson.dumps(body), "POST")))
        return found

    def close(self) -> None:
        for client in self._clients:
            client.close()


class _Transactions:
    """Bare transactions of as many threads as there are clients."""

    def __init__(self, store: SqliteKV, rows: Any, count: int, pool: ThreadPoolExecutor) -> None:
        self._store, self._rows, self._count, self._pool = store, rows, count, pool

    def run(self, edits: int) -> float:
        found = self._pool.map(self._some, [edits // self._count] * self._count)
        return statistics.median(seconds for part in found for seconds in part)

    def _some(self, edits: int) -> list[float]:
        return [labelhost.seconds(lambda: self._store.transact(self._write)) for _ in range(edits)]

    def _write(self, txn: Any) -> None:
        for key, value in self._rows:
            txn.put(os.urandom(key), bytes(value))


def run(bench: Bench, root: Path, folder: Path) -> None:
    """All rows, in order."""
    bench.codec()
    bench.sparse_volumes()
    bench.points()
    bench.ingestion(folder)
    serve = ("-m", "vzarr", "serve", str(root), "--port", "0")
    with running("-c", BARE) as idle, running(*serve) as port, Client(port) as client, Client(idle) as bare:
        bench.short_requests(client, bare)
        bench.block_ranges(client)
        bench.batches(client)
        bench.volumes(client, bare)
        bench.edits(port, folder)


def main(arguments: list[str] | None = None) -> int:
    """Parse arguments, run, print; exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="pairs per row (default 9)")
    parser.add_argument("--side", type=int, default=10, help="blocks a side of the segmentation (default 10)")
    parser.add_argument("--folder", help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--quick", action="store_true", help="small and short, for a first look")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a bar is missed")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rounds, given.side = min(given.rounds, 2), 4
    with tempfile.TemporaryDirectory(prefix="vzarr-bench-", dir=given.folder) as folder:
        kind, volume = labelhost.source()
        coords = list(np.ndindex(4, 4, 4))
        segmentation = Segmentation.build(Path(folder) / "repo", volume, given.side)
        bench = Bench(segmentation, [tile(volume, c) for c in coords], given.rounds)
        run(bench, Path(folder) / "repo", Path(folder))
    table, missed = bench.table()
    print(
        f"{kind}, {given.side}^3 blocks, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {given.rounds} rounds\n"
    )
    print(table)
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    return 1 if given.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
