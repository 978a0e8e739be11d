"""Pins: what every object of a source was when it was adopted, kept in the repo, and held against each answer.

One object of the repo (``nodes/ROOT/pins/SHA-256 of itself``) holds them: ``b"VZPIN1"``, u32 number of buckets, u64
end of each bucket counted from the end of this table, then the buckets.  A bucket is zstd-compressed text, a line
``SIZE STAMP SHA256 KEY`` per object, sorted by key; SHA256 is ``-`` unless contents were hashed too.  An object's
bucket is the first 8 bytes of its key's SHA-256 (big-endian) modulo their number.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numcodecs import Zstd

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sources.files import Answer, Files

MAGIC = b"VZPIN1"
PER_BUCKET = 1024
KEPT = 64
_COUNT = struct.Struct("<I")
_ZSTD = Zstd(level=3)


@dataclass(frozen=True)
class Pin:
    """What an object was: bytes, stamp (see `Answer.stamp`) and, where it was hashed, SHA-256."""

    size: int
    stamp: str
    sha256: str = ""


class Pins:
    """Pins of one source, read bucket by bucket.

    Parameters
    ----------
    objects, key
        Where they are kept.
    """

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects, self._key = objects, key
        self._ends: list[int] = []
        self._start = 0
        self._kept: OrderedDict[int, dict[str, Pin]] = OrderedDict()

    def get(self, key: str) -> Pin | None:
        """Pin of an object, or None when there was none of that key."""
        self._open()
        return self._bucket(_place(key, len(self._ends))).get(key)

    def __iter__(self) -> Iterator[tuple[str, Pin]]:
        self._open()
        for number in range(len(self._ends)):
            yield from self._bucket(number).items()

    def _open(self) -> None:
        if self._ends:
            return
        head = self._read(0, len(MAGIC) + _COUNT.size)
        if head[: len(MAGIC)] != MAGIC:
            raise FormatError(f"{self._key} holds no pins")
        (count,) = _COUNT.unpack(head[len(MAGIC) :])
        table = self._read(len(head), 8 * count)
        self._start = len(head) + len(table)
        self._ends = np.frombuffer(table, "<u8").tolist()

    def _bucket(self, number: int) -> dict[str, Pin]:
        kept = self._kept.get(number)
        if kept is None:
            first = self._ends[number - 1] if number else 0
            data = self._read(self._start + first, self._ends[number] - first)
            try:
                lines = bytes(_ZSTD.decode(data)).decode().split("\n")[:-1]
                kept = {
                    key: Pin(int(size), stamp, digest.strip("-")) for size, stamp, digest, key in map(_split, lines)
                }
            except (RuntimeError, ValueError) as e:
                raise FormatError(f"{self._key} is damaged: {e}") from e
            self._kept[number] = kept
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept

    def _read(self, offset: int, length: int) -> bytes:
        data = self._objects.get(self._key, offset, length)
        if data is None or len(data) != length:
            raise StorageError(f"{self._key} is missing or cut short")
        return data


class PinnedFiles(Files):
    """Files of a source that was pinned: an answer that is not what it was then is an error.

    Parameters
    ----------
    files
        The source.
    pins
        What its objects were.
    """

    def __init__(self, files: Files, pins: Pins) -> None:
        super().__init__(files.url)
        self._files, self.pins = files, pins

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Answer | None:
        """Read a range of an object; the same answer tells whether it is the one that was pinned."""
        found, pin = self._files.read(key, offset, length), self.pins.get(key)
        wrong = mismatch(found, pin)
        if wrong:
            raise StorageError(f"{self.place(key)} is not what was pinned: {wrong}")
        return found

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys as they were pinned: nothing needs to be listed."""
        folder = f"{prefix}/" if prefix else ""
        yield from sorted((key, pin.size) for key, pin in self.pins if key.startswith(folder))

    def path(self, key: str) -> str | None:
        """No local path: whoever opened it would not see whether it changed."""
        return None


class RecordingFiles(Files):
    """Files that remember what was asked for.

    Parameters
    ----------
    files
        The source.
    """

    def __init__(self, files: Files) -> None:
        super().__init__(files.url)
        self._files = files
        self.asked: dict[str, None] = {}

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Answer | None:
        """Read a range of an object."""
        self.asked[key] = None
        return self._files.read(key, offset, length)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a folder."""
        return self._files.walk(prefix)


def mismatch(found: Answer | None, pin: Pin | None) -> str:
    """In what an answer differs from a pin; empty when it does not."""
    if found is None:
        return "" if pin is None else "it is gone"
    if pin is None:
        return "it was not there"
    if found.size != pin.size:
        return f"it has {found.size} bytes, not {pin.size}"
    return "" if found.stamp == pin.stamp else "it was written since"


def pin(files: Files, keys: Iterable[str], *, hashed: bool = False) -> bytes:
    """What some objects are now, as bytes to keep (see this module).

    Parameters
    ----------
    keys
        Keys to pin; those that are absent are left out.
    hashed
        Read each object whole and note its SHA-256 too.
    """
    rows: list[tuple[str, Pin]] = []
    for key in keys:
        found = files.read(key) if hashed else files.read(key, 0, 0)
        if found is not None:
            digest = hashlib.sha256(found.data).hexdigest() if hashed else ""
            rows.append((key, Pin(found.size, found.stamp, digest)))
    buckets: list[list[str]] = [[] for _ in range(max(1, -(-len(rows) // PER_BUCKET)))]
    for key, one in sorted(rows):
        buckets[_place(key, len(buckets))].append(f"{one.size} {one.stamp or '-'} {one.sha256 or '-'} {key}\n")
    packed = [bytes(_ZSTD.encode("".join(lines).encode())) for lines in buckets]
    ends = np.cumsum([len(p) for p in packed]).astype("<u8")
    return MAGIC + _COUNT.pack(len(packed)) + ends.tobytes() + b"".join(packed)


def store(objects: Objects, root: str, data: bytes) -> str:
    """Keep pins in the root's folder, and give the key at which they are."""
    key = layout.pins(root, hashlib.sha256(data).hexdigest())
    objects.put(key, data)
    return key


def _place(key: str, buckets: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % buckets


def _split(line: str) -> tuple[str, str, str, str]:
    size, stamp, digest, key = line.split(" ", 3)
    return size, "" if stamp == "-" else stamp, digest, key
