"""Values too large for one row: kept in parts, so that a part at a time is in memory when they are written or read.

==========================  =================  ==================================================================
row key                     row value          what for
==========================  =================  ==================================================================
(of a value)                mark and JSON      ``{"upload", "size", "part"}``: its parts, their bytes but the last's
``p`` upload ``00`` number  bytes              a part; numbers are 4 bytes, big-endian
``u`` upload                seconds            parts are being written; gone once a value names them
==========================  =================  ==================================================================

An upload is called by the id of its version, a dot and random letters, so that no two versions write the same row.  A
value that begins with the mark itself is kept in parts too, whatever its size; so the mark always tells.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

import orjson

from vzarr.errors import ConflictError, FormatError, SealedError, StorageError
from vzarr.types.base import Instance

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn

T = TypeVar("T")

PART = 4 << 20
"""Bytes of a part, and of the largest value that is one row."""
MARK = b"\0vzarr: value in parts\0"
_PART, _UPLOAD = b"p", b"u"
_TRIES = 4
_FORGOTTEN = 24 * 3600.0  # seconds after which nobody is taken to write an unversioned value any more


class ReplacedError(StorageError):
    """The parts of a value are gone, for its key has another one by now."""


def fits(value: bytes) -> bool:
    """Whether a value is kept as one row."""
    return len(value) <= PART and not value.startswith(MARK)


def again(read: Callable[[], T]) -> T:
    """What `read` gives, which finds a value and reads it; a few times, if the value is replaced meanwhile."""
    for _ in range(_TRIES):
        with suppress(ReplacedError):
            return read()
    return read()


@dataclass(frozen=True)
class Stored:
    """A value as it is kept, to be read as a whole or in pieces.

    Parameters
    ----------
    keys
        Where its parts are.
    raw
        The row of the value.
    """

    keys: InstanceKeys
    raw: bytes

    @property
    def large(self) -> bool:
        """Whether it is kept in parts."""
        return self.raw.startswith(MARK)

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return self._parts().size if self.large else len(self.raw)

    def whole(self) -> bytes:
        """The value; a large one is all in memory then."""
        return b"".join(self.read(0, self.size)) if self.large else self.raw

    def read(self, first: int, end: int) -> Iterator[bytes]:
        """Bytes `first` to before `end`, a part at a time.

        Raises
        ------
        ReplacedError
            If somebody replaced the value meanwhile.
        """
        if not self.large:
            yield self.raw[first:end]
            return
        parts = self._parts()
        for number in range(first // parts.part, -(-end // parts.part)):
            content = self.keys.get(_part_row(parts.upload, number))
            if content is None:
                raise ReplacedError("a value was replaced while it was read; read it again")
            start = number * parts.part
            yield content[max(0, first - start) : end - start]

    def _parts(self) -> _Parts:
        return _Parts.decode(self.raw)


@dataclass(frozen=True)
class Part:
    """Bytes `first` to before `end` of a value, which are read when they are wanted."""

    stored: Stored
    first: int
    end: int

    @property
    def size(self) -> int:
        """How many."""
        return self.end - self.first

    def read(self) -> Iterator[bytes]:
        """The bytes, a part of a large value at a time; raises as `Stored.read`."""
        return self.stored.read(self.first, self.end)

    def whole(self) -> bytes:
        """The bytes, all in memory."""
        return b"".join(self.read())


@dataclass(frozen=True)
class _Parts:
    """What the row of a large value says."""

    upload: str
    size: int
    part: int

    def encode(self) -> bytes:
        """The row."""
        return MARK + orjson.dumps({"upload": self.upload, "size": self.size, "part": self.part})

    @classmethod
    def decode(cls, raw: bytes) -> _Parts:
        """Inverse of `encode`."""
        try:
            found = orjson.loads(raw[len(MARK) :])
            return cls(str(found["upload"]), int(found["size"]), int(found["part"]))
        except (ValueError, LookupError, TypeError) as error:
            raise FormatError(f"the row of a value in parts is damaged: {error}") from error


class Upload:
    """Writes the parts of one value; nobody sees them before a row of a value names them.

    Parameters
    ----------
    instance
        Where, at the version where the value is to be.

    Raises
    ------
    SealedError
        If the version is not open.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._name = f"{instance.version.uuid}.{secrets.token_hex(8)}"
        self._count = 0
        self.size = 0
        began = str(int(time.time())).encode()
        instance.transact(lambda tx: tx.put(_upload_row(self._name), began))

    def add(self, content: bytes) -> None:
        """Write the next part: `PART` bytes, but for the last."""
        row = _part_row(self._name, self._count)

        def change(tx: InstanceTxn) -> None:
            self._check(tx)
            tx.put(row, content)

        self._instance.transact(change)
        self._count += 1
        self.size += len(content)

    def finish(self, tx: InstanceTxn) -> bytes:
        """The row of the value, within the transaction that writes it.

        Raises
        ------
        ConflictError
            If the parts were taken for forgotten, as when the version was about to be committed.
        """
        self._check(tx)
        tx.delete(_upload_row(self._name))
        return _Parts(self._name, self.size, PART).encode()

    def abandon(self) -> None:
        """Remove what was written, unless a value names it."""
        with suppress(SealedError):
            self._instance.transact(lambda tx: _forget(tx, self._name))

    def _check(self, tx: InstanceTxn) -> None:
        if tx.get(_upload_row(self._name)) is None:
            raise ConflictError("the version was committed while a large value was being written; write it again")


