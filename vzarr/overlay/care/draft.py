"""A repo with objects laid over it that are not written yet: what was made again is read by what is made from it."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import NoReturn

from vzarr.errors import UnsupportedError
from vzarr.overlay.objects.base import Objects, ReadOnly


class Draft(ReadOnly):
    """The objects of a repo, and drafts over them.

    Parameters
    ----------
    inner
        The repo, which is only read.
    """

    def __init__(self, inner: Objects) -> None:
        super().__init__(inner, _refuse)
        self.made: dict[str, bytes] = {}
        """The drafts, by key."""

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """See `Objects.fetch`."""
        data = self.made.get(key)
        if data is None:
            return super().fetch(key, offset, length)
        start = max(0, len(data) + offset) if offset < 0 else offset
        return data[start : len(data) if length is None else start + length], len(data)

    def read_into(self, key: str, buffer: bytearray) -> memoryview | None:
        """See `Objects.read_into`."""
        return memoryview(self.made[key]) if key in self.made else super().read_into(key, buffer)

    def path(self, key: str) -> str | None:
        """See `Objects.path`."""
        return None if key in self.made else super().path(key)

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Draft an object."""
        self.made[key] = bytes(data)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `Objects.walk`."""
        folder = f"{prefix}/" if prefix else ""
        mine = sorted((k, len(v)) for k, v in self.made.items() if k.startswith(folder))
        yield from merge(mine, (row for row in super().walk(prefix) if row[0] not in self.made))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `Objects.list_dir`."""
        folders, files = map(set, super().list_dir(prefix))
        cut = len(prefix) + 1 if prefix else 0
        for key in self.made:
            if key.startswith(prefix[:cut]) and (not prefix or key[cut - 1] == "/"):
                head, below, _rest = key[cut:].partition("/")
                (folders if below else files).add(head)
        return sorted(folders), sorted(files)


def _refuse() -> NoReturn:
    raise UnsupportedError("drafts are not written one by one")
