"""The version graph as pure functions over a ``parents`` function: no repo, no storage.

Versions are told apart by id.  Every function takes ``parents``, a callable that gives the parents of an id in
the order in which they were named, so that the same algorithms run on a repo, on a remote's answer or on a dict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Parents = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Position:
    """Where a version stands for the key store: a point on a *line*, and where that line came from.

    A line is a chain of versions each of which is the first only-child of the one before.  Along a line version
    numbers grow, so "newest value at or before this version" is one seek; only forks and merges start new lines.

    Parameters
    ----------
    line
        Version number of the line's first version.
    version
        Version number of this version (its place in the log, counted from 1).
    parents
        Positions that the line's first version forked from: none for the root's line, one for a branch, two or
        more for a merge.
    """

    line: int
    version: int
    parents: tuple[Position, ...] = ()


def ancestry(start: str, parents: Parents) -> list[str]:
    """Ids reachable from `start`, itself first, nearest generations before farther ones; each once."""
    seen = {start: None}
    queue = deque([start])
    while queue:
        for parent in parents(queue.popleft()):
            if parent not in seen:
                seen[parent] = None
                queue.append(parent)
    return list(seen)


def ancestors(start: str, parents: Parents) -> set[str]:
    """Ids reachable from `start`, without itself."""
    return set(ancestry(start, parents)) - {start}


def is_ancestor(a: str, b: str, parents: Parents) -> bool:
    """Whether `a` is `b` or one of its ancestors."""
    return a in ancestry(b, parents)


def first_parents(start: str, parents: Parents) -> Iterator[str]:
    """`start` and its line of first parents down to the root."""
    at: str | None = start
    while at is not None:
        yield at
        above = parents(at)
        at = above[0] if above else None


def nearest(common: Iterable[str], parents: Parents) -> set[str]:
    """Those of a set of versions that holds all its ancestors that no other one of it descends from."""
    every = set(common)
    return every - {p for node in every for p in parents(node)}


def merge_bases(heads: Sequence[str], parents: Parents) -> list[str]:
    """Nearest common ancestors of all heads: common ones that no other common one descends from.

    Several of them mean a criss-cross history.  The answer is in the order of `ancestry` of the first head.
    """
    found = nearest(set.intersection(*(set(ancestry(h, parents)) for h in heads)), parents)
    return [n for n in ancestry(heads[0], parents) if n in found]


def independent(heads: Iterable[str], parents: Parents) -> list[str]:
    """The heads that no other head descends from, in order, each once."""
    unique = list(dict.fromkeys(heads))
    covered: set[str] = set()
    for head in unique:
        covered |= ancestors(head, parents)
    return [h for h in unique if h not in covered]
