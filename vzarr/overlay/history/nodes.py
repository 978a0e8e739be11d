"""The versions of a repo as a mapping that costs nothing to open at any depth: packed columns, and what changed since.

A checkpoint of the log keeps a row per version.  Reading one makes no object per row: a version is looked up among the
ids as they stand there, and becomes a `NodeInfo` when somebody asks for it.  The format is in docs/format.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.overlay import layout
from vzarr.overlay.history.nodeinfo import NodeInfo, Row
from vzarr.overlay.history.noderows import MERGED, fit, moment

_COLUMNS = {
    "id": "V16", "seal": "V32", "created": "<i8", "updated": "<i8",
    "parent": "<u4", "branch": "<u4", "line": "<u4", "text": "<u4",
}  # fmt: skip
"""Columns of a packed table in the order of the file, and the type of each."""
_NUMBER, _PARENTS, _BRANCH, _LINE = 0, 1, 2, -1
"""Places in a row."""
Table = tuple[Mapping[str, NDArray[Any]], bytes]
"""Columns by name, with one value per version in their order; and the texts of rows, one after the other."""
_SEARCHES = 8
"""Look-ups that search a table's ids, before a dictionary of them is worth its price."""


class Packed:
    """Versions 1 to `count`, as columns over the bytes of a checkpoint, which are read when a row is asked for.

    Parameters
    ----------
    count
        Number of versions.
    branches
        Names that column ``branch`` counts.
    names
        Row (from 0) of each version whose id is not 32 hex digits.
    load
        Gives the columns, and what does not fit a row; column ``text`` says where each text ends.
    """

    def __init__(
        self, count: int, branches: Sequence[str], names: Mapping[str, int], load: Callable[[], Table]
    ) -> None:
        self.count, self.branches, self.names = count, tuple(branches), names
        self._load = load
        self._searches = 0
        self._made: dict[int, NodeInfo] = {}

    @classmethod
    def empty(cls) -> Packed:
        """A table without rows."""
        return cls(0, (), {}, lambda: ({name: np.zeros(0, kind) for name, kind in _COLUMNS.items()}, b""))

    @classmethod
    def from_bytes(cls, data: bytes, head: Mapping[str, Any]) -> Packed:
        """Columns as `to_bytes` gave them.

        Raises
        ------
        ValueError
            If they are cut short.
        """
        count, at, columns = head["count"], 0, {}
        for name, kind in _COLUMNS.items():
            columns[name] = np.frombuffer(data, kind, count, at)
            at += columns[name].nbytes
        texts = data[at:]
        if len(texts) != (int(columns["text"][-1]) if count else 0):
            raise ValueError("the table is cut short")
        return cls(count, head["branches"], head["names"], lambda: (columns, texts))

    @classmethod
    def later(cls, head: Mapping[str, Any], load: Callable[[], Packed]) -> Packed:
        """A table of which only the head is known, until `load` has to give the whole of it."""
        return cls(head["count"], head["branches"], head["names"], lambda: load().table)

    @cached_property
    def table(self) -> Table:
        """Columns and texts."""
        return self._load()

    @property
    def at_hand(self) -> bool:
        """Whether the columns are in memory."""
        return not self.count or "table" in vars(self)

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Column -> one value per version, in their order."""
        return self.table[0]

    @property
    def texts(self) -> bytes:
        """What does not fit a row."""
        return self.table[1]

    @cached_property
    def _ids(self) -> bytes:
        return self.columns["id"].tobytes()

    def head(self) -> dict[str, Any]:
        """What `from_bytes` needs beside the bytes, as plain data."""
        return {"count": self.count, "branches": list(self.branches), "names": dict(self.names)}

    def to_bytes(self) -> bytes:
        """The columns one after the other, then the texts."""
        return b"".join([*(self.columns[name].tobytes() for name in _COLUMNS), self.texts])

    def row(self, node: str) -> int | None:
        """Row of a version, or None for an unknown one."""
        if not self.count or not layout.HEX_ID.fullmatch(node):
            return self.names.get(node)
        if self._searches >= _SEARCHES:
            return self._rows.get(node)
        self._searches += 1
        sought = bytes.fromhex(node)
        at = self._ids.find(sought)
        while at > 0 and at % 16:
            at = self._ids.find(sought, at + 1)
        return None if at < 0 or at // 16 in self._named else at // 16

    def node(self, row: int) -> str:
        """Id of the version in a row."""
        return self._named.get(row) or self._ids[16 * row : 16 * row + 16].hex()

    def ids(self) -> list[str]:
        """Ids of all versions, in their order."""
        digits = self._ids.hex()
        found = [digits[at : at + 32] for at in range(0, len(digits), 32)]
        for name, row in self.names.items():
            found[row] = name
        return found

    def parents(self, row: int) -> tuple[str, ...]:
        """Ids of a version's parents."""
        parent = self._parent[row]
        if parent == MERGED:
            return tuple(self._text(row)["parents"])
        return (self.node(parent - 1),) if parent else ()

    def info(self, row: int) -> NodeInfo:
        """The version in a row."""
        found = self._made.get(row)
        if found is None:
            found = self._made[row] = self._make(row)
        return found

    def _make(self, row: int) -> NodeInfo:
        column, known = self.columns, self._text(row)
        seal = column["seal"][row].tobytes()
        known.setdefault("seal", seal.hex() if any(seal) else None)
        for name in ("created", "updated"):
            if name not in known:
                known[name] = moment(int(column[name][row]))
        known["log"] = tuple(known.get("log", ()))
        known["parents"] = self.parents(row)
        branch, line = self.branches[column["branch"][row]], int(column["line"][row])
        return NodeInfo(id=self.node(row), version_id=row + 1, branch=branch, line=line, **known)

    def last_on(self, branch: str) -> int | None:
        """Row of the newest version on a branch, or None for an unknown one."""
        if branch not in self.branches:
            return None
        return int(np.flatnonzero(self.columns["branch"] == self.branches.index(branch))[-1])

    def ends(self, line: int, row: int) -> bool:
        """Whether no version after a row is on a line."""
        return not np.any(self.columns["line"][row + 1 :] == line)

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """Children of each version that has any, oldest first."""
        found: dict[str, list[str]] = {}
        ids = self.ids()
        for row, parent in enumerate(self._parent):
            for name in (ids[parent - 1],) if 0 < parent < MERGED else self.parents(row) if parent else ():
                found.setdefault(name, []).append(ids[row])
        return {name: tuple(children) for name, children in found.items()}

    @cached_property
    def sorted_ids(self) -> list[str]:
        """Ids of all versions, sorted."""
        return sorted(self.ids())

    @cached_property
    def _parent(self) -> memoryview:
        # Plain integers, one by one, at a third of numpy's price.
        return np.ascontiguousarray(self.columns["parent"], np.uint32).data

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids())}

    @cached_property
    def _named(self) -> dict[int, str]:
        return {row: name for name, row in self.names.items()}

    def _text(self, row: int) -> dict[str, Any]:
        text = self.texts[int(self.columns["text"][row - 1]) if row else 0 : int(self.columns["text"][row])]
        found: dict[str, Any] = orjson.loads(text) if text else {}
        return found

    def with_rows(self, infos: Iterable[NodeInfo]) -> Packed:
        """A table with some rows replaced, and others (the next ones, in their order) added."""
        infos = list(infos)
        count = max([self.count, *(i.version_id for i in infos)])
        columns = {name: np.zeros(count, kind) for name, kind in _COLUMNS.items()}
        for name, column in columns.items():
            column[: self.count] = self.columns[name]
        ends = [0, *self.columns["text"].tolist()]
        texts = [self.texts[a:b] for a, b in pairwise(ends)] + [b""] * (count - self.count)
        branches, names = {b: i for i, b in enumerate(self.branches)}, dict(self.names)
        rows = {i.id: i.version_id - 1 for i in infos}
        for info in infos:
            row = info.version_id - 1
            if not layout.HEX_ID.fullmatch(info.id):
                names[info.id] = row
            columns["line"][row] = info.line
            columns["branch"][row] = branches.setdefault(info.branch, len(branches))
            above = [rows[p] if p in rows else self.row(p) for p in info.parents]
            plain = fit(info, above[0] if len(above) == 1 else None)
            text = plain.pop("text")
            for name, value in plain.items():
                columns[name][row] = value
            texts[row] = orjson.dumps(text) if text else b""
        columns["text"][:] = np.cumsum([len(t) for t in texts])
        return Packed(count, tuple(branches), names, lambda: (columns, b"".join(texts)))


