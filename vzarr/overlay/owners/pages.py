"""Owner pages: of each chunk of a small part of an array the node that stored it, as a palette and a code per chunk."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any, overload

import numpy as np
from numcodecs import Zstd
from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.overlay import layout

ABSENT, DELETED, CONFLICT, FIRST_OWNER = 0, 1, 2, 3
"""What a chunk's code means: never written, deleted, in conflict; from 3 on an owner in the page's palette."""

ZSTD = Zstd(level=1)
_PAGE = struct.Struct("<HB")
_SIDES = {0: 1, 1: 4096, 2: 64, 3: 16, 4: 8}


def side(ndim: int) -> int:
    """Length of a page's side in chunks (and of a directory block's in pages): about 4,096 in all."""
    return _SIDES.get(ndim, 4)


@lru_cache(1 << 16)
def digest(node: str) -> bytes:
    """The 16 bytes that stand for a node id in a palette: the id itself where it is 32 hex digits."""
    if layout.HEX_ID.fullmatch(node):
        return bytes.fromhex(node)
    return blake2b(node.encode(), digest_size=16).digest()


Names = Callable[[bytes], tuple[str, ...]]
"""Turns a palette, 16 bytes per entry, into node ids."""


def names_below(root: str) -> Names:
    """How palettes of a repo are read: ids as they stand there, and the root's by its digest."""
    mark = digest(root).hex()

    def names(palette: bytes) -> tuple[str, ...]:
        digits = palette.hex()
        found = tuple([digits[at : at + 32] for at in range(0, len(digits), 32)])
        return tuple(root if name == mark else name for name in found) if mark != root and mark in found else found

    return names


class Palette(Sequence[str]):
    """Node ids of a page as they are stored: one is made when it is asked for, since a reader of a chunk needs one.

    Parameters
    ----------
    stored
        16 bytes per id.
    names
        Turns them into ids.
    """

    def __init__(self, stored: bytes, names: Names) -> None:
        self._stored, self._names = stored, names

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return self._all[place]
        if "_all" in self.__dict__:
            return self._all[place]
        return self._names(self._stored[16 * place : 16 * place + 16])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._stored) // 16

    @cached_property
    def _all(self) -> tuple[str, ...]:
        return self._names(self._stored)


@dataclass(frozen=True)
class Page:
    """Owners of the chunks of one page.

    Parameters
    ----------
    owners
        Palette: ids of the nodes that own chunks here.
    codes
        uint8 or uint16, one per chunk, last axis fastest: `ABSENT`, `DELETED`, `CONFLICT` or `FIRST_OWNER` + place
        in the palette.
    """

    owners: Sequence[str]
    codes: NDArray[Any]

    def encode(self) -> bytes:
        """Compressed bytes."""
        owners, codes = self._compact()
        head = _PAGE.pack(len(owners), codes.dtype.itemsize) + b"".join(map(digest, owners))
        return bytes(ZSTD.encode(head + codes.tobytes()))

    def _compact(self) -> tuple[list[str], NDArray[Any]]:
        used = np.unique(self.codes[self.codes >= FIRST_OWNER])
        renumber = np.arange(FIRST_OWNER + len(self.owners), dtype=np.uint16)
        renumber[used] = np.arange(FIRST_OWNER, FIRST_OWNER + used.size)
        kind = np.uint8 if used.size + FIRST_OWNER <= 256 else np.dtype("<u2")
        return [self.owners[i - FIRST_OWNER] for i in used], renumber[self.codes].astype(kind)

    @classmethod
    def decode(cls, data: bytes, names: Names) -> Page:
        """Inverse of `encode`."""
        raw = bytes(ZSTD.decode(data))
        count, itemsize = _PAGE.unpack_from(raw)
        at = _PAGE.size + 16 * count
        return cls(
            Palette(raw[_PAGE.size : at], names), np.frombuffer(raw, "<u1" if itemsize == 1 else "<u2", offset=at)
        )

    def owner(self, local: int) -> str | int:
        """Owner of a chunk by its place in the page, or one of the codes below `FIRST_OWNER`."""
        code = int(self.codes[local])
        return code if code < FIRST_OWNER else self.owners[code - FIRST_OWNER]

    def with_codes(self, local: NDArray[np.int64], owners: Iterable[str | int]) -> Page:
        """A page in which the given chunks have the given owners (or codes)."""
        palette = {name: i + FIRST_OWNER for i, name in enumerate(self.owners)}
        codes = self.codes.astype(np.uint16)
        codes[local] = [o if isinstance(o, int) else palette.setdefault(o, FIRST_OWNER + len(palette)) for o in owners]
        return Page(tuple(palette), codes)

    @classmethod
    def empty(cls, ndim: int) -> Page:
        """A page in which nothing was ever written."""
        return cls((), np.zeros(side(ndim) ** ndim, np.uint8))


def coords_in(at: Coord, local: NDArray[np.int64], n: int, ndim: int) -> NDArray[np.int64]:
    """Global chunk coordinates, shape (n, ndim), of places in the page at `at`, whose side is `n`."""
    if ndim == 0:
        return np.zeros((local.size, 0), np.int64)
    inside = np.stack(np.unravel_index(local, (n,) * ndim), -1).astype(np.int64)
    return inside + np.array(at, np.int64) * n


def local_of(coord: Coord, n: int) -> int:
    """Place of a chunk in its page (or of a page in its directory block), whose side is `n`."""
    local = 0
    for c in coord:
        local = local * n + c % n
    return local
