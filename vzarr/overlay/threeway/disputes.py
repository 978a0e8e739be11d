"""What a merge says of conflicts, and who decides about them: a strategy, or a function of the caller's.

A *side* is one of the versions that are merged, as far as no other of them descends from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.geometry import Box

FAIL, OURS, THEIRS = "fail", "ours", "theirs"
_SHOWN = 5


class _Place(NamedTuple):
    path: str
    box: Box | None


class Conflict(_Place):
    """A place in the hierarchy that was changed differently; equal to the pair of its path and its box.

    Parameters
    ----------
    path
        Of an array or group, or a loose key.
    box
        Voxels (zyx, upper corner exclusive) of a chunk; None for the metadata themselves.
    """

    why: str = ""
    """What was changed, where that is not a chunk."""

    @classmethod
    def at(cls, path: str, box: Box | None = None, why: str = "") -> Conflict:
        """A conflict, and what it is about."""
        found = cls(path, box)
        found.why = why
        return found

    def __str__(self) -> str:
        if self.box is not None:
            corners = (",".join(map(str, corner)) for corner in self.box)
            return f"{self.path} " + ("..".join(corners) if self.box[0] else "its only voxel")
        return f"{self.path or '/'}: {self.why}" if self.why else self.path or "/"


class KeyConflict(NamedTuple):
    """A sidecar key that was changed differently, or deleted on one side and changed on another.

    Parameters
    ----------
    instance
        Name of the instance.
    key
        The key, as its datatype calls it.
    """

    instance: str
    key: str

    def __str__(self) -> str:
        return f"{self.instance}: key {self.key!r}"


@dataclass(frozen=True, eq=False)
class Held:
    """What a version holds where there is a conflict.

    Parameters
    ----------
    version
        Id of the version.
    load
        Reads the value.
    """

    version: str
    load: Callable[[], Any] = field(repr=False)

    @cached_property
    def value(self) -> Any:
        """The value, read when first asked for; None where the version has none.

        Of a chunk an array of exactly the chunk's shape, of a key or loose key bytes, of metadata a dictionary, of a
        supervoxel the number of its body.

        Raises
        ------
        ConflictError
            If the version itself was left in conflict there.
        """
        return self.load()


@dataclass(frozen=True, eq=False)
class Dispute:
    """One conflict, for whoever decides about it.

    Parameters
    ----------
    conflict
        What is in conflict: a `Conflict`, a `KeyConflict`, or what the datatype calls it.
    sides
        What each version holds, in the order in which they were named.
    bases
        What they all had before: of one common ancestor, or of several after a criss-cross.
    changed
        Places in `sides` of those that disagree.
    """

    conflict: Any
    sides: tuple[Held, ...]
    bases: tuple[Held, ...]
    changed: tuple[int, ...]

    @property
    def path(self) -> str:
        """Path of the array or group, loose key, or name of the instance."""
        return str(self.conflict[0])

    @property
    def box(self) -> Box | None:
        """Voxels of the chunk in conflict (zyx, upper corner exclusive); None for what is no chunk."""
        return self.conflict.box if isinstance(self.conflict, Conflict) else None

    @property
    def base(self) -> Held | None:
        """The only base, or None after a criss-cross."""
        return self.bases[0] if len(self.bases) == 1 else None


Resolver = Callable[[Dispute], Any]
"""Given a dispute: one of its `sides`, or a value of the same kind as theirs, or None to leave it a conflict.

A base is no side: answer with its value."""
Strategy = str | Resolver


@dataclass
class Judge:
    """Decides about conflicts, and remembers those that nobody could decide.

    Parameters
    ----------
    strategy
        `FAIL`: none is decided.  `OURS`, `THEIRS`: the first or the last named of the versions that disagree is
        right.  Else a function (see `Resolver`).
    keep
        Whether conflicts, or which of them, may stay in the new version.

    Raises
    ------
    InvalidInputError
        If there is no such strategy.
    """

    strategy: Strategy = FAIL
    keep: bool | Callable[[Any], bool] = False
    moot: Callable[[Dispute], bool] = lambda _dispute: False
    """Whether nobody can see what is in conflict: then the first side is right, whatever the strategy."""
    open: dict[Any, None] = field(default_factory=dict)
    """Conflicts that stand against the merge."""

    def __post_init__(self) -> None:
        if not callable(self.strategy) and self.strategy not in (FAIL, OURS, THEIRS):
            raise InvalidInputError(
                f"a merge's strategy is {FAIL!r}, {OURS!r}, {THEIRS!r} or a function, not {self.strategy!r}; "
                "a note is given by name (note=…)"
            )

    def decide(self, dispute: Dispute) -> int | Value | None:
        """Place of a side, or a value for what is in conflict; None where it stays a conflict."""
        found: int | Value | None = None
        if self.moot(dispute):
            found = dispute.changed[0]
        elif callable(self.strategy):
            found = _answered(dispute, self.strategy(dispute))
        elif self.strategy != FAIL:
            found = dispute.changed[0 if self.strategy == OURS else -1]
        if found is None:
            self.leave(dispute.conflict)
        return found

    def leave(self, conflict: Any) -> None:
        """Take note of a conflict about which nobody decided."""
        if not (self.keep(conflict) if callable(self.keep) else self.keep):
            self.open[conflict] = None

    def refuse(self) -> None:
        """Raise if a conflict stands against the merge.

        Raises
        ------
        ConflictError
            With all of them.
        """
        found = list(self.open)
        if found:
            shown = ", ".join(map(str, found[:_SHOWN]))
            count = f"{len(found)} conflict{'s' * (len(found) > 1)}"
            raise ConflictError(f"{count}: {shown}{' …' if len(found) > _SHOWN else ''}", found)


@dataclass(frozen=True)
class Value:
    """What a resolver answered that is none of the sides."""

    value: Any


def _answered(dispute: Dispute, answer: Any) -> int | Value | None:
    if not isinstance(answer, Held):
        return None if answer is None else Value(answer)
    place = next((i for i, side in enumerate(dispute.sides) if side is answer), None)
    if place is None:
        raise InvalidInputError(
            f"{dispute.conflict}: the answer is none of the sides of this conflict; what a base holds is a value,"
            " as base.value"
        )
    return place


def only_side(dispute: Dispute, answer: int | Value | None) -> int | None:
    """The place of a side; refuses a value.

    Raises
    ------
    InvalidInputError
        If a resolver gave a value where only a side can be taken.
    """
    if isinstance(answer, Value):
        raise InvalidInputError(f"{dispute.conflict}: answer with one of the sides, not with a value")
    return answer


def first_places(sides: Sequence[Any], values: Sequence[Any]) -> tuple[int, ...]:
    """For each value the first side that has it, in the order of sides."""
    return tuple(sorted(next(i for i, side in enumerate(sides) if side == value) for value in values))
