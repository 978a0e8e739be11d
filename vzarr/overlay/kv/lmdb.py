"""An ordered key/value store in an LMDB folder: one machine, many processes, reads without any system call.

LMDB takes keys of up to 511 bytes; longer ones are cut (see `longkeys`).  A process opens a folder once, however many
handles it has; a fork opens it anew.  Whether commits reach the disk is decided by who opens it first: who asks for
less gets more, and who asks for more is refused, for an open folder cannot be made stricter.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, TypeVar

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.kv.base import ByViews, Item, Paging, Reader, Transaction, prefix_end
from vzarr.overlay.kv.longkeys import LongKeys, Row

T = TypeVar("T")

MAP_BYTES = 1 << 40
"""Address space for a store, which bounds its size; the file is as large as what it holds."""
READERS = 1024
LOOK_SECONDS = 60.0
"""How often who writes looks for readers that were killed: what they saw is kept for them, and the file grows by it."""

_open: dict[tuple[int, str], tuple[Any, int]] = {}
"""Environments by process and path, and how many handles use each."""
_opening = Lock()
_numbers = count(1)
"""A store may be made anew where one was: transactions count for one handle."""


def _driver() -> Any:
    try:
        import lmdb
    except ImportError as e:
        raise UnsupportedError("keys in LMDB need its package: pip install 'vzarr[lmdb]'") from e
    return lmdb


class _View(Paging):
    """Read verbs within one LMDB transaction."""

    def __init__(self, txn: Any, path: str) -> None:
        self._txn: Any | None = txn
        self._path = path

    @contextmanager
    def _using(self) -> Iterator[Any]:
        if self._txn is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        lmdb = _driver()
        try:
            yield self._txn
        except lmdb.Error as e:
            full = isinstance(e, lmdb.MapFullError | lmdb.DiskError)
            raise StorageError(errno.ENOSPC if full else errno.EIO, f"key store {self._path}: {e}") from e

    def get(self, key: bytes) -> bytes | None:
        with self._using() as txn:
            found: bytes | None = txn.get(_name(_KEYS.row_of(key)))
            return found

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        with self._using() as txn:
            return list(islice(_KEYS.scan(partial(_rows, txn), start, end, reverse), count))

    def end(self) -> None:
        self._txn = None


class _Txn(_View):
    """A view with the write verbs."""

    def put(self, key: bytes, value: bytes) -> None:
        with self._using() as txn:
            for sign in _KEYS.signs_to(key):
                txn.put(_name(sign), b"")
            txn.put(_name(_KEYS.row_of(key)), value)

    def delete(self, key: bytes) -> None:
        with self._using() as txn:
            txn.delete(_name(_KEYS.row_of(key)))
            for sign, space in zip(_KEYS.signs_to(key)[::-1], _KEYS.spaces_of(key)[::-1], strict=True):
                if next(_rows(txn, True, space, prefix_end(space), False), None) is not None:
                    return
                txn.delete(_name(sign))


_MAIN, _APART = b"k", b"l"
"""Before every name, for LMDB has no empty one; what is no row of the main space comes after it."""
LONGEST = 511
_KEYS = LongKeys(LONGEST - len(_MAIN))


def _name(row: Row) -> bytes:
    return (_APART if row.apart else _MAIN) + row.name


def _rows(txn: Any, apart: bool, start: bytes, end: bytes | None, reverse: bool) -> Iterator[Item]:
    """What is stored in the main space or apart from it, in order."""
    mark = _APART if apart else _MAIN
    low, high = mark + start, bytes([mark[0] + 1]) if end is None else mark + end
    with txn.cursor() as cursor:
        for name, value in (_falling if reverse else _rising)(cursor, low, high):
            yield name[len(mark) :], value


def _rising(cursor: Any, low: bytes, high: bytes) -> Iterator[Item]:
    if cursor.set_range(low):
        for name, value in cursor.iternext():
            if name >= high:
                return
            yield name, value


def _falling(cursor: Any, low: bytes, high: bytes) -> Iterator[Item]:
    if cursor.prev() if cursor.set_range(high) else cursor.last():
        for name, value in cursor.iterprev():
            if name < low:
                return
            yield name, value


class LmdbKV(ByViews):
    """An `OrderedKV` in the folder `path`.

    Parameters
    ----------
    path
        The folder.
    create
        Whether to make it if it does not exist.
    durability
        ``"process"``: a commit survives the end of any process; ``"fsync"``: it survives power loss too.

    Raises
    ------
    AuthorityUnavailableError
        `path` cannot be opened, is no key store, or this process has it open with less durability.
    UnsupportedError
        The extra ``lmdb`` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, durability: str = "process") -> None:
        if durability not in ("process", "fsync"):
            raise InvalidInputError(f"durability is one of process, fsync, not {durability!r}")
        self._path = os.path.realpath(path)
        self._sync = durability == "fsync"
        self._closed = False
        self._writing: int | None = None
        if not create and not (Path(self._path) / "data.mdb").exists():
            raise AuthorityUnavailableError(f"cannot open key store {self._path}: there is none")
        self._number, self._looked = next(_numbers), time.monotonic()
        self._pid, self._env = os.getpid(), self._opened()

    def _opened(self) -> Any:
        lmdb = _driver()
        place = (os.getpid(), self._path)
        with _opening:
            env, handles = _open.get(place, (None, 0))
            if env is None:
                try:
                    env = lmdb.open(
                        self._path, map_size=MAP_BYTES, max_readers=READERS, sync=self._sync, metasync=self._sync
                    )
                except (lmdb.Error, OSError) as e:
                    raise AuthorityUnavailableError(f"cannot open key store {self._path}: {e}") from e
                env.reader_check()
            strict = env.flags()["sync"]
            if self._sync and not strict:
                raise AuthorityUnavailableError(
                    f"cannot open key store {self._path} with durability fsync: this process has it open without; "
                    "close that first, or keep repos of either durability in stores of their own"
                )
            self._sync = strict  # for a fork, which opens it anew
            _open[place] = env, handles + 1
        return env

    def _use(self) -> Any:
        if self._closed:
            raise StorageError(f"key store {self._path} is closed")
        if self._pid != os.getpid():
            self._pid, self._env, self._writing = os.getpid(), self._opened(), None
        return self._env

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """A view of this moment, for as long as the context lasts."""
        with self.reading() as view:
            yield view

    @contextmanager
    def reading(self) -> Iterator[_View]:
        """A view of this moment, for as long as the context lasts."""
        lmdb = _driver()
        try:
            txn = self._use().begin()
        except lmdb.Error as e:
            raise StorageError(f"key store {self._path}: {e}") from e
        view = _View(txn, self._path)
        try:
            yield view
        finally:
            view.end()
            txn.abort()

    def stamp(self) -> Hashable:
        """What stays equal until somebody commits (see `stamp_of`)."""
        return self._number, self._use().info()["last_txnid"]

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn(txn)`` as one serialisable transaction, as `OrderedKV.transact` defines."""
        env, lmdb = self._use(), _driver()
        if self._writing == get_ident():
            raise InvalidInputError("transactions don't nest")
        try:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._looked = time.monotonic()
                env.reader_check()
            txn = env.begin(write=True)
        except lmdb.Error as e:
            raise StorageError(f"key store {self._path}: {e}") from e
        self._writing = get_ident()
        view = _Txn(txn, self._path)
        done = False
        try:
            result = fn(view)
            with view._using():
                txn.commit()
            done = True
            return result
        finally:
            view.end()
            if not done:
                txn.abort()
            self._writing = None

    def close(self) -> None:
        """Let go of the folder; the last handle of the process closes it."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return
        with _opening:
            env, handles = _open.pop((self._pid, self._path))
            if handles > 1:
                _open[self._pid, self._path] = env, handles - 1
                return
        env.close()


def _after_fork() -> None:
    """Let go of the parent's environments: LMDB allows a child neither to use them nor to open a second one."""
    global _opening
    _opening = Lock()
    for env, _ in _open.values():
        env.close()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
