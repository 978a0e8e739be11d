"""Copying the folders of sealed versions, each object checked on arrival against the checksum it was sealed with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout, seal
from vzarr.overlay.state import State

WORKERS = 16
Progress = Callable[[int, int], None]
"""Told of each object that is in place: how many there are to be, and its bytes."""


class Reading(Protocol):
    """Where objects come from."""

    def get(self, key: str) -> bytes | None:
        """Bytes of an object, or None when it is absent."""


class Writing(Reading, Protocol):
    """Where objects go."""

    def size(self, key: str) -> int | None:
        """Size of an object, or None when it is absent."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole."""


def copy_nodes(
    source: Reading, target: Writing, state: State, nodes: Sequence[str], progress: Progress | None = None
) -> int:
    """Copy what sealed versions stored; what is in place already, whole and right, stays.

    Parameters
    ----------
    source, target
        From where to where.
    state
        What the source's log says: its hashes of seals are what everything is held against.
    nodes
        Ids of the versions.
    progress
        Told of each object.

    Returns
    -------
    int
        Number of bytes that were copied.

    Raises
    ------
    FormatError
        If an object is not what was sealed; it is named, and nothing of it arrives.
    StorageError
        If one is missing, or cannot be read or written.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        listed = [row for rows in pool.map(lambda n: _rows(source, state, n), nodes) for row in rows]

        def copy(row: tuple[str, int, str]) -> int:
            key, size, digest = row
            moved = 0 if _is_there(target, key, size, digest) else _copy(source, target, key, digest)
            if progress is not None:
                progress(len(listed), size)
            return moved

        return sum(pool.map(copy, listed))


def _rows(source: Reading, state: State, node: str) -> Iterable[tuple[str, int, str]]:
    """Key, size and hash of every object of a version; its seal comes last."""
    digest = state.nodes[node].seal
    assert digest is not None
    data = _checked(source, layout.seal(node), digest)
    sums = seal.Record.from_bytes(data).sums
    listing = _checked(source, layout.sums(node), sums)
    folder = layout.node(node)
    rows = [(f"{folder}/{key}", size, each) for key, size, each in seal.read_sums(listing)]
    return [*rows, (layout.sums(node), len(listing), sums), (layout.seal(node), len(data), digest)]


def _checked(source: Reading, key: str, digest: str) -> bytes:
    data = source.get(key)
    if data is None:
        raise StorageError(f"{key} is missing in the source")
    if seal.sha256(data) != digest:
        raise FormatError(f"{key} in the source is not what was sealed: damaged or tampered with")
    return data


def _copy(source: Reading, target: Writing, key: str, digest: str) -> int:
    data = _checked(source, key, digest)
    target.put(key, data)
    return len(data)


def _is_there(target: Writing, key: str, size: int, digest: str) -> bool:
    if target.size(key) != size:
        return False
    data = target.get(key)
    return data is not None and seal.sha256(data) == digest
