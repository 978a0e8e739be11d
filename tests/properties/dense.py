"""The merge rule once more, on plain dictionaries: the slow way, whole versions at a time.

A version is a dictionary of *things* (an array by identity, a group by path), each with its path, attributes, window
and chunks by owner.  Versions are folded pair by pair over a base that is folded the same way; nothing is lazy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vzarr.overlay.history.dag import ancestors

Coord = tuple[int, ...]
Box = tuple[Coord, Coord]
Parents = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Clash:
    """Values of which none is right; `thing` is what they come to where they are about a thing's presence."""

    values: frozenset[Any]
    thing: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Thing:
    """One array or group; `chunks` and `window` are an array's."""

    path: Any
    attrs: Mapping[str, Any]
    window: Any = None
    chunks: Mapping[Coord, Any] = field(default_factory=dict)


_NOTHING = Thing(None, {})


@dataclass(frozen=True)
class Whole:
    """A version: things, owners of loose keys, and versions that wrote what is seen of sidecar keys.

    `said` names, for a thing about whose presence versions disagree, those that do.
    """

    things: Mapping[Any, Any]
    loose: Mapping[str, Any]
    keys: Mapping[str, Any]
    said: Mapping[Any, tuple[str, ...]] = field(default_factory=dict)


class Joiner:
    """Joins versions of a model; `load` gives one."""

    def __init__(self, load: Callable[[str], Whole], parents: Parents) -> None:
        self.load, self.parents = load, parents
        self.known: dict[tuple[str, ...], Whole] = {}

    def above(self, node: str) -> set[str]:
        return {node, *ancestors(node, self.parents)}

    def tips(self, heads: Sequence[str]) -> tuple[str, ...]:
        unique = list(dict.fromkeys(heads))
        return tuple(h for h in unique if not any(h != o and h in self.above(o) for o in unique))

    def bases(self, one: set[str], other: set[str]) -> tuple[str, ...]:
        common = one & other
        return tuple(sorted(n for n in common if not any(n != o and n in self.above(o) for o in common)))

    def joined(self, tips: tuple[str, ...]) -> Whole:
        if tips not in self.known:
            found, seen = self.start(tips[0]), self.above(tips[0])
            for tip in tips[1:]:
                found = self.pair(found, self.start(tip), self.joined(self.bases(seen, self.above(tip))))
                seen |= self.above(tip)
            self.known[tips] = found
        return self.known[tips]

    def start(self, node: str) -> Whole:
        whole = self.load(node)
        return Whole(whole.things, whole.loose, whole.keys, _Everybody(node))

    def pair(self, one: Whole, other: Whole, base: Whole) -> Whole:
        things, said = {}, {}
        for name in dict.fromkeys([*one.things, *other.things, *base.things]):
            things[name], said[name] = self.thing(name, one, other, base)
        loose = {
            k: self.three(one.loose.get(k), other.loose.get(k), base.loose.get(k), self.newest)
            for k in {*one.loose, *other.loose}
        }
        keys = {
            k: self.three(one.keys.get(k), other.keys.get(k), base.keys.get(k), self.newest_keys)
            for k in {*one.keys, *other.keys}
        }
        return Whole(things, loose, keys, said)

    def thing(self, name: Any, one: Whole, other: Whole, base: Whole) -> tuple[Any, tuple[str, ...]]:
        a, b, o = (w.things.get(name) for w in (one, other, base))
        who_a, who_b = one.said.get(name, ()), other.said.get(name, ())
        if isinstance(a, Clash):
            if isinstance(o, Clash):
                return b, who_b
            return (a, who_a) if b == o else (a, who_a + who_b)
        if a is None or b is None:
            if a is None and b is None:
                return None, who_a + who_b
            if a == o:
                return b, who_b
            if b == o:
                return a, who_a
            return Clash(frozenset([None, "changed"]), self.content(a or _NOTHING, b or _NOTHING, o)), who_a + who_b
        return self.content(a, b, o), who_a + who_b

    def content(self, a: Thing, b: Thing, o: Any) -> Thing:
        o = o.thing if isinstance(o, Clash) else o or _NOTHING
        path = self.three(a.path, b.path, o.path)
        attrs = {k: self.three(a.attrs.get(k), b.attrs.get(k), o.attrs.get(k)) for k in {*a.attrs, *b.attrs}}
        window = _windows(a.window, b.window, o.window)
        chunks = {
            c: self.three(a.chunks.get(c), b.chunks.get(c), o.chunks.get(c), self.newest)
            for c in {*a.chunks, *b.chunks}
        }
        attrs, chunks = ({k: v for k, v in d.items() if v is not None} for d in (attrs, chunks))
        return Thing(path, attrs, window, chunks)

    def three(self, a: Any, b: Any, base: Any, both: Callable[[frozenset[Any]], Any] = Clash) -> Any:
        if a in (b, base):
            return b
        if b == base:
            return a
        return both(frozenset().union(*(v.values if isinstance(v, Clash) else {v} for v in (a, b))))

    def newest(self, owners: frozenset[Any]) -> Any:
        written = [o for o in owners if o is not None]
        left = owners - {o for o in written if any(o != p and o in self.above(p) for p in written)}
        return next(iter(left)) if len(left) == 1 else Clash(left)

    def newest_keys(self, seen: frozenset[Any]) -> Any:
        written = {o for s in seen if s for o in s}
        last = {o for o in written if not any(o != p and o in self.above(p) for p in written)}
        left = frozenset(s for s in seen if s is None or s & last)
        return next(iter(left)) if len(left) == 1 else Clash(left)


