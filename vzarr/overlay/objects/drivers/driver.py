"""What `RemoteObjects` asks of a way to talk to an object store: single requests, tried once, that end in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """An object as a listing shows it; the stamp is "" where the store tells none."""

    key: str
    size: int
    stamp: str = ""


PAGE = 1000
"""Most keys of one answer to a listing, and of one request to delete."""


class TransientError(Exception):
    """A request had no answer, or was told to come again: what it asked for may have happened or not."""


class Driver(ABC):
    """Requests to one bucket; keys count from its top.

    Failures that another attempt may overcome are `TransientError`, all others `StorageError`.  A method sends one
    request and tries once; a listing may need several.
    """

    exclusive = True
    """Whether the protocol has a condition under which exactly one of several creates succeeds."""
    claims = True
    """Whether `write` recognises its own claim; otherwise who asked again has to compare the bytes."""

    @abstractmethod
    def read(self, key: str, start: int = 0, stop: int | None = None) -> tuple[bytes | memoryview, int] | None:
        """Bytes ``start <= i < stop`` of an object and the size of the whole; None when it is absent.

        Parameters
        ----------
        start
            First byte; negative counts from the end, and then `stop` is None.
        stop
            End, above `start`; what lies beyond the object is left out.
        """

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Size of an object; None when it is absent."""

    @abstractmethod
    def write(self, key: str, data: bytes, seconds: float, *, claim: str = "") -> bool:
        """Put an object whole within a time.

        Parameters
        ----------
        claim
            Given, the object must be new, or have been made under the same claim by a request whose answer got lost.

        Returns
        -------
        bool
            False if it is not new.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> None:
        """Delete at most `PAGE` objects, whether they are there or not."""

    @abstractmethod
    def copy(self, source: str, target: str, seconds: float) -> bool:
        """Copy an object within the bucket; False if it is absent."""

    @abstractmethod
    def list_after(self, prefix: str, after: str) -> list[Entry]:
        """The first objects, `PAGE` at most, whose keys begin with `prefix` and lie after `after`, in order of keys."""

    @abstractmethod
    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names between `prefix` and the next slash: of folders, and of objects."""

    def sign_reads(self, keys: Sequence[str], seconds: int) -> list[str] | None:
        """URLs by which objects can be read; None where nothing can be signed."""
        return None

    def sign_writes(self, objects: Sequence[tuple[str, str]], seconds: int) -> list[tuple[str, dict[str, str]]] | None:
        """URLs by which new objects with these SHA-256 can be written, and headers; None where nothing is signed."""
        return None

    def refuses_others(self, key: str) -> bool:
        """Whether the store refuses bytes that have not the SHA-256 that was said; tried at a key that is free."""
        return False

    def sha256(self, key: str) -> str | None:
        """SHA-256 of an object that the store computed when it was written, or None."""
        return None