def store(instance: Instance, value: bytes) -> Upload:
    """Write the parts of a value that is in memory."""
    upload = Upload(instance)
    try:
        for start in range(0, len(value), PART):
            upload.add(value[start : start + PART])
    except BaseException:
        upload.abandon()
        raise
    return upload


class ValueWriter:
    """A value that arrives piece by piece: held in memory as long as it fits into a row, else written in parts.

    Parameters
    ----------
    instance
        Where.
    put
        Writes the value once it is there: called with it, or with the upload that it became.
    """

    def __init__(self, instance: Instance, put: Callable[[bytes | Upload], None]) -> None:
        self._instance, self._put = instance, put
        self._pending = bytearray()
        self._upload: Upload | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def holds(self, size: int) -> bool:
        """Whether so many more bytes can be taken without writing."""
        return len(self._pending) + size <= PART

    def write(self, content: bytes) -> None:
        """Take the next piece."""
        self._pending += content
        while len(self._pending) > PART:
            self._flush()

    def close(self) -> None:
        """The value is complete."""
        if self._upload is None and fits(bytes(self._pending[: len(MARK)])):
            self._put(bytes(self._pending))
            return
        self._flush()
        assert self._upload is not None
        self._put(self._upload)

    def abort(self) -> None:
        """The value will not be completed."""
        if self._upload is not None:
            self._upload.abandon()

    def _flush(self) -> None:
        if self._upload is None:
            self._upload = Upload(self._instance)
        self._upload.add(bytes(self._pending[:PART]))
        del self._pending[:PART]


def drop(tx: InstanceTxn, instance: Instance, rows: Iterable[bytes]) -> None:
    """Remove the parts of values that are about to be replaced, if this very version wrote them: nobody sees them then.

    Looks once when the version wrote no parts.
    """
    own = _PART + (instance.version.uuid.encode() if instance.info.versioned else b"")
    if next(iter(tx.scan_keys(own, own[:-1] + bytes([own[-1] + 1]), limit=1)), None) is None:
        return
    for row in rows:
        try:
            raw = tx.get(row)
        except ConflictError:
            continue  # what merged versions wrote is theirs
        if raw is not None and raw.startswith(MARK):
            upload = _Parts.decode(raw).upload
            if (_PART + upload.encode()).startswith(own):
                _remove(tx, upload)


def settle(instance: Instance) -> None:
    """Remove parts that nobody will name any more; a commit begins with it.

    Of a versioned instance that is all that the version is being written: who still writes is told so.
    """
    start = _upload_row(f"{instance.version.uuid}." if instance.info.versioned else "")
    for row, began in list(instance.keys.scan(start, start[:-1] + bytes([start[-1] + 1]))):
        name = row[len(_UPLOAD) :].decode()
        if instance.info.versioned or time.time() - int(began) > _FORGOTTEN:
            instance.transact(lambda tx, name=name: _forget(tx, name))  # type: ignore[misc]


def _forget(tx: InstanceTxn, name: str) -> None:
    """Remove an upload that is not finished; a finished one may be a value, even one whose commit seemed to fail."""
    if tx.get(_upload_row(name)) is not None:
        _remove(tx, name)


def _remove(tx: InstanceTxn, name: str) -> None:
    for row in list(tx.scan_keys(_part_row(name, 0), _part_row(name, 0xFFFF_FFFF))):
        tx.delete(row)
    tx.delete(_upload_row(name))


def _part_row(upload: str, number: int) -> bytes:
    return _PART + upload.encode() + b"\0" + number.to_bytes(4, "big")


def _upload_row(upload: str) -> bytes:
    return _UPLOAD + upload.encode()
