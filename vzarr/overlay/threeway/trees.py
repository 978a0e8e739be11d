"""Metadata trees of several versions joined by the three-way rule: what is where, and what its documents say.

Arrays are followed by identity, so that one side may rename what the other edits; groups by path.  Attributes are
joined one by one, and windows that only grew come to hold each other.  Where versions disagree about *what there is*
(one deleted what another changed, two renamed it differently, two made something at one path) all that hangs together
by name is taken from one version; where they disagree about *what it says*, only that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import orjson

from vzarr.geometry import Box
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry, Entry, above
from vzarr.overlay.hierarchy.windows import with_shape
from vzarr.overlay.threeway.disputes import Conflict, Dispute, Held, Judge, first_places, only_side
from vzarr.overlay.threeway.rule import Clash, History, Tips, decide

Unit = tuple[str, Any]
"""What is followed: ``("array", identity)`` or ``("group", path)``."""
Entries = Mapping[str, Entry]
Fields = dict[str, bytes]
"""What an entry says, piece by piece: ``doc:NAME`` without shape and attributes, and ``attr:NAME``."""
SameChunks = Callable[[ArrayEntry, Tips, Tips], bool]
_DOC, _ATTR = "doc:", "attr:"


@dataclass(frozen=True)
class _Presence:
    """Whether something is there after some versions were joined (None: a clash), and which versions say so."""

    there: bool | None
    nodes: Tips


@dataclass(frozen=True)
class Placed:
    """An entry of the merged tree, and the versions whose entry it is."""

    entry: Entry
    tips: Tips


class TreeJoin:
    """The trees of versions that are joined.

    Parameters
    ----------
    history
        The graph.
    tips
        The versions.
    entries
        Gives the entries of a version.
    same_chunks
        Whether an array's chunks are the same after joining some versions as after joining others.
    judge
        Decides about conflicts.
    """

    def __init__(
        self,
        history: History,
        tips: Tips,
        entries: Callable[[str], Entries],
        same_chunks: SameChunks,
        judge: Judge,
    ) -> None:
        self._history, self._tips, self._entries = history, tips, entries
        self._same_chunks, self._judge = same_chunks, judge
        self._units = cache(lambda node: dict(_units(entries(node))))
        self._bases = history.bases(tips)

    def join(self) -> dict[str, Placed]:
        """What is at each path after the merge."""
        named = _Linked()
        units = {u: None for tip in self._tips for u in self._units(tip)}
        for unit in units:
            for node in (*self._tips, *self._bases):
                if unit in self._units(node):
                    named.link(unit, ("path", self._units(node)[unit]))
        self._link_nested(named, units)
        placed: dict[Any, list[tuple[str, Unit, Tips]]] = {}
        disputes: dict[Any, list[tuple[Conflict, Tips]]] = {}
        for unit in units:
            group = named.root(unit)
            conflict, where, there = self._place(unit)
            if conflict is not None:
                disputes.setdefault(group, []).append((conflict, there))
            elif where is not None:
                placed.setdefault(group, []).append((where, unit, there))
        for group, held in placed.items():
            disputes.setdefault(group, []).extend(self._collisions(held))
        found: dict[str, Placed] = {}
        for group in dict.fromkeys([*placed, *disputes]):
            members = [u for u in units if named.root(u) == group] if disputes.get(group) else []
            held = self._chosen(members, disputes[group]) if members else placed.get(group, [])
            for path, unit, there in held:
                found[path] = Placed(self._content(path, unit, there), there)
        return self._with_groups(found)

    # -- what there is

    def _place(self, unit: Unit) -> tuple[Conflict | None, str | None, Tips]:
        """What the versions disagree about, or the path (None: gone); and the versions that say so."""
        presence = self._presence(unit, self._tips)
        if presence.there is None:
            first = next(t for t in presence.nodes if unit in self._units(t))
            why = "deleted in one version and changed in another"
            return Conflict.at(self._units(first)[unit], None, why), None, presence.nodes
        there = tuple(t for t in self._tips if unit in self._units(t))
        if not presence.there:
            return None, None, there
        path = decide(self._history, there, lambda node: self._units(node).get(unit))
        if isinstance(path, Clash):
            tips = tuple(there[i] for i in first_places([self._units(t)[unit] for t in there], path.values))
            return Conflict.at(path.values[0], None, "renamed to " + " and ".join(path.values)), None, tips
        return None, path, there

    def _presence(self, unit: Unit, tips: Tips) -> _Presence:
        found = _Presence(unit in self._units(tips[0]), tips[:1])
        for node, bases in self._history.steps(tips):
            other = _Presence(unit in self._units(node), (node,))
            if found.there == other.there:
                found = replace(found, nodes=(*found.nodes, node))
                continue
            base = self._presence(unit, bases)
            if self._same(unit, found, base):
                found = other
            elif not self._same(unit, other, base):
                found = _Presence(None, (*found.nodes, node))
        return found

    def _same(self, unit: Unit, one: _Presence, base: _Presence) -> bool:
        """Whether something is there, or not, just as it was."""
        if one.there != base.there or not one.there:
            return one.there == base.there
        if self._fields(unit, one.nodes) != self._fields(unit, base.nodes):
            return False
        if unit[0] != "array":
            return True
        windows = [self._windows(nodes, unit) for nodes in (one.nodes, base.nodes)]
        paths = [self._decided(nodes, lambda n: self._units(n).get(unit)) for nodes in (one.nodes, base.nodes)]
        entry = self._entry(one.nodes[0], unit)
        assert isinstance(entry, ArrayEntry)
        return windows[0] == windows[1] and paths[0] == paths[1] and self._same_chunks(entry, one.nodes, base.nodes)

    def _collisions(self, held: Sequence[tuple[str, Unit, Tips]]) -> Iterator[tuple[Conflict, Tips]]:
        """Places at which several things came to be, or something below an array."""
        by_path: dict[str, list[tuple[Unit, Tips]]] = {}
        for path, unit, there in held:
            by_path.setdefault(path, []).append((unit, there))
        arrays = {path for path, unit, _ in held if unit[0] == "array"}
        for path, claims in by_path.items():
            outer = next((a for a in above(path) if a in arrays), None)
            if len(claims) > 1:
                tips = {t for unit, there in claims for t in there if self._units(t)[unit] == path}
                yield Conflict.at(path, None, "made differently"), self._ordered(tips or set(self._tips))
            elif outer is not None:
                tips = {t for p in (path, outer) for _, there in by_path[p] for t in there}
                yield (
                    Conflict.at(outer, None, f"an array in one version, a folder of {path} in another"),
                    self._ordered(tips),
                )

    def _ordered(self, tips: set[str]) -> Tips:
        return tuple(t for t in self._tips if t in tips)

    def _chosen(
        self, members: Sequence[Unit], disputes: Sequence[tuple[Conflict, Tips]]
    ) -> list[tuple[str, Unit, Tips]]:
        """All that hangs together, as one version has it."""
        involved = self._ordered({t for _, tips in disputes for t in tips})
        dispute = self._dispute(disputes[0][0], tuple(self._tips.index(t) for t in involved))
        place = only_side(dispute, self._judge.decide(dispute))
        if place is None:
            for conflict, _ in disputes[1:]:
                self._judge.leave(conflict)
            holders = [t for t in involved if any(u in self._units(t) for u in members)]
            tip = (holders or list(involved))[0]
        else:
            tip = self._tips[place]
        here = self._units(tip)
        return [(here[u], u, tuple(t for t in self._tips if u in self._units(t))) for u in members if u in here]

    def _link_nested(self, named: _Linked, units: Mapping[Unit, None]) -> None:
        """What one version has below what is an array in another hangs together with it."""
        arrays = {self._units(t)[u] for t in self._tips for u in self._units(t) if u[0] == "array"}
        for path in {p for t in self._tips for p in self._units(t).values()}:
            for group in above(path):
                if group in arrays:
                    named.link(("path", group), ("path", path))

    def _with_groups(self, found: dict[str, Placed]) -> dict[str, Placed]:
        """A group that one version deleted stays where another put something into it."""
        for path in list(found):
            for group in above(path):
                holder = next((t for t in self._tips if group in self._entries(t)), None)
                if group not in found and holder is not None:
                    found[group] = Placed(self._entries(holder)[group], (holder,))
        return dict(sorted(found.items()))

    # -- what it says

    def _content(self, path: str, unit: Unit, there: Tips) -> Entry:
        entries = [self._entry(t, unit) for t in there]
        if all(entry == entries[0] for entry in entries[1:]):
            return entries[0]
        said = self._fields(unit, there)
        for name, value in said.items():
            if isinstance(value, Clash):
                said[name] = self._field(path, unit, there, name, value)
        kept = {name: value for name, value in said.items() if value is not None}
        window = self._windows(there, unit)
        if isinstance(window, Clash):
            window = self._cut(path, unit, there)
        for entry in entries:
            if fields_of(entry) == kept and (not isinstance(entry, ArrayEntry) or entry.window == window):
                return entry
        return _rebuilt(entries[0], kept, window)

    def _field(self, path: str, unit: Unit, there: Tips, name: str, clash: Clash) -> bytes | None:
        what = f"attribute {name[len(_ATTR) :]!r}" if name.startswith(_ATTR) else "metadata"
        values = [fields_of(self._entry(t, unit)).get(name) for t in there]
        changed = first_places(values, clash.values)
        dispute = self._dispute(Conflict.at(path, None, what), tuple(self._tips.index(there[i]) for i in changed), unit)
        place = only_side(dispute, self._judge.decide(dispute))
        if place is None or self._tips[place] not in there:
            return values[changed[0]]
        return values[there.index(self._tips[place])]

    def _fields(self, unit: Unit, tips: Tips) -> dict[str, Any]:
        said = {node: fields_of(self._entry(node, unit)) for node in tips}
        names = {name: None for fields in said.values() for name in fields}
        return {name: self._decided(tips, partial(self._field_at, unit, name)) for name in names}

    def _field_at(self, unit: Unit, name: str, node: str) -> bytes | None:
        return fields_of(self._entry(node, unit)).get(name) if unit in self._units(node) else None

    def _windows(self, tips: Tips, unit: Unit) -> Box | Clash | None:
        """Window after joining some versions: all that grew it are held; a cut is in conflict with any other change."""
        found: Box | Clash | None = self._window(tips[0], unit)
        for node, bases in self._history.steps(tips):
            other = self._window(node, unit)
            if found == other:
                continue
            base = self._windows(bases, unit)
            if found == base:
                found = other
            elif other != base:
                found = _both(found, other, base)
        return found

    def _cut(self, path: str, unit: Unit, there: Tips) -> Box | None:
        """The window of one of the versions that changed it."""
        before = [self._window(n, unit) for n in self._bases]
        changed = [t for t in there if self._window(t, unit) not in before] or list(there)
        conflict = Conflict.at(path, None, "shape")
        dispute = self._dispute(conflict, tuple(map(self._tips.index, changed)), unit)
        place = only_side(dispute, self._judge.decide(dispute))
        tip = changed[0] if place is None or self._tips[place] not in there else self._tips[place]
        return self._window(tip, unit)

    def _window(self, node: str, unit: Unit) -> Box | None:
        entry = self._entry(node, unit) if unit in self._units(node) else None
        return entry.window if isinstance(entry, ArrayEntry) else None

    def _entry(self, node: str, unit: Unit) -> Entry:
        return self._entries(node)[self._units(node)[unit]]

    def _decided(self, tips: Tips, get: Callable[[str], Any], join: Callable[..., Any] = Clash) -> Any:
        return decide(self._history, tips, get, join)

    def _dispute(self, conflict: Conflict, changed: tuple[int, ...], unit: Unit | None = None) -> Dispute:
        def held(node: str) -> Held:
            here = self._units(node)
            path = here.get(unit, conflict.path) if unit is not None else conflict.path
            return Held(node, lambda: described(self._entries(node).get(path)))

        return Dispute(conflict, tuple(map(held, self._tips)), tuple(map(held, self._bases)), changed)


class _Linked:
    """Things that hang together."""

    def __init__(self) -> None:
        self._over: dict[Any, Any] = {}

    def root(self, thing: Any) -> Any:
        while thing in self._over:
            thing = self._over[thing]
        return thing

    def link(self, one: Any, other: Any) -> None:
        a, b = self.root(one), self.root(other)
        if a != b:
            self._over[b] = a


def fields_of(entry: Entry) -> Fields:
    """What an entry says, piece by piece."""
    found: Fields = {}
    for name, data in entry.docs.items():
        doc = orjson.loads(data)
        attributes = doc if name == ".zattrs" else doc.pop("attributes", {}) if name == V3_DOC else {}
        if name != ".zattrs":
            if isinstance(entry, ArrayEntry):
                doc.pop("shape", None)
            found[_DOC + name] = orjson.dumps(doc, option=orjson.OPT_SORT_KEYS)
        found.update({_ATTR + k: orjson.dumps(v, option=orjson.OPT_SORT_KEYS) for k, v in attributes.items()})
    return found


def described(entry: Entry | None) -> dict[str, Any] | None:
    """An entry for people and resolvers: its kind, attributes, and of an array origin and shape; None for nothing."""
    if entry is None:
        return None
    fields = fields_of(entry)
    attributes = {k[len(_ATTR) :]: orjson.loads(v) for k, v in fields.items() if k.startswith(_ATTR)}
    if not isinstance(entry, ArrayEntry):
        return {"kind": "group", "attributes": attributes}
    lo, hi = entry.window
    return {
        "kind": "array",
        "attributes": attributes,
        "origin": list(lo),
        "shape": [b - a for a, b in zip(lo, hi, strict=True)],
        "identity": entry.id.to_json(),
    }


def _units(entries: Entries) -> Iterator[tuple[Unit, str]]:
    for path, entry in entries.items():
        yield (("array", entry.id) if isinstance(entry, ArrayEntry) else ("group", path)), path


def _both(one: Box | Clash | None, other: Box | None, base: Box | Clash | None) -> Box | Clash | None:
    """Two windows of which none is the base's: the smallest that holds both, unless one has lost some of the base."""
    if isinstance(one, Clash):
        return Clash((*one.values, other))
    if one is None or other is None:
        return one or other
    if isinstance(base, tuple) and any(_around(window, base) != window for window in (one, other)):
        return Clash((one, other))
    return _around(one, other)


