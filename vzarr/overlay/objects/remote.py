"""Objects in an object store: every request counted, repeated where its answer was lost, and ended in time.

S3 is the contract, through s3fs, with obstore as the fast lane where it is installed.  Other protocols of fsspec work
through their own packages; without a native exclusive create, as over http, a repo can only be read.

An object store has no folders and no renames: an object appears whole when its PUT ends.  What a PUT without an answer
did is not known, so a create whose answer was lost is recognised by a claim that it left in the object, and a put is
given up after `PUT_SECONDS`, for which a commit waits longer than for the writer's lease.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

from vzarr.errors import SealedError, StorageError, UnsupportedError
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.drivers.driver import PAGE, Driver, Entry, TransientError

T = TypeVar("T")

PUT_SECONDS = 10.0
"""After which a PUT is given up."""
SLOWEST_BYTES = 4 << 20
"""Bytes per second that a large PUT is given more time for."""
ATTEMPTS = 5
PATIENCE_SECONDS = 30.0
"""For how long, and how often, a request without an answer is repeated."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
URL_SECONDS = 3600
"""For how long a signed URL is good."""


class RemoteObjects(Objects):
    """Objects below a prefix of a bucket.

    Parameters
    ----------
    protocol, bucket, prefix
        Where: ``s3``, a bucket's name, and a folder in it, "" for the whole bucket.
    make
        Makes the driver; again in each process, for none outlives a fork.
    """

    concurrency = 32
    late_seconds = PUT_SECONDS

    def __init__(self, protocol: str, bucket: str, prefix: str, make: Callable[[], Driver]) -> None:
        super().__init__(f"{protocol}://{bucket}/{prefix}".rstrip("/"))
        self._prefix = f"{prefix}/" if prefix else ""
        self._make = make
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._driver: Driver | None = None
        self._lock = threading.Lock()
        self._stages: dict[str, Callable[[], bool]] = {}
        self._checks: bool | None = None
        self.requests: Counter[str] = Counter()

    @classmethod
    def of(cls, url: str) -> Objects:
        """Open what a URL names.

        Raises
        ------
        UnsupportedError
            If it names a protocol that fsspec does not know, or no bucket.
        """
        protocol, _, path = url.partition("://")
        bucket, _, prefix = path.partition("/")
        protocol = "s3" if protocol == "s3a" else protocol
        if not bucket:
            raise UnsupportedError(f"{url!r} names no bucket")
        objects = cls(protocol, bucket, prefix.strip("/"), lambda: _driver(protocol, bucket))
        objects.driver  # noqa: B018 - a protocol that is not installed should be told now
        return objects

    @property
    def driver(self) -> Driver:
        """The way to the bucket in this process."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            driver = self._driver = self._driver or self._make()
        return driver

    # -- reading

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Read a range of an object in one request (see `Objects.fetch`)."""
        found = self._read(key, offset, length)
        return None if found is None else (bytes(found[0]), found[1])

    def read_into(self, key: str, buffer: bytearray) -> memoryview | None:
        """Read a whole object (see `Objects.read_into`); the buffer is not needed."""
        found = self._read(key, 0, None)
        return None if found is None else memoryview(found[0])

    def _read(self, key: str, offset: int, length: int | None) -> tuple[bytes | memoryview, int] | None:
        name, driver = self._prefix + key, self.driver
        if length == 0:
            size = self._ask("size", key, lambda: driver.size(name))
            return None if size is None else (b"", size)
        # A part of a suffix cannot be named: the suffix is read.
        stop = None if length is None or offset < 0 else offset + length
        found = self._ask("get", key, lambda: driver.read(name, offset, stop))
        return found if found is None or offset >= 0 or length is None else (found[0][:length], found[1])

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a folder in the order of whole keys, a page at a time."""
        return ((key, size) for key, size, _stamp in self.stamped(prefix))

    def stamped(self, prefix: str = "") -> Iterator[tuple[str, int, str]]:
        """As `walk`; stamps are ETags (see `Objects.stamped`)."""
        folder = f"{self._prefix}{prefix}/" if prefix else self._prefix
        cut = len(self._prefix)
        for key, size, stamp in self._pages(folder):
            yield key[cut:], size, stamp

    def _pages(self, folder: str) -> Iterator[Entry]:
        driver, after = self.driver, ""
        while True:
            page = self._ask("list", folder, lambda after=after: driver.list_after(folder, after))  # type: ignore[misc]
            yield from (entry for entry in page if not entry.key.endswith("/"))
            if len(page) < PAGE:
                return
            after = page[-1].key

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names in a folder."""
        folder = f"{self._prefix}{prefix}/" if prefix else self._prefix
        folders, names = self._ask("list", prefix, lambda: self.driver.list_dir(folder))
        return sorted(filter(None, folders)), sorted(filter(None, names))

    # -- writing

    def check_writable(self) -> None:
        """Refuse a protocol without exclusive creates."""
        if not self.driver.exclusive:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(
            f"{self.url} can only be read: its protocol has no exclusive create, and two writers could overwrite each"
            " other's history"
        )

    def open_stage(self, prefix: str, valid: Callable[[], bool]) -> None:
        """Remember until when a writer may put (see `Objects.open_stage`)."""
        self._stages[prefix] = valid

    def close_stage(self, prefix: str) -> None:
        """Forget a stage: not before, for who has lost the right to write must still be refused."""
        super().close_stage(prefix)
        self._stages.pop(prefix, None)

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Put an object (see `Objects.put`); a writer that has stalled is refused at the last moment."""
        self.check_writable()
        name, driver, seconds = self._prefix + key, self.driver, self._seconds(data)
        valid = self._stages.get(stage)

        def once() -> bool:
            if valid is not None and not valid():
                raise SealedError(f"the right to write {key} has run out")
            return driver.write(name, data, seconds)

        self._ask("put", key, once, patience=seconds)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object under a condition of the store's (see `Objects.create`)."""
        self.check_writable()
        name, driver, seconds = self._prefix + key, self.driver, self._seconds(data)
        claim, tries = secrets.token_hex(8), 0

        def once() -> bool:
            nonlocal tries
            tries += 1
            return driver.write(name, data, seconds, claim=claim)

        won = self._ask("create", key, once)
        # An earlier attempt, whose answer was lost, makes a winner look like a loser.
        return won or (tries > 1 and not driver.claims and self.get(key) == data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.check_writable()
        self._ask("delete", key, lambda: self.driver.remove([self._prefix + key]))

    def delete_tree(self, prefix: str) -> None:
        """Delete every object below a folder, a page at a time."""
        self.check_writable()
        folder = f"{self._prefix}{prefix}/" if prefix else self._prefix
        batch: list[str] = []
        for entry in [*self._pages(folder)]:
            batch.append(entry.key)
            if len(batch) == PAGE:
                self._remove(batch)
                batch = []
        self._remove(batch)

    def _remove(self, keys: list[str]) -> None:
        if keys:
            self._ask("delete", keys[0], lambda: self.driver.remove(keys))

    def move(self, source: str, target: str) -> None:
        """Copy an object and delete the old one."""
        self._copy(source, target)
        self.delete(source)

    def copy(self, source: str, target: str, *, stage: str = "tmp") -> None:
        """Let the store copy an object (see `Objects.copy`); a writer that has stalled is refused, as in `put`."""
        valid = self._stages.get(stage)
        if valid is not None and not valid():
            raise SealedError(f"the right to write {target} has run out")
        self._copy(source, target)

    def rename_tree(self, source: str, target: str) -> None:
        """Copy every object below a folder, then delete the old ones."""
        keys = [key for key, _ in self.walk(source)]
        self._each(lambda key: self._copy(key, target + key[len(source) :]), keys)
        self.delete_tree(source)

    def _copy(self, source: str, target: str) -> None:
        self.check_writable()
        old, new, driver = self._prefix + source, self._prefix + target, self.driver
        if not self._ask("copy", source, lambda: driver.copy(old, new, PUT_SECONDS)):
            raise StorageError(f"could not copy {source}: it is missing")

    def _each(self, work: Callable[[str], None], keys: Iterable[str]) -> None:
        with ThreadPoolExecutor(self.concurrency) as pool:
            list(pool.map(work, keys))

    # -- letting others read and write

    def signed_reads(self, keys: Sequence[str]) -> list[str] | None:
        """URLs of objects (see `Objects.signed_reads`)."""
        return self._ask("sign", keys[0], lambda: self.driver.sign_reads([self._prefix + k for k in keys], URL_SECONDS))

    def signed_writes(self, objects: Sequence[tuple[str, str]]) -> list[tuple[str, dict[str, str]]] | None:
        """URLs for objects (see `Objects.signed_writes`); whether the store checks what it gets is tried once."""
        if self._checks is None:
            key = f"{self._prefix}tmp/{secrets.token_hex(16)}"
            self._checks = self._ask("put", key, lambda: self.driver.refuses_others(key))
        if not self._checks:
            return None
        named = [(self._prefix + key, digest) for key, digest in objects]
        return self._ask("sign", objects[0][0], lambda: self.driver.sign_writes(named, URL_SECONDS))

    def known_sha256(self, key: str) -> str | None:
        """SHA-256 by the store (see `Objects.known_sha256`)."""
        return self._ask("size", key, lambda: self.driver.sha256(self._prefix + key))

    # -- parts

    @staticmethod
    def _seconds(data: bytes) -> float:
        return PUT_SECONDS + max(0, len(data) - (8 << 20)) / SLOWEST_BYTES

    def _ask(self, verb: str, key: str, once: Callable[[], T], *, patience: float = PATIENCE_SECONDS) -> T:
        """Send a request, again and again while its answer is lost."""
        end = time.monotonic() + patience
        for attempt in range(ATTEMPTS):
            with self._lock:
                self.requests[verb] += 1
            try:
                return once()
            except TransientError as e:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
                if attempt + 1 == ATTEMPTS or time.monotonic() + pause > end:
                    raise StorageError(f"could not {verb} {self.url}/{key}: {e}") from e
                time.sleep(pause)
        raise AssertionError("unreachable")


def _driver(protocol: str, bucket: str) -> Driver:
    """The best way to a bucket; loaded only now, for the clients are large and most repos lie on files."""
    if protocol != "s3":
        driver: Driver = importlib.import_module("vzarr.overlay.objects.drivers.generic").Generic(protocol, bucket)
    elif importlib.util.find_spec("obstore") is not None:
        driver = importlib.import_module("vzarr.overlay.objects.drivers.fast").FastS3(bucket, PUT_SECONDS)
    else:
        driver = importlib.import_module("vzarr.overlay.objects.drivers.s3").S3(bucket)
    return driver
