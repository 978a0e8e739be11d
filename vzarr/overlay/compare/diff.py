"""What differs between two versions: chunks by owner pages, metadata by tree, keys by who wrote them.

Places of pages are compared first, and only pages that differ are opened, so that the cost follows the difference.  A
chunk counts as changed when another version owns it: written again with the same bytes it is changed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.geometry import Box, Coord
from vzarr.overlay.compare.text import lines
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry, Entry
from vzarr.overlay.owners.directory import DELETED, FIRST_OWNER, side
from vzarr.overlay.threeway.pages import common_codes
from vzarr.overlay.views.base import View
from vzarr.overlay.views.grid import Grid, pages_that_differ

CREATED, REMOVED, RENAMED, REPLACED, CHANGED = "created", "removed", "renamed", "replaced", "changed"
Coords = NDArray[np.int64]


@dataclass(frozen=True)
class Chunks:
    """Chunks of an array that differ, as global chunk coordinates, each of shape (n, ndim).

    Parameters
    ----------
    added, removed, rewritten
        Stored only in the second version, only in the first, in both by different versions.
    shape
        Voxels of one chunk, or None where the chunk grid is not regular.
    """

    added: Coords
    removed: Coords
    rewritten: Coords
    shape: Coord | None

    def __len__(self) -> int:
        return len(self.added) + len(self.removed) + len(self.rewritten)

    @property
    def coords(self) -> Coords:
        """All of them."""
        return np.concatenate([self.added, self.removed, self.rewritten])

    @cached_property
    def boxes(self) -> list[Box]:
        """The same space as few disjoint boxes: in voxels, or in chunks where the chunk grid is not regular."""
        lo, hi = boxes_of(self.coords)
        grain = np.array(self.shape or (1,) * lo.shape[1], np.int64)
        return [(tuple(a), tuple(b)) for a, b in zip((lo * grain).tolist(), (hi * grain).tolist(), strict=True)]


@dataclass(frozen=True)
class PathDiff:
    """What differs at one path.

    Parameters
    ----------
    path
        In the second version, or in the first where it was removed.
    kind
        `CREATED`, `REMOVED`, `RENAMED`, `REPLACED` (an array made anew, or an array for a group) or `CHANGED`.
    before, after
        What was there: path, and of arrays also origin, shape, chunks and dtype; None for nothing.
    attributes
        Name -> value before and after, None where there is none.
    metadata
        Whether anything else in the metadata differs, such as names of axes.
    chunks
        Chunks that differ, of arrays.
    """

    path: str
    kind: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    attributes: Mapping[str, tuple[Any, Any]]
    metadata: bool
    chunks: Chunks | None

    @property
    def resized(self) -> bool:
        """Whether an array covers another space."""
        sides = [None if s is None else (s.get("origin"), s.get("shape")) for s in (self.before, self.after)]
        return None not in sides and sides[0] != sides[1]

    def __bool__(self) -> bool:
        edited = bool(self.attributes) or self.metadata or self.resized
        return self.kind != CHANGED or edited or bool(self.chunks)

    def to_json(self, *, boxes: bool = True) -> dict[str, Any]:
        """Plain data; boxes are pairs of corners in voxels (zyx, upper one exclusive)."""
        data: dict[str, Any] = {"path": self.path, "kind": self.kind, "before": self.before, "after": self.after}
        data["attributes"] = {k: {"before": a, "after": b} for k, (a, b) in self.attributes.items()}
        data["metadata"] = self.metadata
        if self.chunks is not None:
            counts = {n: len(getattr(self.chunks, n)) for n in ("added", "removed", "rewritten")}
            data["chunks"] = {**counts, "shape": self.chunks.shape}
            if boxes:
                data["chunks"]["boxes"] = self.chunks.boxes
        return data


@dataclass(frozen=True, repr=False)
class Diff:
    """What differs between two versions, false when nothing does; as text, a line for each thing.

    Parameters
    ----------
    a, b
        Ids of the first and the second version.
    paths
        Groups and arrays that differ, by path.
    loose
        Other keys of the hierarchy -> `CREATED`, `REMOVED` or `CHANGED`.
    keys
        Instance -> number of its keys that were written in versions behind only one of the two.
    key_names
        Instance -> what its datatype calls them; those that follow from others have no name.
    """

    a: str
    b: str
    paths: tuple[PathDiff, ...]
    loose: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=dict)
    key_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.paths or self.loose or self.keys)

    def __getitem__(self, path: str) -> PathDiff:
        return {p.path: p for p in self.paths}[path]

    def __str__(self) -> str:
        return "\n".join(lines(self))

    def __repr__(self) -> str:
        return f"<Diff {self.a[:8]}..{self.b[:8]}: {'; '.join(lines(self, boxes=False))}>"

    def to_json(self, *, boxes: bool = True) -> dict[str, Any]:
        """Plain data."""
        paths = [p.to_json(boxes=boxes) for p in self.paths]
        keys = {"keys": dict(self.keys), "key_names": {name: list(found) for name, found in self.key_names.items()}}
        return {"a": self.a, "b": self.b, "paths": paths, "loose": dict(self.loose), **keys}


def diff_views(a: View, b: View, keys: Mapping[str, tuple[int, Sequence[str]]]) -> Diff:
    """Compare two versions; `keys` is the number of keys of each instance that differ, and their names."""
    old, new = a.entries, b.entries
    pairs = sorted(_pairs(old, new), key=lambda p: p[1] if p[1] is not None else str(p[0]))
    found = (_compare(a, b, _at(old, p), _at(new, q), p, q) for p, q in pairs)
    counts = {name: count for name, (count, _) in keys.items()}
    names = {name: called for name, (_, called) in keys.items()}
    return Diff(a.node, b.node, tuple(f for f in found if f), _loose(a.loose(), b.loose()), counts, names)


def changed_chunks(a: Grid, b: Grid, shape: Coord | None) -> Chunks:
    """Chunks of one array whose owners differ."""
    parts: list[list[Coords]] = [[], [], []]
    size = side(a.ndim) ** a.ndim
    for at in sorted(pages_that_differ(a, b)):
        pages = a.page(at), b.page(at)
        names = sorted({o for p in pages if p is not None for o in p.owners})
        order = {name: i + FIRST_OWNER for i, name in enumerate(names)}
        before, after = (common_codes(p, order, size) for p in pages)
        before[before == DELETED] = 0
        after[after == DELETED] = 0
        differ = before != after
        for part, kind in zip(parts, (before == 0, after == 0, (before != 0) & (after != 0)), strict=True):
            part.append(a.coords(at, np.flatnonzero(differ & kind)))
    nothing = np.zeros((0, a.ndim), np.int64)
    added, removed, rewritten = (np.concatenate([nothing, *p]) for p in parts)
    return Chunks(added, removed, rewritten, shape)


def boxes_of(coords: Coords) -> tuple[Coords, Coords]:
    """Disjoint boxes that cover exactly some distinct coordinates: runs along the last axis, joined along the others.

    Parameters
    ----------
    coords
        Shape (n, ndim).

    Returns
    -------
    pair of ndarray
        Lower and (exclusive) upper corners, each of shape (m, ndim).
    """
    lo, hi = coords, coords + 1
    for axis in reversed(range(coords.shape[1])):
        others = np.delete(np.concatenate([lo, hi], 1), [axis, axis + coords.shape[1]], 1)
        order = np.lexsort((lo[:, axis], *others.T))
        lo, hi, others = lo[order], hi[order], others[order]
        joined = (lo[1:, axis] == hi[:-1, axis]) & np.all(others[1:] == others[:-1], axis=1)
        first = np.flatnonzero(np.concatenate([np.ones(min(1, len(lo)), bool), ~joined]))
        last = np.concatenate([first[1:], [len(lo)]]) - 1
        ends = hi[last[: len(first)], axis]
        lo, hi = lo[first], hi[first]
        hi[:, axis] = ends
    return lo, hi


def _pairs(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Iterator[tuple[str | None, str | None]]:
    """Paths before and after that belong together; None where there is no counterpart."""
    same = {p for p, e in new.items() if p in old and _identity(old[p]) == _identity(e)}
    waiting: dict[Any, list[str]] = {}
    for path, entry in old.items():
        if path not in same and isinstance(entry, ArrayEntry):
            waiting.setdefault(entry.id, []).append(path)
    renamed = {q: w.pop() for q, e in new.items() if q not in same and (w := waiting.get(_identity(e)))}
    taken = set(renamed.values())
    for path in new:
        yield renamed.get(path, path if path in old and path not in taken else None), path
    for path in old:
        if path not in taken and (path not in new or path in renamed):
            yield path, None


def _identity(entry: Entry) -> Any:
    return entry.id if isinstance(entry, ArrayEntry) else None


def _at(entries: Mapping[str, Entry], path: str | None) -> Entry | None:
    return None if path is None else entries[path]


def _compare(a: View, b: View, old: Entry | None, new: Entry | None, p: str | None, q: str | None) -> PathDiff:
    kind = CREATED if p is None else REMOVED if q is None else RENAMED if p != q else CHANGED
    if kind == CHANGED and old is not None and new is not None and _identity(old) != _identity(new):
        kind = REPLACED
    attributes = _edits(*({} if e is None else arrays.attributes_of(e) for e in (old, new)))
    metadata = kind in (CHANGED, RENAMED) and old is not None and new is not None and _rest(old) != _rest(new)
    path = q if q is not None else str(p)
    return PathDiff(path, kind, _describe(p, old), _describe(q, new), attributes, metadata, _chunks(a, b, old, new))


def _chunks(a: View, b: View, old: Entry | None, new: Entry | None) -> Chunks | None:
    """Chunks that differ; of an array made anew those of the new one, since the old one's are another grid's."""
    entry = new if isinstance(new, ArrayEntry) else old
    if not isinstance(entry, ArrayEntry):
        return None
    before, after = (
        Grid.of(view, entry) if own is not None and _identity(own) == entry.id else Grid.empty(view, entry)
        for view, own in ((a, old), (b, new))
    )
    return changed_chunks(before, after, entry.spec.chunks)


def _describe(path: str | None, entry: Entry | None) -> dict[str, Any] | None:
    if path is None or entry is None:
        return None
    if not isinstance(entry, ArrayEntry):
        return {"path": path}
    spec = entry.spec
    doc = orjson.loads(entry.docs.get(V3_DOC) or entry.docs[".zarray"])
    return {
        "path": path,
        "origin": list(entry.origin or (0,) * spec.ndim),
        "shape": list(spec.shape),
        "chunks": None if spec.chunks is None else list(spec.chunks),
        "dtype": doc.get("data_type", doc.get("dtype")),
    }


def _rest(entry: Entry) -> list[Any]:
    """An entry's metadata without shape and attributes, which are told apart."""
    docs = [orjson.loads(d) for n, d in sorted(entry.docs.items()) if n != ".zattrs"]
    return [{k: v for k, v in d.items() if k not in ("shape", "attributes")} for d in docs]


def _edits(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted({*old, *new})
    return {n: (old.get(n), new.get(n)) for n in names if n not in old or n not in new or old[n] != new[n]}


def _loose(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    def kind(key: str) -> str:
        return CREATED if key not in old else REMOVED if key not in new else CHANGED

    return {k: kind(k) for k in sorted({*old, *new}) if old.get(k) != new.get(k)}
