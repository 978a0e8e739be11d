"""The versions that a merge of labelmaps joins: what each did since the common ancestors, and what it says of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from vzarr.errors import ConflictError
from vzarr.geometry import Coord
from vzarr.overlay.history import dag
from vzarr.types import voxels
from vzarr.types.labelmap import cuts, deeds, index, mapping, pages, rows

if TYPE_CHECKING:
    from vzarr.overlay.version import Version
    from vzarr.types.base import Instance

_MERGED = {rows.HEADER, rows.INDEX, rows.MAPPING, rows.PAGE, rows.SPLIT}
_FEW = 64


class Side:
    """One of the versions that are joined, and what was changed on the way to it.

    Parameters
    ----------
    head
        The labelmap at that version.
    line
        The version and its ancestors.
    alone
        Those of them that are not behind all sides.
    changed
        Rows written on the way, as they are at its end; None for those that were deleted.
    """

    def __init__(
        self, head: Instance, line: frozenset[str], alone: Sequence[str], changed: Mapping[bytes, bytes | None]
    ) -> None:
        self.head, self.keys, self.line, self.alone, self.changed = head, head.keys, line, alone, changed
        self.parent: dict[int, int] = {}
        parts: dict[int, set[int]] = {}
        for key, value in changed.items():
            if key[:1] == rows.SPLIT and value is not None:
                _, _, cut = cuts.decode_row(key, value)
                parts.setdefault(cut.supervoxel, set()).update(cut[1:])
                self.parent.update(dict.fromkeys(cut[1:], cut.supervoxel))
        # A merge on the way may have decided against a cut: its row is there, and so is the supervoxel.
        there = mapping.bodies_within(self.keys, list(parts))
        self.cut = {sv: frozenset(made) for sv, made in parts.items() if not there[sv]}

    def origins(self, supervoxel: int) -> Iterator[int]:
        """What a supervoxel was cut from on this side, and what that was cut from, and so on."""
        while supervoxel in self.parent:
            supervoxel = self.parent[supervoxel]
            yield supervoxel

    def origin(self, supervoxel: int) -> int:
        """What a supervoxel was cut from first, or itself."""
        return next(reversed([supervoxel, *self.origins(supervoxel)]))

    def has(self, body: int) -> bool:
        """Whether the version has a body."""
        return self.keys.get(rows.header_key(body)) is not None

    def pieces(self, supervoxels: set[int]) -> set[int]:
        """What became of supervoxels on this side: themselves, or what they were cut into."""
        while cut := supervoxels & self.cut.keys():
            supervoxels = (supervoxels - cut).union(*(self.cut[sv] for sv in cut))
        return supervoxels

    @property
    def posted(self) -> bool:
        """Whether voxels were posted, or mappings or indices, on the way to this version."""
        return any(not deed.action for node in self.alone for _, deed in deeds.read_all(self.keys, node))

    def owners(self, coords: Sequence[Coord]) -> list[str | None]:
        """Which version stored each block; None for one that is absent, or in conflict there."""
        return owners(self.head.version, voxels.array_path(self.head.folder), coords)


def owners(version: Version, path: str, coords: Sequence[Coord]) -> list[str | None]:
    """Which version stored each chunk of an array; None for one that is absent or in conflict."""
    if not version.has_array(path):
        return [None] * len(coords)
    with suppress(ConflictError):
        return version.owners(path, coords)
    found: list[str | None] = []
    for coord in coords:
        found.append(None)
        with suppress(ConflictError):
            found[-1] = version.owners(path, [coord])[0]
    return found


@dataclass(frozen=True)
class Sides:
    """All sides of a merge, and the nearest common ancestors.

    *Said* is what a side has a supervoxel in; of one that it does not know, since another side cut it off, where it
    has what that was cut from.

    Parameters
    ----------
    sides
        The sides.
    bases
        The labelmap at the nearest common ancestors.
    also
        Supervoxels that matter beside those that some side changed.
    """

    sides: tuple[Side, ...]
    bases: tuple[Instance, ...]
    also: frozenset[int]

    @classmethod
    def of(cls, heads: Sequence[Instance], also: Iterable[int] = ()) -> Sides:
        """The sides of a merge of some versions; one from which another descends is none."""
        repo = heads[0].version.repo
        state = repo.state
        tips = dag.independent([h.version.uuid for h in heads], state.parents)
        lines = [frozenset(dag.ancestry(tip, state.parents)) for tip in tips]
        common = frozenset.intersection(*lines)
        found = {h.version.uuid: h for h in heads}
        sides = []
        for tip, line in zip(tips, lines, strict=True):
            # Oldest first, so that what a key holds at the end is what is kept of it.
            alone = sorted(line - common, key=lambda node: state.nodes[node].version_id)
            written = (row for node in alone for row in repo.keys.changes(node, heads[0].info))
            changed = {key: value for key, value in written if key[:1] in _MERGED}
            sides.append(Side(found[tip], line, alone, changed))
        bases = [heads[0].at(repo[node]) for node in dag.merge_bases(tips, state.parents)]
        return cls(tuple(sides), tuple(bases), frozenset(also))

    @cached_property
    def supervoxels(self) -> list[int]:
        """Supervoxels whose body or place some side changed, what they were cut from, and those that matter `also`."""
        found = set(self.also)
        for side in self.sides:
            for key, value in side.changed.items():
                if key[:1] == rows.MAPPING:
                    found.add(int.from_bytes(key[1:], "big"))
                elif key[:1] == rows.PAGE and value is not None:
                    found.update(self._moved_by_page(value))
                elif key[:1] == rows.INDEX:
                    found.add(int.from_bytes(key[9:], "big"))
            found.update(side.parent, side.parent.values())
        return sorted(found)

    def _moved_by_page(self, value: bytes) -> set[int]:
        """Supervoxels of a page that a side wrote, without those that were mapped so before."""
        supervoxels, bodies = pages.decode(value)
        page = dict(zip(supervoxels.tolist(), bodies.tolist(), strict=True))
        before = [mapping.bodies_within(base.keys, list(page)) for base in self.bases]
        return {sv for sv, body in page.items() if not before or any(known[sv] != body for known in before)}

    @cached_property
    def at_heads(self) -> list[dict[int, int]]:
        """Per side the body of each of `supervoxels`."""
        return [mapping.bodies_within(side.keys, self.supervoxels) for side in self.sides]

    @cached_property
    def at_bases(self) -> list[dict[int, int]]:
        """Per common ancestor the body of each of `supervoxels`."""
        return [mapping.bodies_within(base.keys, self.supervoxels) for base in self.bases]

    @cached_property
    def known(self) -> list[set[int]]:
        """Per side those of `supervoxels` that it or a common ancestor had in a body, or mapped to one."""
        at_bases = [mapping.existing_within(base.keys, self.supervoxels) for base in self.bases]
        old = {sv for at in at_bases for sv, body in at.items() if body}
        at_heads = (mapping.existing_within(side.keys, self.supervoxels) for side in self.sides)
        return [old | {sv for sv, body in at.items() if body} for at in at_heads]

    def said(self, supervoxel: int) -> tuple[int, ...]:
        """Body of a supervoxel on each side; 0 where it was cut, or is none."""
        elsewhere = self._origin(supervoxel)
        return tuple(
            bodies[supervoxel if supervoxel in side.parent else elsewhere]
            for side, bodies in zip(self.sides, self.at_heads, strict=True)
        )

    def before(self, supervoxel: int) -> set[int]:
        """Bodies of a supervoxel, or of what it was cut from, in the common ancestors."""
        elsewhere = self._origin(supervoxel)
        return {bodies[elsewhere] for bodies in self.at_bases} or {supervoxel}

    def _origin(self, supervoxel: int) -> int:
        return next((side.origin(supervoxel) for side in self.sides if supervoxel in side.parent), supervoxel)

    def origins(self, supervoxel: int) -> Iterator[int]:
        """What a supervoxel was cut from on any side, nearest first."""
        for side in self.sides:
            yield from side.origins(supervoxel)

    # ------------------------------------------------------------ bodies as wholes

    def was(self, body: int) -> Iterator[int]:
        """Supervoxels of a body in the common ancestors."""
        for base in self.bases:
            yield from (int.from_bytes(key[9:], "big") for key in base.keys.scan_keys(*rows.index_range(body)))

    def goes_on(self, side: Side, body: int) -> bool:
        """Whether something of what a body was is in the body of that number on a side."""
        former = self.was(body)
        while some := set(islice(former, _FEW)):
            if body in mapping.bodies_within(side.keys, sorted(side.pieces(some))).values():
                return True
        return False

    def became(self, side: Side, body: int) -> int | None:
        """What a side made of a body as a whole: itself, another body, or None for several."""
        if self.goes_on(side, body):
            return body
        former = side.pieces(set(self.was(body)))
        targets = set(mapping.bodies_within(side.keys, sorted(former)).values()) - {0}
        if not targets:
            return body
        return targets.pop() if len(targets) == 1 else None

    def made(self, side: Side, body: int) -> frozenset[int]:
        """Supervoxels of a body on a side, each as what it was first cut from."""
        return frozenset(map(self._origin, index.read_supervoxels(side.keys, body)))
