"""Versioned keys against the store they lie in: keys written once, and keys rewritten at each of 1,000 versions.

    python benchmarks/kv.py                                   SQLite, about five minutes
    python benchmarks/kv.py --url postgresql://HOST/DATABASE  another store, in an empty database
    python benchmarks/kv.py --check                           exit status 1 when a bar is missed

The raw side does the same with plain rows: one row per key, that holds its newest value.  Shallow keys were written at
one version, deep ones at each of all, and both are looked at from the last.  Every answer is compared.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from bars import Bars, interleaved, ratios

import vzarr
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv import OrderedKV, open_kv
from vzarr.overlay.kv.indexrows import VALUE, index_row, stem_of, value_prefix
from vzarr.overlay.kv.versioned import VersionedKV

RAW, DEEP, OPEN = 2.0, 1.5, 0.3
VALUE_BYTES = 100
SHALLOW_ID, DEEP_ID = bytes(16), bytes(15) + b"\1"
Job = Callable[[], Any]


def key(n: int) -> bytes:
    return b"key%09d" % n


def value(n: int, version: int) -> bytes:
    return b"%d/%d" % (n, version) + bytes(VALUE_BYTES)


def fill(kv: OrderedKV, keys: int, versions: int) -> None:
    """Rows of all three: raw ones, keys of one version, keys of all versions."""
    versioned = VersionedKV(kv, lambda a, b: a <= b)

    def once(txn: Any) -> None:
        here = versioned.within(txn, SHALLOW_ID, Position(1, versions))
        for n in range(keys):
            txn.put(b"raw" + key(n), value(n, versions))
            here.put(key(n), value(n, versions))

    def again(version: int, txn: Any) -> None:
        here = versioned.within(txn, DEEP_ID, Position(1, version))
        for n in range(keys):
            here.put(key(n), value(n, version))

    kv.transact(once)
    for version in range(1, versions + 1):
        kv.transact(partial(again, version))


class Looks:
    """What is looked up, on plain rows and through versions.

    Parameters
    ----------
    kv, keys, versions
        The store, as `fill` filled it.
    """

    def __init__(self, kv: OrderedKV, keys: int, versions: int) -> None:
        self.kv, self.count, self.version = kv, keys, versions
        self.versioned = VersionedKV(kv, lambda a, b: a <= b)
        self.sides = {
            "shallow": self.versioned.at(SHALLOW_ID, Position(1, versions)),
            "deep": self.versioned.at(DEEP_ID, Position(1, versions)),
        }
        chosen = random.Random(1)
        self.points = [chosen.randrange(keys) for _ in range(200)]
        self.many = chosen.sample(range(keys), min(1000, keys))
        self.long, self.short = keys, min(100, keys)

    def jobs(self, what: str) -> dict[str, Job]:
        """The same look at all three."""
        raw = partial(getattr(self, f"_{what}"), self.kv, b"raw")
        return {"raw": raw, **{name: partial(getattr(self, f"_{what}"), at, b"") for name, at in self.sides.items()}}

    def _points(self, at: Any, prefix: bytes) -> None:
        for n in self.points:
            assert at.get(prefix + key(n)) == value(n, self.version)

    def _many(self, at: Any, prefix: bytes) -> None:
        found = at.get_many([prefix + key(n) for n in self.many])
        assert found == [value(n, self.version) for n in self.many]

    def _scan(self, at: Any, prefix: bytes) -> None:
        found = list(at.scan(prefix + key(0), prefix + key(self.long)))
        assert (len(found), found[-1][1]) == (self.long, value(self.long - 1, self.version))

    def _page(self, at: Any, prefix: bytes) -> None:
        start = self.count // 2 if self.count > 2 * self.short else 0
        for _ in range(20):
            found = list(at.scan(prefix + key(start), None if not prefix else b"s", limit=self.short))
            assert len(found) == self.short
            assert found[0] == (prefix + key(start), value(start, self.version))

    def batches(self) -> dict[str, Job]:
        """A batch of writes into the last version: of the same keys, which exist, so that nothing grows."""
        at = Position(1, self.version)

        def raw(txn: Any) -> None:
            for n in self.many:
                txn.put(b"raw" + key(n), value(n, self.version))

        def within(instance: bytes, txn: Any) -> None:
            here = self.versioned.within(txn, instance, at)
            for n in self.many:
                here.put(key(n), value(n, self.version))

        return {
            "raw": lambda: self.kv.transact(raw),
            "shallow": lambda: self.kv.transact(partial(within, SHALLOW_ID)),
            "deep": lambda: self.kv.transact(partial(within, DEEP_ID)),
        }


def compare(bars: Bars, looks: Looks, rounds: int) -> None:
    """Interleaved rounds of each look: versions against plain rows, deep against shallow."""
    for name, what in (("point reads", "points"), ("multi-get", "many"), ("scan of all", "scan"), ("pages", "page")):
        _rows(bars, name, interleaved(looks.jobs(what), rounds))
    _rows(bars, "batch of writes", interleaved(looks.batches(), rounds))


def _rows(bars: Bars, name: str, took: dict[str, list[float]]) -> None:
    bars.add(f"{name}: raw", [1e3 * t for t in took["raw"]], " ms")
    for side in ("shallow", "deep"):
        bars.add(f"{name}: {side} / raw", ratios(took[side], took["raw"]), "x", RAW)
    bars.add(f"{name}: deep / shallow", ratios(took["deep"], took["shallow"]), "x", DEEP)


def opening(folder: Path, keys: int, rounds: int) -> list[float]:
    """Seconds from nothing open to the first value, in a repo with so many keys."""
    url = str(folder / "repo")
    with vzarr.create(url) as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        instance, at = bytes.fromhex(info.data_uuid), repo.state.position(repo.uuid)
        for rows in _batched(_bulk(instance, at, keys)):
            repo.authority.kv.transact(partial(_put_all, rows))
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        with vzarr.open(url) as repo:
            assert repo.root.keys("notes").get(key(keys // 2)) == b"v"
            took.append(time.perf_counter() - start)
    return took


def _bulk(instance: bytes, at: Position, keys: int) -> Iterator[tuple[bytes, bytes]]:
    """Rows as `InstanceTxn.put` makes them, in the order in which the store keeps them: that is ten times as fast."""
    for n in range(keys):
        yield index_row(stem_of(instance, key(n)), at.line, at.version), VALUE
    for n in range(keys):
        yield value_prefix(instance, at.version) + key(n), VALUE + b"v"


def _batched(rows: Iterator[tuple[bytes, bytes]], size: int = 100_000) -> Iterator[Sequence[tuple[bytes, bytes]]]:
    part = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    yield part


def _put_all(rows: Sequence[tuple[bytes, bytes]], txn: Any) -> None:
    for k, v in rows:
        txn.put(k, v)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="key store; by default a SQLite file in the folder")
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--many", type=float, default=1e7, help="keys of the repo that is opened")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    bars = Bars()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        with closing(open_kv(given.url or f"sqlite:///{folder}/keys.sqlite")) as kv:
            fill(kv, given.keys, given.versions)
            compare(bars, Looks(kv, given.keys, given.versions), given.rounds)
        took = opening(folder, int(given.many), 5)
        bars.add(f"open a repo of {given.many:.0e} keys", [statistics.median(took)], " s", OPEN)
    what = given.url.partition(":")[0] if given.url else "sqlite"
    return bars.report(f"{given.keys} keys, {given.versions} versions, {what}", check=given.check)


if __name__ == "__main__":
    sys.exit(main())
