"""What the log knows of one version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

MASTER = ""
"""How the default branch is recorded; people write it ``master``."""
Row = Sequence[Any]
"""A version without its id, as plain data (see `NodeInfo.FIELDS`)."""


@dataclass(frozen=True)
class NodeInfo:
    """One version, as the log knows it (times are RFC 3339 in UTC)."""

    id: str
    version_id: int
    parents: tuple[str, ...]
    branch: str = MASTER
    note: str = ""
    log: tuple[str, ...] = ()
    seal: str | None = None
    created: str = ""
    updated: str = ""
    line: int = 0

    FIELDS: ClassVar[tuple[str, ...]] = (
        "version_id", "parents", "branch", "note", "log", "seal", "created", "updated", "line",
    )  # fmt: skip
    """Fields of a row: all but the id."""

    @property
    def sealed(self) -> bool:
        """Whether the version can never change again."""
        return self.seal is not None

    def to_row(self) -> Row:
        """All but the id, as plain data in the order of `FIELDS`."""
        return [getattr(self, name) for name in self.FIELDS]

    @classmethod
    def from_row(cls, node: str, row: Row) -> NodeInfo:
        """Inverse of `to_row`."""
        number, parents, branch, note, log, *rest = row
        return cls(node, number, tuple(parents), branch, note, tuple(log), *rest)