def _around(a: Box, b: Box) -> Box:
    lo = tuple(map(min, a[0], b[0]))
    return lo, tuple(map(max, a[1], b[1]))


def _rebuilt(like: Entry, fields: Fields, window: Box | None) -> Entry:
    """An entry that says what `fields` say, spelled as much as may be like one that is there."""
    attributes = {k[len(_ATTR) :]: orjson.loads(v) for k, v in fields.items() if k.startswith(_ATTR)}
    docs: dict[str, bytes] = {}
    for name, data in fields.items():
        if name.startswith(_DOC):
            doc, name = orjson.loads(data), name[len(_DOC) :]
            order = list(orjson.loads(like.docs.get(name, b"{}")))
            doc = {k: doc[k] for k in sorted(doc, key=lambda k: order.index(k) if k in order else len(order))}
            if name == V3_DOC and attributes:
                doc["attributes"] = attributes
            docs[name] = orjson.dumps(doc, option=orjson.OPT_INDENT_2)
    if V3_DOC not in docs and attributes:
        docs[".zattrs"] = orjson.dumps(attributes, option=orjson.OPT_INDENT_2)
    if not isinstance(like, ArrayEntry) or window is None:
        return replace(like, docs=docs)
    lo, hi = window
    shape = tuple(b - a for a, b in zip(lo, hi, strict=True))
    name = V3_DOC if V3_DOC in docs else ".zarray"
    docs[name] = with_shape(docs[name], shape)
    return replace(like, docs=docs, origin=lo if any(lo) else ())