class _Everybody(dict[Any, tuple[str, ...]]):
    """One version says so, whatever it is."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def get(self, key: Any, default: Any = None) -> tuple[str, ...]:
        return (self.node,)


def _windows(a: Any, b: Any, base: Any) -> Any:
    if a in (b, base):
        return b
    if b == base:
        return a
    if isinstance(a, Clash):
        return Clash(a.values | {b})
    known = frozenset(w for w in (a, b) if w is not None)
    cut = base is not None and not isinstance(base, Clash) and any(_hull(frozenset([w, base])) != w for w in known)
    return Clash(known) if cut and len(known) > 1 else _hull(known)


def _hull(windows: frozenset[Box | None]) -> Box | None:
    known = [w for w in windows if w is not None]
    lo = tuple(min(v) for v in zip(*(w[0] for w in known), strict=True))
    return lo, tuple(max(v) for v in zip(*(w[1] for w in known), strict=True))


def _common(a: Box, b: Box) -> Box | None:
    lo, hi = tuple(map(max, a[0], b[0])), tuple(map(min, a[1], b[1]))
    return (lo, hi) if all(x < y for x, y in zip(lo, hi, strict=True)) else None


@dataclass
class Outcome:
    """What a merge comes to, and what stands against it: places, and keys."""

    things: dict[str, tuple[Any, Thing]] = field(default_factory=dict)
    loose: dict[str, str] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    conflicts: set[Any] = field(default_factory=set)
    alike: set[Any] = field(default_factory=set)


def merge(
    joiner: Joiner,
    heads: Sequence[str],
    strategy: str,
    box: Callable[[Any, Coord], Box],
    content: Callable[[str, Any], Any],
) -> Outcome:
    """Join versions and decide by a strategy: ``ours``, ``theirs``, or ``fail``, where conflicts decide nothing.

    `content` gives what a version holds at a place, a chunk's being ``(name, coordinate)``: where it is the same for
    all, the first is right.
    """
    tips = joiner.tips(heads)
    whole, own = joiner.joined(tips), {t: joiner.load(t) for t in tips}
    base = joiner.bases(set.intersection(*map(joiner.above, tips)), joiner.above(tips[0]))
    found = Outcome()

    def choose(
        value: Any, at: Callable[[Whole], Any], conflict: Any, holders: Sequence[str] = tips, place: Any = None
    ) -> Any:
        if not isinstance(value, Clash):
            return value
        places = {min(i for i, t in enumerate(holders) if at(own[t]) == v): v for v in value.values}
        if place and None not in value.values and len({content(holders[i], place) for i in places}) == 1:
            found.alike.add(conflict)
            return places[min(places)]
        found.conflicts.add(conflict)
        return places[max(places) if strategy == "theirs" else min(places)]

    for kind in _groups(whole, own, [joiner.load(b) for b in base], tips):
        for path, name in _placed(kind, whole, own, tips, strategy, found):
            holders = [t for t in tips if own[t].things.get(name) is not None]
            thing = joiner.joined(tuple(holders)).things[name]
            attrs = {
                k: choose(v, lambda w, k=k, name=name: w.things[name].attrs.get(k), (path, None), holders)
                for k, v in thing.attrs.items()
            }
            chunks = {
                c: choose(
                    v, lambda w, c=c, name=name: w.things[name].chunks.get(c), (path, box(name, c)), holders, (name, c)
                )
                for c, v in thing.chunks.items()
            }
            attrs, chunks = ({k: v for k, v in d.items() if v is not None} for d in (attrs, chunks))
            window = thing.window
            if isinstance(window, Clash):
                found.conflicts.add((path, None))
                before = [joiner.load(b).things[name].window for b in base if joiner.load(b).things.get(name)]
                changed = [own[t].things[name].window for t in holders]
                changed = [w for w in changed if w not in before] or changed
                window = changed[-1 if strategy == "theirs" else 0]
            for c in sorted(c for c, v in thing.chunks.items() if isinstance(v, Clash) and c in chunks):
                if _common(box(name, c), window) is None:
                    seen = [t for t in holders if own[t].things[name].chunks.get(c) == chunks[c]]
                    shown = [_common(box(name, c), own[t].things[name].window) for t in seen]
                    window = _hull(frozenset([window, *shown]))
            found.things[path] = name, Thing(path, attrs, window, chunks)
    for path in list(found.things):
        above = path
        while above:
            above = above.rpartition("/")[0]
            holder = next((t for t in tips if _at(own[t], above) is not None), None)
            if above not in found.things and holder is not None:
                found.things[above] = _at(own[holder], above)
    loose = {k: choose(v, lambda w, k=k: w.loose.get(k), (k, None), tips, (k,)) for k, v in whole.loose.items()}
    keys = {k: choose(v, lambda w, k=k: w.keys.get(k), ("kv", k), tips, ("kv", k)) for k, v in whole.keys.items()}
    found.loose, found.keys = ({k: v for k, v in d.items() if v is not None} for d in (loose, keys))
    return found


def _at(whole: Whole, path: str) -> tuple[Any, Thing] | None:
    return next(((n, t) for n, t in whole.things.items() if t is not None and t.path == path), None)


def _groups(whole: Whole, own: Mapping[str, Whole], bases: Sequence[Whole], tips: Sequence[str]) -> list[list[Any]]:
    """Names of things that hang together: by a path that two had at different times, or one below the other."""
    names = list(dict.fromkeys(n for t in tips for n in own[t].things))
    paths = {n: {w.things[n].path for w in (*own.values(), *bases) if w.things.get(n)} for n in names}
    arrays = {own[t].things[n].path for t in tips for n in own[t].things if own[t].things[n].window is not None}
    every = {own[t].things[n].path for t in tips for n in own[t].things}
    for n in names:
        nested = {p for p in every for a in arrays if p.startswith(f"{a}/") and (a in paths[n] or p in paths[n])}
        paths[n] |= nested | {a for a in arrays for p in paths[n] if p.startswith(f"{a}/")}
    groups: list[tuple[set[str], list[Any]]] = []
    for n in names:
        touching = [g for g in groups if g[0] & paths[n]]
        joined = (set(paths[n]).union(*(g[0] for g in touching)), [m for g in touching for m in g[1]] + [n])
        groups = [g for g in groups if g not in touching] + [joined]
    return [members for _, members in groups]


def _placed(
    members: Sequence[Any], whole: Whole, own: Mapping[str, Whole], tips: Sequence[str], strategy: str, found: Outcome
) -> list[tuple[str, Any]]:
    """Where the things of one group come to be."""
    claims, involved = [], set()
    for name in members:
        thing = whole.things.get(name)
        if isinstance(thing, Clash):
            tips_in = whole.said[name]
            involved |= set(tips_in)
            first = next(t for t in tips if t in tips_in and own[t].things.get(name) is not None)
            found.conflicts.add((own[first].things[name].path, None))
        elif thing is not None and isinstance(thing.path, Clash):
            holders = [t for t in tips if own[t].things.get(name) is not None]
            firsts = sorted(
                min(i for i, t in enumerate(tips) if t in holders and own[t].things[name].path == p)
                for p in thing.path.values
            )
            involved |= {tips[i] for i in firsts}
            found.conflicts.add(("renamed", None))
        elif thing is not None:
            claims.append((thing.path, name, thing))
    taken = [p for p, _, _ in claims]
    for path in dict.fromkeys(taken):
        here = [n for p, n, _ in claims if p == path]
        above = next((p for p, _, t in claims if t.window is not None and path.startswith(f"{p}/")), None)
        if len(here) > 1:
            involved |= {
                t for t in tips for n in here if own[t].things.get(n) is not None and own[t].things[n].path == path
            }
            found.conflicts.add((path, None))
        elif above is not None:
            both = [n for p, n, _ in claims if p in (path, above)]
            involved |= {t for t in tips for n in both if own[t].things.get(n) is not None}
            found.conflicts.add((above, None))
    if not involved:
        return [(path, name) for path, name, _ in claims]
    order = [t for t in tips if t in involved]
    tip = order[-1 if strategy == "theirs" else 0]
    return [(own[tip].things[n].path, n) for n in members if own[tip].things.get(n) is not None]
