"""Copying the folders of sealed versions, each object checked on arrival against the checksum it was sealed with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.history.state import State
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing import seal
from vzarr.overlay.views.paths import is_key

WORKERS = 16
Progress = Callable[[int, int], None]
"""Told of each object that is in place: how many there are to be, and its bytes.  What it raises ends the copying."""


class Row(NamedTuple):
    """An object as a list of checksums names it; its key is that of the repo, in the source perhaps another."""

    key: str
    size: int
    digest: str
    origin: str = ""


class Reading(Protocol):
    """Where objects come from."""

    def get(self, key: str) -> bytes | None:
        """Bytes of an object, or None when it is absent."""

    def missing(self, key: str) -> StorageError:
        """The error for an object that should be there, and is not."""

    def will_read(self, rows: Sequence[Row]) -> None:
        """Say which objects are about to be read, in about which order."""


class Holding(Reading, Protocol):
    """Where objects are looked for."""

    def size(self, key: str) -> int | None:
        """Size of an object, or None when it is absent."""


class Writing(Protocol):
    """Where objects go."""

    at_once: int

    def lacking(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of `rows` that are not in place, whole and right."""

    def will_write(self, rows: Sequence[Row]) -> None:
        """Say which objects are about to be written, in about which order."""

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
    return copy_rows(source, target, list_nodes(source, state, nodes), progress)


def list_nodes(source: Reading, state: State, nodes: Sequence[str]) -> list[Row]:
    """Every object of some versions (see `listing`)."""
    return [row for rows in share(lambda n: listing(source, state, n), nodes, WORKERS) for row in rows]


def copy_rows(source: Reading, target: Writing, rows: Sequence[Row], progress: Progress | None = None) -> int:
    """Copy objects, checked, and give the number of bytes; what is in place already stays."""

    def tell(some: Iterable[Row]) -> None:
        for row in some:
            if progress is not None:
                progress(len(rows), row.size)

    def look(some: Sequence[Row]) -> Sequence[Row]:
        found = target.lacking(some)
        tell(set(some) - set(found))
        return found

    def copy(row: Row) -> int:
        data = checked(source, row.origin or row.key, row.digest)
        target.put(row.key, data)
        tell([row])
        return len(data)

    parts = [rows[at : at + target.at_once] for at in range(0, len(rows), target.at_once)]
    todo = [row for some in share(look, parts, WORKERS) for row in some]
    source.will_read(todo)
    target.will_write(todo)
    return sum(share(copy, todo, WORKERS))


def adding_up(progress: Progress | None) -> Progress | None:
    """Who is told of several copies as of one: each object of a later one makes more that there are to be."""
    if progress is None:
        return None
    lock, total, left = threading.Lock(), 0, 0

    def tell(count: int, size: int) -> None:
        nonlocal total, left
        with lock:
            if not left:
                total, left = total + count, count
            left -= 1
            now = total
        progress(now, size)

    return tell


def listing(source: Reading, state: State, node: str) -> list[Row]:
    """Every object of a version; its seal comes last.

    Raises
    ------
    FormatError
        If its seal or list of checksums is not what was sealed, or names what is no object of the version.
    StorageError
        If one is missing.
    """
    digest = state.nodes[node].seal
    assert digest is not None
    data = checked(source, layout.seal(node), digest)
    record = seal.Record.from_bytes(data)
    if record.parents != state.nodes[node].parents:
        raise FormatError(f"{layout.seal(node)} names other parents than the log")
    sums = checked(source, layout.sums(node), record.sums)
    try:
        stored = list(seal.read_sums(sums))
    except ValueError as e:
        raise FormatError(f"{layout.sums(node)} is damaged: {e}") from e
    # A repo may be a stranger's: no name leads out of the version's folder.
    strange = [key for key, _size, _digest in stored if not is_key(key) or "\\" in key]
    if strange:
        raise FormatError(f"{layout.sums(node)} names {strange[0]!r}, which is no object of the version")
    rows = [Row(f"{layout.node(node)}/{key}", size, each) for key, size, each in stored]
    return [*rows, Row(layout.sums(node), len(sums), record.sums), Row(layout.seal(node), len(data), digest)]


def checked(source: Reading, key: str, digest: str) -> bytes:
    """An object, held against its checksum.

    Raises
    ------
    StorageError
        If it is missing.
    FormatError
        If it is another.
    """
    data = source.get(key)
    if data is None:
        raise source.missing(key)
    if seal.sha256(data) != digest:
        raise FormatError(f"{key} in the source is not what was sealed: damaged or tampered with")
    return data


def lacks(target: Holding, row: Row) -> bool:
    """Whether an object is not in place, whole and right."""
    if target.size(row.key) != row.size:
        return True
    data = target.get(row.key)
    return data is None or seal.sha256(data) != row.digest


def check_whole(target: Holding, rows: Sequence[Row], is_sound: Callable[[Row], bool]) -> None:
    """Refuse versions of which not every object has arrived whole and right; their own lists are the measure.

    Parameters
    ----------
    is_sound
        Whether it is known without reading an object that it is what was sealed.

    Raises
    ------
    StorageError, FormatError
        Naming the first that is missing, or another one.
    """

    def check(row: Row) -> None:
        if target.size(row.key) != row.size:
            raise StorageError(f"{row.key} has not arrived whole: push again")
        if not is_sound(row):
            checked(target, row.key, row.digest)

    share(check, rows, WORKERS)
