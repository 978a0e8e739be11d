"""What a partial clone left out: objects that sealed versions stored, absent on purpose and not lost.

Beside the list of a version's checksums ``left-out`` has a bit for each of its lines (docs/format.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from vzarr.errors import FormatError, InvalidInputError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal


@dataclass(frozen=True)
class Limits:
    """What a partial clone has of the chunks of arrays; of all else it has everything.

    Parameters
    ----------
    depth
        Chunks that the newest versions of each branch need, so many of them; None for all versions.
    instances
        Names of the instances whose chunks it has; None for all arrays.
    roi
        Name of the region whose chunks of volumes it has, and the version at which the region is meant: a ref, ""
        for the newest, or its id, as `vzarr.json` has it; None for all space.

    Raises
    ------
    InvalidInputError
        If the depth is less than 1.
    """

    depth: int | None = None
    instances: tuple[str, ...] | None = None
    roi: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise InvalidInputError(f"the depth of a clone is at least 1 version, not {self.depth}")

    def __bool__(self) -> bool:
        return self != Limits()

    def __str__(self) -> str:
        depth = "" if self.depth is None else f"--depth {self.depth}"
        instances = "" if self.instances is None else f"--instances {','.join(self.instances)}"
        roi = "" if self.roi is None else f"--roi {','.join(filter(None, self.roi))}"
        return " ".join(filter(None, (depth, instances, roi)))

    def has(self, path: str) -> bool:
        """Whether an array at a path is among those whose chunks are wanted."""
        return self.instances is None or any(path == i or path.startswith(f"{i}/") for i in self.instances)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``vzarr.json`` holds them under ``partial``."""
        roi = {} if self.roi is None else {"roi": self.roi}
        return {"depth": self.depth, "instances": self.instances, **roi}

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Limits:
        """Limits that ``vzarr.json`` names; none for a whole repo."""
        plain = meta.get("partial") or {}
        names, roi = plain.get("instances"), plain.get("roi")
        return cls(plain.get("depth"), None if names is None else tuple(names), None if roi is None else tuple(roi))


def read(objects: Objects, node: str) -> frozenset[str]:
    """Keys of the objects of a version that were left out.

    Raises
    ------
    FormatError
        If the list of them is damaged.
    """
    data = objects.get(layout.left_out(node))
    if data is None:
        return frozenset()
    rows = listed(objects, node)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if len(data) != -(-len(rows) // 8):
        raise FormatError(f"{layout.left_out(node)} is damaged: it is not as long as the list of checksums asks for")
    return frozenset(rows[i] for i in np.flatnonzero(bits).tolist() if i < len(rows))


def write(objects: Objects, node: str, keys: Collection[str]) -> None:
    """Note which objects of a version are left out."""
    if keys:
        bits = np.array([key in keys for key in listed(objects, node)], bool)
        objects.put(layout.left_out(node), np.packbits(bits, bitorder="little").tobytes())
    else:
        objects.delete(layout.left_out(node))


def gone(objects: Objects, key: str, message: str) -> StorageError:
    """The error for an object that is not there: lost, with a message, or left out."""
    first, _, rest = key.partition("/")
    node = rest.partition("/")[0]
    if first != "nodes" or key not in read(objects, node):
        return StorageError(message)
    limits = Limits.of(orjson.loads(objects.get(layout.REPO) or b"{}"))
    return StorageError(f"{key} is not in this partial clone ({limits}): clone the repo without limits to have it")


def listed(objects: Objects, node: str) -> Sequence[str]:
    """Keys of all objects that a version stored, in the order of the list of their checksums.

    Raises
    ------
    FormatError
        If there is no such list.
    """
    sums = objects.get(layout.sums(node))
    if sums is None:
        raise FormatError(f"{layout.sums(node)} is missing")
    return [f"{layout.node(node)}/{key}" for key, _size, _digest in seal.read_sums(sums)]
