"""Annotations of many bodies: what it costs to post them, and what an indexed question costs, at a cold open and later.

Answers are compared with looking at every record; a query on an indexed field has to take less than 20 ms.
`fill` and `questions` are of use to other benchmarks.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bars import Bars, interleaved

import vzarr
from vzarr.types import registry
from vzarr.types.neuronjson.queries import Query

QUERY_MILLISECONDS = 20.0
AT_ONCE = 5000
FEW = 50
"""Bodies of a type, about."""


def records(count: int) -> Iterator[dict[str, Any]]:
    """Reproducible annotations, as proofreaders make them."""
    source = random.Random(7)
    for body in range(1, count + 1):
        kind = f"type{source.randrange(max(1, count // FEW))}"
        yield {
            "bodyid": body * 7919,
            "type": kind,
            "instance": f"{kind}_{source.choice('LR')}",
            "status": source.choices(["Traced", "Anchor", "Leaves", "Orphan"], [70, 15, 10, 5])[0],
            "group": body * 7919 if source.random() < 0.2 else source.randrange(1, body * 7919),
            "soma": [source.randrange(1 << 15) for _ in range(3)],
            "synapses": source.randrange(20_000),
            "tags": source.sample(["optic", "central", "nerve", "truncated", "glia"], source.randrange(3)),
        }


def fill(neurons: Any, count: int) -> float:
    """Post annotations, `AT_ONCE` in a transaction; seconds."""
    began, some = time.perf_counter(), []
    for record in records(count):
        some.append((record["bodyid"], record))
        if len(some) == AT_ONCE:
            neurons.put_many(some, user="bench")
            some = []
    neurons.put_many(some, user="bench")
    return time.perf_counter() - began


def questions(count: int) -> dict[str, Any]:
    """Queries on indexed fields that few records answer."""
    return {
        "a value": {"type": "type3"},
        "one of three values": {"type": ["type1", "type2", "type3"]},
        "two fields, one of them common": {"status": "Traced", "type": "type3"},
        "a pattern from the start on": {"type": "re/^type3$"},
        "a body": {"bodyid": 7919 * (count // 2)},
        "a number": {"synapses": 77},
        "no record": {"type": "nothing"},
    }


def ask(neurons: Any, query: Any) -> list[int]:
    """Bodies that a query finds."""
    return [record["bodyid"] for record in neurons.query(query)]


def check(neurons: Any, count: int) -> None:
    """Compare each answer with looking at every record."""
    every = list(records(count))
    for name, query in questions(count).items():
        parsed = Query.parse(query)
        assert ask(neurons, query) == [record["bodyid"] for record in every if parsed.holds(record)], name


def measure(bars: Bars, place: str, count: int, rounds: int) -> None:
    """Fill a repo and ask it; each question first by a process-fresh handle."""
    with vzarr.create(place) as repo:
        neurons = registry.create(repo.root, "neurons", "neuronjson")
        bars.add(f"post {count:,} records", [fill(neurons, count)], " s")
    began = time.perf_counter()
    with vzarr.open(place) as repo:
        neurons = registry.open_instance(repo.root, "neurons")
        ask(neurons, {"type": "type5"})
        bars.add("open and ask for a value", [(time.perf_counter() - began) * 1e3], " ms", None)
        check(neurons, count)
        jobs: dict[str, Callable[[], Any]] = {
            name: (lambda query=query: ask(neurons, query)) for name, query in questions(count).items()
        }
        for name, seconds in interleaved(jobs, rounds).items():
            bars.add(f"ask: {name}", [s * 1e3 for s in seconds], " ms", QUERY_MILLISECONDS)
        looks = {
            "a pattern anywhere": lambda: ask(neurons, {"type": "re/pe3$"}),
            "a common value": lambda: ask(neurons, {"status": "Traced"}),
            "every record": lambda: sum(1 for _ in neurons.items()),
            "counts of fields": neurons.field_counts,
        }
        for name, seconds in interleaved(looks, 2).items():
            bars.add(f"look: {name}", [s * 1e3 for s in seconds], " ms")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=1e5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where to make the repo; a temporary folder by default")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    options = parser.parse_args()
    bars = Bars()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(bars, f"{folder}/repo", int(options.count), options.rounds)
    return bars.report(f"neuronjson, {int(options.count):,} records", check=options.check)


if __name__ == "__main__":
    sys.exit(main())
