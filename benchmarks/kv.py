"""Versioned keys against the store they lie in: keys written once, and keys rewritten at each of 1,000 versions.

    python benchmarks/kv.py                                   SQLite, about two minutes
    python benchmarks/kv.py --url postgresql://HOST/DATABASE  another store, in an empty database
    python benchmarks/kv.py --check                           exit status 1 when a bar is missed

The raw side does the same with plain rows: one row per key, that holds its newest value.  Shallow keys were written at
one version, deep ones at each of all.  They are looked at from three versions: the last one that is sealed; an open
one after it, that wrote a few; and an open one that wrote each of them.  Every answer is compared.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from bars import Bars, interleaved, ratios

import vzarr
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv import OrderedKV, open_kv
from vzarr.overlay.kv.rows import own_prefix, own_row
from vzarr.overlay.kv.versioned import VersionedKV

RAW, DEEP, OPEN = 2.0, 1.5, 0.3
VALUE_BYTES = 100
SHALLOW, DEEPER = bytes(16), bytes(15) + b"\1"
FEW = 20
Job = Callable[[], Any]


def key(n: int) -> bytes:
    return b"key%09d" % n


def value(n: int) -> bytes:
    return b"%d/" % n + bytes(VALUE_BYTES)


class Store:
    """A store with plain rows, keys of one version, and keys of all versions, which are sealed.

    Parameters
    ----------
    kv, keys, versions
        An empty store; how many keys, and versions.
    """

    def __init__(self, kv: OrderedKV, keys: int, versions: int) -> None:
        self.kv, self.count, self.sealed = kv, keys, versions
        self.versioned = VersionedKV(kv, lambda a, b: a <= b)
        kv.transact(lambda txn: [txn.put(b"raw" + key(n), value(n)) for n in range(keys)])
        self.write(SHALLOW, 1, range(keys))
        self.versioned.fold(SHALLOW, Position(1, 1))
        for version in range(1, versions + 1):
            self.write(DEEPER, version, range(keys))
            self.versioned.fold(DEEPER, Position(1, version))
        for instance in (SHALLOW, DEEPER):
            self.write(instance, self.open, random.Random(2).sample(range(keys), min(FEW, keys)))
            self.write(instance, self.whole, range(keys))

    @property
    def open(self) -> int:
        """The version that goes on with the line and wrote a few keys."""
        return self.sealed + 1

    @property
    def whole(self) -> int:
        """One that wrote all: a number of its own, as if the other were not there."""
        return self.sealed + 2

    def write(self, instance: bytes, version: int, numbers: Sequence[int]) -> None:
        """Write keys at a version."""

        def within(txn: Any) -> None:
            here = self.versioned.within(txn, instance, Position(1, version))
            for n in numbers:
                here.put(key(n), value(n))

        self.kv.transact(within)


class Looks:
    """What is looked up, on plain rows and through versions.

    Parameters
    ----------
    store
        All of it.
    version
        From where.
    """

    def __init__(self, store: Store, version: int) -> None:
        self.kv, self.count = store.kv, store.count
        self.sides = {
            name: store.versioned.at(instance, Position(1, version), folded=version == store.sealed)
            for name, instance in (("shallow", SHALLOW), ("deep", DEEPER))
        }
        chosen = random.Random(1)
        self.points = [chosen.randrange(store.count) for _ in range(200)]
        self.many = chosen.sample(range(store.count), min(1000, store.count))

    def jobs(self, what: str) -> dict[str, Job]:
        """The same look at all three."""
        raw = partial(getattr(self, f"_{what}"), self.kv, b"raw")
        return {"raw": raw, **{name: partial(getattr(self, f"_{what}"), at, b"") for name, at in self.sides.items()}}

    def _points(self, at: Any, prefix: bytes) -> None:
        for n in self.points:
            assert at.get(prefix + key(n)) == value(n)

    def _many(self, at: Any, prefix: bytes) -> None:
        assert at.get_many([prefix + key(n) for n in self.many]) == [value(n) for n in self.many]

    def _scan(self, at: Any, prefix: bytes) -> None:
        found = list(at.scan(prefix + key(0), prefix + key(self.count)))
        assert (len(found), found[-1][1]) == (self.count, value(self.count - 1))

    def _page(self, at: Any, prefix: bytes) -> None:
        short = min(100, self.count)
        start = self.count // 2 if self.count > 2 * short else 0
        for _ in range(20):
            found = list(at.scan(prefix + key(start), None if not prefix else b"s", limit=short))
            assert len(found) == short
            assert found[0] == (prefix + key(start), value(start))


def compare(bars: Bars, store: Store, rounds: int) -> None:
    """Interleaved rounds of each look: versions against plain rows, deep against shallow."""
    looks = [("point reads", "points"), ("multi-get", "many"), ("scan of all", "scan"), ("pages", "page")]
    for where, version in (("sealed", store.sealed), ("open", store.open), ("open, all rewritten", store.whole)):
        at = Looks(store, version)
        for name, what in looks:
            _rows(bars, f"{name}, {where}", interleaved(at.jobs(what), rounds))


def _rows(bars: Bars, name: str, took: dict[str, list[float]]) -> None:
    bars.add(f"{name}: raw", [1e3 * t for t in took["raw"]], " ms")
    for side in ("shallow", "deep"):
        bars.add(f"{name}: {side} / raw", ratios(took[side], took["raw"]), "x", RAW)
    bars.add(f"{name}: deep / shallow", ratios(took["deep"], took["shallow"]), "x", DEEP)


def writes(bars: Bars, store: Store, rounds: int) -> None:
    """Batches of writes to keys that exist: again at one version, and each time at a new one, that is then folded."""
    many = random.Random(1).sample(range(store.count), min(1000, store.count))
    sides = {"shallow": SHALLOW, "deep": DEEPER}

    def raw() -> None:
        store.kv.transact(lambda txn: [txn.put(b"raw" + key(n), value(n)) for n in many])

    again = {name: partial(store.write, instance, store.whole, many) for name, instance in sides.items()}
    _rows(bars, "batch of writes at an open version", interleaved({"raw": raw, **again}, rounds))

    numbers = {name: count(store.whole + 1) for name in sides}
    last = dict.fromkeys(sides, store.whole)

    def write(name: str) -> None:
        last[name] = next(numbers[name])
        store.write(sides[name], last[name], many)

    def fold(name: str) -> None:
        store.versioned.fold(sides[name], Position(1, last[name]))

    jobs = {"raw": raw, **{name: partial(write, name) for name in sides}}
    # A fold follows the write to its version.
    took: dict[str, list[float]] = {name: [] for name in (*jobs, "shallow fold", "deep fold")}
    for _ in range(rounds):
        for name, seconds in interleaved(jobs, 1).items():
            took[name] += seconds
        for name, seconds in interleaved({f"{name} fold": partial(fold, name) for name in sides}, 1).items():
            took[name] += seconds
    _rows(bars, "batch of writes at a new version", took)
    for name in sides:
        bars.add(f"what folding them adds to a commit: {name} / raw", ratios(took[f"{name} fold"], took["raw"]), "x")


def opening(folder: Path, keys: int, rounds: int) -> list[float]:
    """Seconds from nothing open to the first value, in a repo with so many keys."""
    url = str(folder / "repo")
    with vzarr.create(url) as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        prefix = own_prefix(bytes.fromhex(info.data_uuid), repo.state.position(repo.uuid).version)
        for start in range(0, keys, 100_000):
            repo.authority.kv.transact(partial(_put_some, prefix, range(start, min(keys, start + 100_000))))
    took = []
    for _ in range(rounds):
        start_time = time.perf_counter()
        with vzarr.open(url) as repo:
            assert repo.root.keys("notes").get(key(keys // 2)) == b"v"
            took.append(time.perf_counter() - start_time)
    return took


def _put_some(prefix: bytes, numbers: Sequence[int], txn: Any) -> None:
    for n in numbers:
        txn.put(prefix + key(n), own_row(b"v"))


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
            store = Store(kv, given.keys, given.versions)
            compare(bars, store, given.rounds)
            writes(bars, store, given.rounds)
        took = opening(folder, int(given.many), 5)
        bars.add(f"open a repo of {given.many:.0e} keys", [statistics.median(took)], " s", OPEN)
    what = given.url.partition(":")[0] if given.url else "sqlite"
    return bars.report(f"{given.keys} keys, {given.versions} versions, {what}", check=given.check)


if __name__ == "__main__":
    sys.exit(main())
