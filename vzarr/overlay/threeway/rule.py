"""The three-way rule for any number of versions and any history, for values of any kind; no storage.

Versions are joined one after the other.  Each step has a base of its own: the nearest common ancestors of what was
joined so far and of the next version, themselves joined by the same rule where there are several (a criss-cross).
What one side has as the base has it takes the other side's value; two changes that differ are a `Clash`, unless a
joining function knows better.  So the order in which versions are named decides nothing but who is named first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vzarr.overlay.history.dag import Parents, ancestry, independent, nearest

Tips = tuple[str, ...]
"""Ids of versions none of which descends from another."""
Join = Callable[[tuple[Any, ...]], Any]
"""Makes one value, or a `Clash`, of several that differ from each other and from their base."""


@dataclass(frozen=True, eq=False)
class Clash:
    """Values that cannot all hold; two clashes are equal when they are between the same ones."""

    values: tuple[Any, ...]

    @cached_property
    def _set(self) -> frozenset[Any]:
        return frozenset(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clash) and self._set == other._set

    def __hash__(self) -> int:
        return hash(self._set)


class History:
    """What merges ask the version graph, remembered.

    Parameters
    ----------
    parents
        Gives a version's parents.
    """

    def __init__(self, parents: Parents) -> None:
        self.parents = parents
        self._above: dict[str, frozenset[str]] = {}
        self._steps: dict[Tips, list[tuple[str, Tips]]] = {}

    def tips(self, heads: Iterable[str]) -> Tips:
        """The heads that no other descends from, in order, each once."""
        return tuple(independent(heads, self.parents))

    def above(self, node: str) -> frozenset[str]:
        """A version and its ancestors."""
        found = self._above.get(node)
        if found is None:
            if len(self._above) > _REMEMBERED:
                self._above.clear()
            found = self._above[node] = frozenset(ancestry(node, self.parents))
        return found

    def steps(self, tips: Tips) -> list[tuple[str, Tips]]:
        """Each version after the first, and the base at which it meets those before it."""
        if tips not in self._steps:
            before, steps = self.above(tips[0]), []
            for node in tips[1:]:
                mine = self.above(node)
                steps.append((node, tuple(sorted(nearest(before & mine, self.parents)))))
                before |= mine
            self._steps[tips] = steps
        return self._steps[tips]

    def bases(self, tips: Tips) -> Tips:
        """Nearest common ancestors of all."""
        return tuple(sorted(nearest(frozenset.intersection(*map(self.above, tips)), self.parents)))

    def last(self, owners: Sequence[str]) -> list[str]:
        """Those versions that none of the others descends from: a change that knew another replaces it."""
        return [o for o in owners if not any(o != other and o in self.above(other) for other in owners)]


_REMEMBERED = 512


def decide(history: History, tips: Tips, get: Callable[[str], Hashable], join: Join = Clash) -> Any:
    """Value of something after joining versions: one that some version has, one that `join` made, or a `Clash`.

    Parameters
    ----------
    history
        The graph.
    tips
        The versions.
    get
        Value in one version; None where there is none.
    join
        Decides about values of which none is the base's; called with distinct ones, in the order of `tips`.
    """
    found: Any = get(tips[0])
    for node, bases in history.steps(tips):
        other = get(node)
        if found == other:
            continue
        base = decide(history, bases, get, join)
        if found == base:
            found = other
        elif other != base:
            found = join(tuple(dict.fromkeys((*_values(found), *_values(other)))))
    return found


def latest(history: History) -> Join:
    """A `Join` for values that are ids of versions, which changed something there: who knew the others wins."""

    def join(values: tuple[Any, ...]) -> Any:
        owners = history.last([v for v in values if isinstance(v, str)])
        left = tuple(v for v in values if v in owners or not isinstance(v, str))
        return left[0] if len(left) == 1 else Clash(left)

    return join


def _values(value: Any) -> tuple[Any, ...]:
    return value.values if isinstance(value, Clash) else (value,)