@dataclass(frozen=True, eq=False)
class Nodes(Mapping[str, NodeInfo]):
    """Every version by id, oldest first; replaced, never changed.

    Parameters
    ----------
    packed
        Those of a checkpoint.
    changed
        Newer ones, in their order, and older ones that are not as `packed` has them: made objects only when asked for.
    """

    packed: Packed = field(default_factory=Packed.empty)
    changed: dict[str, Row] = field(default_factory=dict)

    def __getitem__(self, node: str) -> NodeInfo:
        made = self._made.get(node)
        if made is not None:
            return made
        known = self.changed.get(node)
        if known is not None:
            made = self._made[node] = NodeInfo.from_row(node, known)
            return made
        row = self.packed.row(node)
        if row is None:
            raise KeyError(node)
        return self.packed.info(row)

    def __contains__(self, node: object) -> bool:
        return node in self.changed or (isinstance(node, str) and self.packed.row(node) is not None)

    def surely_has(self, node: str) -> bool:
        """Whether a version is there, as far as that is known without reading a checkpoint's columns."""
        return node in self if self.packed.at_hand else node in self.changed or node in self.packed.names

    def __iter__(self) -> Iterator[str]:
        yield from self.packed.ids()
        yield from self._new

    def __len__(self) -> int:
        return self.packed.count + len(self._new)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nodes) and list(self.items()) == list(other.items())

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _made(self) -> dict[str, NodeInfo]:
        """Those of `changed` that somebody asked for."""
        return {}

    @cached_property
    def _new(self) -> list[str]:
        """Ids of versions that `packed` does not have, oldest first."""
        count = self.packed.count
        return [node for node, row in self.changed.items() if row[_NUMBER] > count]

    @cached_property
    def _new_children(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for child in self._new:
            for parent in self.changed[child][_PARENTS]:
                found[parent] = (*found.get(parent, ()), child)
        return found

    def numbered(self, number: int) -> NodeInfo:
        """The version of a number, counted from 1."""
        count = self.packed.count
        return self[self.packed.node(number - 1) if number <= count else self._new[number - 1 - count]]

    def parents(self, node: str) -> tuple[str, ...]:
        """Ids of a version's parents: they never change."""
        known = self.changed.get(node)
        if known is not None:
            return tuple(known[_PARENTS])
        row = self.packed.row(node)
        if row is None:
            raise KeyError(node)
        return self.packed.parents(row)

    def children(self, node: str) -> tuple[str, ...]:
        """Ids of a version's children, oldest first."""
        return (*self.packed.children.get(node, ()), *self._new_children.get(node, ()))

    def ends_line(self, info: NodeInfo) -> bool:
        """Whether a version is the newest on its line."""
        for row in reversed(self.changed.values()):
            if row[_LINE] == info.line and row[_NUMBER] > self.packed.count:
                return bool(row[_NUMBER] == info.version_id)
        return self.packed.ends(info.line, info.version_id - 1)

    def last_on(self, branch: str) -> str | None:
        """Newest version of a branch, or None for an unknown branch."""
        for node in reversed(self._new):
            if self.changed[node][_BRANCH] == branch:
                return node
        row = self.packed.last_on(branch)
        return None if row is None else self.packed.node(row)

    def branches(self) -> list[str]:
        """Names of all branches, in order of their first version."""
        return list(dict.fromkeys([*self.packed.branches, *(self.changed[n][_BRANCH] for n in self._new)]))

    def with_prefix(self, prefix: str) -> list[str]:
        """Ids that start with `prefix`, sorted."""
        ids = self.packed.sorted_ids
        first = last = bisect_left(ids, prefix)
        while last < len(ids) and ids[last].startswith(prefix):
            last += 1
        return sorted([*ids[first:last], *(n for n in self._new if n.startswith(prefix))])

    def edited(self, changes: Mapping[str, NodeInfo]) -> Nodes:
        """The same with some versions changed or, in their order, added."""
        return Nodes(self.packed, {**self.changed, **{node: info.to_row() for node, info in changes.items()}})

    def compact(self) -> Nodes:
        """The same, all in columns."""
        return Nodes(self.packed.with_rows(self[n] for n in self.changed))
