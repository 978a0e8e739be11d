"""Where the bytes of a repo are: by version, by instance and by branch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import RESERVED
from vzarr.overlay.history.state import State
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

OWN = ""
"""In place of an instance: what versions cost beside their data, such as pages, trees and checksums."""


@dataclass(frozen=True)
class Usage:
    """Objects that one version stored for one instance (or other top-level name of the hierarchy).

    Parameters
    ----------
    version, branch
        Id of the version, and its branch.
    instance
        Name of the instance when the objects were stored, or `OWN`.
    objects, nbytes
        How many, and their bytes together.
    """

    version: str
    branch: str
    instance: str
    objects: int
    nbytes: int


def usage(objects: Objects, state: State, nodes: Iterable[str]) -> Iterator[Usage]:
    """What some versions stored themselves; what they share with their ancestors is counted where it was stored.

    Sealed versions are counted by their list of checksums, open ones by their folder, and so is what belongs to none
    (`layout.UNVERSIONED` among `nodes`).

    Raises
    ------
    FormatError
        If a seal or list of checksums is damaged.
    StorageError
        If a seal is missing.
    """
    names = {i.data_uuid: i.name for i in state.instances.values()}
    for node in nodes:
        found: dict[str, list[int]] = {}
        info = state.nodes.get(node)
        for key, size in _stored(objects, node, sealed=info is not None and info.sealed):
            count = found.setdefault(_instance(key, names), [0, 0])
            count[0] += 1
            count[1] += size
        branch = layout.UNVERSIONED if info is None else info.branch or "master"
        yield from (Usage(node, branch, name, n, nbytes) for name, (n, nbytes) in sorted(found.items()))


def total(rows: Iterable[Usage], by: Callable[[Usage], str]) -> dict[str, tuple[int, int]]:
    """Objects and bytes together by version, branch or instance, in order of first appearance."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        n, nbytes = found.get(by(row), (0, 0))
        found[by(row)] = n + row.objects, nbytes + row.nbytes
    return found


def _stored(objects: Objects, node: str, *, sealed: bool) -> Iterator[tuple[str, int]]:
    """Keys of a version's objects, relative to its folder, and their sizes."""
    data = objects.get(layout.sums(node)) if sealed else None
    folder = layout.node(node)
    if data is None:
        yield from ((key[len(folder) + 1 :], max(0, size)) for key, size in objects.walk(folder))
        return
    record = objects.get(layout.seal(node))
    if record is None:
        raise StorageError(f"{layout.seal(node)} is missing")
    if seal.sha256(data) != seal.Record.from_bytes(record).sums:
        raise FormatError(f"{layout.sums(node)} is damaged: its checksum differs from the seal's")
    yield from ((key, size) for key, size, _digest in seal.read_sums(data))
    yield "sums/sha256", len(data)
    yield "seal.json", len(record)


def _instance(key: str, names: dict[str, str]) -> str:
    part, _, rest = key.partition("/")
    first, inside, _ = rest.partition("/")
    if part == "keys" and inside:
        return names.get(first.partition("~")[0], first)
    if part != "zarr" or not inside:
        return OWN
    return RESERVED.sub("", first)
