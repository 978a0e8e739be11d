"""What the sides of a merge agree about: groups of bodies that hang together, each agreed about or in dispute.

Supervoxels *hang together* that are in a body of one number on some sides, or of which one was cut from the other.
So no body, on any side, is in two groups, and a group can be taken from one side whole: its bodies then are exactly
those that this side has.  See `compose` for the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from vzarr.types.labelmap import index, rows
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.rows import unpack_blocks
from vzarr.types.labelmap.sides import Side, Sides


@dataclass(frozen=True)
class Group:
    """Supervoxels that hang together.

    Parameters
    ----------
    supervoxels
        Those that some side changed, ascending.
    conflict
        What the sides disagree about, if they do.
    """

    supervoxels: tuple[int, ...]
    conflict: BodyConflict | None


class Agreement:
    """What comes of supervoxels as far as the sides of a merge agree.

    Parameters
    ----------
    sides
        The sides.
    """

    def __init__(self, sides: Sides) -> None:
        self._all, self._sides = sides, sides.sides
        self._ends: dict[tuple[int, tuple[bool, ...]], int | None] = {}

    @cached_property
    def bodies(self) -> dict[int, int | None]:
        """Body of each supervoxel on which the sides agree; None where they don't."""
        return {sv: self._agreed(sv) for sv in self._all.supervoxels}

    @cached_property
    def groups(self) -> list[Group]:
        """All groups, by their first supervoxel."""
        ties = self._ties()
        members: dict[int, list[int]] = {}
        for sv in self._all.supervoxels:
            members.setdefault(ties.root(sv), []).append(sv)
        disputed: dict[int, set[int]] = {}
        for sv in self._disputed():
            disputed.setdefault(ties.root(sv), set()).add(sv)
        return [
            Group(tuple(svs), self._conflict(svs, sorted(disputed[root])) if root in disputed else None)
            for root, svs in members.items()
        ]

    def _ties(self) -> _Ties:
        ties = _Ties()
        for sv in self._all.supervoxels:
            for at in self._all.at_heads:
                if at[sv]:
                    ties.tie(sv, ~at[sv])  # a body's number is another thing than the supervoxel of that number
            for side in self._sides:
                if sv in side.parent:
                    ties.tie(sv, side.parent[sv])
        return ties

    # ------------------------------------------------------------ disputes

    def _disputed(self) -> Iterator[int]:
        yield from (sv for sv, body in self.bodies.items() if body is None)
        for sv in self._all.supervoxels:
            if len({side.cut[sv] for side in self._sides if sv in side.cut}) > 1:
                yield sv
        yield from self._written_beside()
        yield from self._twins()

    def _written_beside(self) -> Iterator[int]:
        """Supervoxels that are none any more on one side, while another stored blocks with them that it did not see."""
        at_heads = self._all.at_heads
        torn = [sv for sv in self._all.supervoxels if len({at[sv] == 0 for at in at_heads}) > 1]
        for holder, at in zip(self._sides, at_heads, strict=True):
            where = index.read_parts(holder.keys, {sv: at[sv] for sv in torn if at[sv]})
            for sv, counts in where.items():
                owners = set(holder.owners([tuple(c) for c in unpack_blocks(counts.blocks).tolist()]))
                without = [side for side, there in zip(self._sides, at_heads, strict=True) if not there[sv]]
                if any(not owners <= {*side.line, None} for side in without):
                    yield sv

    def _twins(self) -> Iterator[int]:
        """A supervoxel of each body that is not the one that others made under the same number."""
        moved = [
            {at[sv] for sv in self._all.supervoxels if at[sv] not in self._all.before(sv)} for at in self._all.at_heads
        ]
        there = [set(at.values()) for at in self._all.at_heads]
        for body in sorted(set().union(*moved) - {0}):
            if sum(body in bodies for bodies in there) > 1:
                made = [self._all.made(side, body) for side in self._sides if self._is_new(side, body)]
                other = next((two for one, two in combinations(made, 2) if one.isdisjoint(two)), None)
                if other is not None:
                    yield min(other)

    def _is_new(self, side: Side, body: int) -> bool:
        """Whether a side has a body of a number under which there was none, or nothing that is in it now."""
        return side.has(body) and not self._all.goes_on(side, body)

    def _conflict(self, group: Sequence[int], disputed: Sequence[int]) -> BodyConflict:
        changed = self._changed(disputed)
        if len(changed) < 2:
            changed = self._changed(group)
        first = disputed[0]
        said, before = self._all.said(first), self._all.before(first)
        places = tuple(sorted(changed)) if len(changed) > 1 else tuple(range(len(self._sides)))
        body = min(before - {0}, default=first)
        return BodyConflict(self._sides[0].head.name, body, first, said, places, tuple(disputed[1:]))

    def _changed(self, supervoxels: Sequence[int]) -> set[int]:
        """Places of the sides that moved or cut some supervoxels, or stored voxels of them."""
        found = set()
        for sv in supervoxels:
            before, said = self._all.before(sv), self._all.said(sv)
            for place, side in enumerate(self._sides):
                if said[place] not in before or rows.index_key(said[place], sv) in side.changed:
                    found.add(place)
        return found

    # ------------------------------------------------------------ agreement

    def _agreed(self, supervoxel: int) -> int | None:
        said, before = self._all.said(supervoxel), self._all.before(supervoxel)
        changed = dict.fromkeys(body for body in said if body not in before)
        if not changed:
            return said[0] if len(set(said)) == 1 else None
        if any(supervoxel in side.cut for side in self._sides):
            return 0  # its parts go where the other sides moved it
        ends = {self._end(body, tuple(b == body for b in said)) for body in changed}
        return ends.pop() if len(ends) == 1 else None

    def _end(self, body: int, sayers: tuple[bool, ...]) -> int | None:
        """Where a body, into which some sides moved something, is after what the other sides did to it."""
        if (body, sayers) not in self._ends:
            within = [side for side, says in zip(self._sides, sayers, strict=True) if says and side.has(body)]
            # What has no voxel stays where a side left it, though the body went on without it there.
            whole = bool(body) and any(self._all.goes_on(side, body) for side in within)
            self._ends[body, sayers] = self._followed(body, sayers) if whole else body
        return self._ends[body, sayers]

    def _followed(self, body: int, sayers: Sequence[bool]) -> int | None:
        """Where a body is after all sides; None if it was torn apart on one, or they exchanged bodies."""
        seen = set()
        at: int | None = body
        while at is not None and at not in seen:
            seen.add(at)
            asked = zip(self._sides, sayers, strict=True)
            onward = [at if says else self._all.became(side, at) for side, says in asked]
            moved = set(onward) - {at}
            if not moved:
                return at
            at = moved.pop() if len(moved) == 1 else None
            sayers = [target == at for target in onward]
        return None


class _Ties:
    """Numbers that are tied to each other, directly or by others (union-find)."""

    def __init__(self) -> None:
        self._up: dict[int, int] = {}

    def root(self, number: int) -> int:
        """The number that stands for all that are tied to a number."""
        path = []
        while (up := self._up.get(number, number)) != number:
            path.append(number)
            number = up
        self._up.update(dict.fromkeys(path, number))
        return number

    def tie(self, one: int, other: int) -> None:
        """Tie two numbers."""
        one, other = self.root(one), self.root(other)
        if one != other:
            self._up[max(one, other)] = min(one, other)
