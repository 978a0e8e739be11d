"""A sparse array of ten million chunks: opening it, committing to it, comparing and merging its versions.

    python benchmarks/scale.py             about a minute
    python benchmarks/scale.py --check     exit status 1 when a bar is missed

The root is synthetic: a sealed version whose owner pages say that it stored every chunk of the grid, of which only
those that are read are really there (ten million files would take longer to make than all else here; what sealing
real files costs is the last row).  All versions after it are made as a user makes them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bars import Bars, interleaved, ratios
from volumes import image

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.chunks.codec import codec_of
from vzarr.overlay.history import plans
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.owners.directory import FIRST_OWNER, Page, Ref, Table, encode_block
from vzarr.overlay.owners.pages import local_of, side
from vzarr.overlay.sealing import seal

CHUNK = 64
OPEN, COMMIT, DIFF, MERGE = 0.3, 3.0, 0.5, 3.0
Coord = tuple[int, ...]


def synthetic_root(folder: Path, chunks: int) -> str:
    """A repo whose sealed root has an array of `chunks` chunks a side, all of them its own; gives the root's id."""
    with vzarr.create(str(folder)) as repo:
        node, objects, view = repo.uuid, repo.objects, repo.root.view
        repo.root.create_array("a", dtype="u1", chunks=(CHUNK,) * 3, shape=(chunks * CHUNK,) * 3)
        repo.root.write_chunks("a", {(1, 1, 1): image(CHUNK)})
        entry, n = view.array("a"), side(3)
        assert entry is not None
        pack, blocks, at = bytearray(), dict[Coord, dict[int, Ref]](), -(-chunks // n)
        for page in np.ndindex(at, at, at):
            codes = np.zeros((n,) * 3, np.uint8)
            codes[tuple(slice(0, max(0, min(n, chunks - c * n))) for c in page)] = FIRST_OWNER
            data = Page((node,), codes.reshape(-1)).encode()
            blocks.setdefault(tuple(c // n for c in page), {})[local_of(page, n)] = Ref(node, len(pack), len(data))
            pack += data
        refs = {}
        for where, held in blocks.items():
            data = encode_block(held)
            refs[where] = Ref(node, len(pack), len(data))
            pack += data
        objects.put(layout.owner_pages(node), bytes(pack))
        table, tree = Table({entry.id: refs}).to_bytes(), view.tree().to_bytes()
        record = seal.Record(
            (),
            seal.write_part(objects, node, layout.tree, tree, None),
            seal.write_part(objects, node, layout.owner_table, table, None),
            seal.write_sums(objects, node),
        ).to_bytes()
        objects.put(layout.seal(node), record)
        RepoLog(objects).publish(plans.seal(node, seal.sha256(record), None, ()))
        repo.authority.finish_close(node)
        return node


class Volume:
    """The repo, and what is done to it.

    Parameters
    ----------
    folder
        Where the repo is made.
    chunks
        Chunks a side.
    """

    def __init__(self, folder: Path, chunks: int) -> None:
        self.folder, self.chunks = folder / "repo", chunks
        self.plain = folder / "plain"
        self.rng = np.random.default_rng(3)
        self.voxels, self.flat = image(CHUNK, seed=1), np.ones((CHUNK,) * 3, np.uint8)
        synthetic_root(self.folder, chunks)
        self.repo = vzarr.open(str(self.folder))
        self.codec = codec_of(self.repo.root.view.array("a"))
        self.count = 0

    def scattered(self, count: int) -> list[Coord]:
        """Random places."""
        places = self.rng.choice(self.chunks**3, count, replace=False)
        return [tuple(c) for c in np.stack(np.unravel_index(places, (self.chunks,) * 3), 1).tolist()]

    def commit(self, count: int) -> None:
        """One more version with some scattered chunks."""
        version = self.repo["master"].newversion()
        version.write_chunks("a", dict.fromkeys(self.scattered(count), self.voxels))
        version.commit()

    def write_plain(self, count: int) -> None:
        """The same chunks, encoded the same way, as files of a plain Zarr that has none of them yet."""
        self.count += 1
        for z, y, x in self.scattered(count):
            path = self.plain / f"{self.count}/c/{z}/{y}/{x}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.codec.encode(self.voxels))

    def branches(self, count: int) -> list[vzarr.Version]:
        """Two new sealed branches, each with some scattered chunks of its own."""
        places, made = self.scattered(2 * count), []
        for half in (places[:count], places[count:]):
            self.count += 1
            version = self.repo["master@sealed"].branch(f"b{self.count}")
            version.write_chunks("a", dict.fromkeys(half, self.flat))
            made.append(version.commit())
        return made


def measure(folder: Path, chunks: int, depth: int, count: int, changed: int, files: int, rounds: int) -> Bars:
    """All figures."""
    bars, volume = Bars(), Volume(folder, chunks)
    for _ in range(depth):
        volume.commit(count)
    pairs = interleaved({"vzarr": lambda: volume.commit(count), "plain": lambda: volume.write_plain(count)}, rounds)
    opens = _cold(volume, lambda repo: repo["master"].read("a", (CHUNK,) * 3, (2 * CHUNK,) * 3))
    bars.add("open and one chunk", opens, " s", OPEN)
    bars.add(f"version of {count} scattered chunks / plain files", ratios(pairs["vzarr"], pairs["plain"]), "", COMMIT)
    bars.add(f"version of {count} scattered chunks", pairs["vzarr"], " s")
    diffs, merges = [], []
    for _ in range(rounds):
        left, right = volume.branches(changed)
        diffs += _cold(volume, lambda repo, a=left.uuid, b=right.uuid: repo.diff(a, b), 1)
        joined = interleaved({"merge": lambda a=left, b=right: volume.repo.merge([a, b]).commit()}, 1)
        merges += joined["merge"]
    bars.add(f"diff of two versions, {2 * changed:,} chunks apart, from nothing", diffs, " s", DIFF)
    bars.add(f"merge of two branches, {changed:,} changed chunks each, and commit", merges, " s", MERGE)
    volume.repo.close()
    bars.add(f"seal a root of {files:,} real files, per million", [_seal(folder, files) * 1e6 / files], " s")
    return bars


def _cold(volume: Volume, work: Callable[[Any], Any], rounds: int = 15) -> list[float]:
    def run() -> None:
        with vzarr.open(str(volume.folder)) as repo:
            work(repo)

    return interleaved({"": run}, rounds)[""]


def _seal(folder: Path, files: int) -> float:
    """Seconds to seal a root of many small chunks."""
    side_chunks = round(files ** (1 / 3)) + 1
    with vzarr.create(str(folder / "many")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(4, 4, 4), codecs=(), shape=(4 * side_chunks,) * 3)
        (folder / "many" / layout.zarr(repo.uuid) / "a").mkdir(exist_ok=True)
        for n in range(files):
            z, y, x = np.unravel_index(n, (side_chunks,) * 3)
            path = folder / "many" / layout.zarr(repo.uuid) / f"a/c/{z}/{y}/{x}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(n.to_bytes(64, "little"))
        took = interleaved({"": repo.root.commit}, 1)[""][0]
    shutil.rmtree(folder / "many")
    return took


def main(arguments: list[str] | None = None) -> int:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=216, help="chunks a side of the array")
    parser.add_argument("--depth", type=int, default=20, help="versions before anything is measured")
    parser.add_argument("--chunks", type=int, default=100, help="scattered chunks of a version")
    parser.add_argument("--changed", type=int, default=1000, help="chunks that each merged branch changes")
    parser.add_argument("--files", type=int, default=20_000, help="files of the root that is really sealed")
    parser.add_argument("--rounds", type=int, default=7, help="how often commit, diff and merge are measured")
    parser.add_argument("--folder", help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vzarr-scale-", dir=given.folder) as folder:
        bars = measure(Path(folder), given.side, given.depth, given.chunks, given.changed, given.files, given.rounds)
    title = f"An array of {given.side**3:,} chunks, {given.depth} versions behind it"
    return bars.report(title, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
