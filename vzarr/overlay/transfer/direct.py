"""Ways past a server: URLs that it signs, by which objects come from its store and go there without passing through it.

A way is an offer, never a need: whatever is wrong with one, the server's own routes are taken instead.  What comes is
held against its checksum like everything else; what goes is bound to its checksum by the signature.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from vzarr.overlay.transfer.copying import Row
from vzarr.overlay.transfer.http import GONE, Host

AT_ONCE = 500
"""URLs that are asked for together."""
CONNECT_SECONDS = 20.0
PATIENCE = 3
"""After so many failures in a row no way is taken any more."""


class Way(NamedTuple):
    """A URL for one request, and headers that belong to it."""

    url: str
    headers: Mapping[str, str]


Ask = Callable[[Sequence[Row]], Mapping[str, Way] | None]
"""Gives ways to some objects, by key; None for who has none and will have none."""


class Ways:
    """Ways for reading, or for writing, asked for some at a time as they are needed.

    Parameters
    ----------
    ask
        Asks the server.
    key
        Gives an object's key at the server's end.
    secure
        Whether URLs must be of HTTPS: what a server says in private goes no other way.
    """

    def __init__(self, ask: Ask, key: Callable[[Row], str], *, secure: bool) -> None:
        self._ask, self._key, self._secure = ask, key, secure
        self._lock = threading.Lock()
        self._expected: list[Row] = []
        self._places: dict[str, int] = {}
        self._known: dict[str, Way] = {}
        self._hosts: dict[str, Host] = {}
        self._usable, self._failed = True, 0

    def expect(self, rows: Sequence[Row]) -> None:
        """Say which objects are about to be asked for, in about which order."""
        with self._lock:
            self._expected = list(rows)
            self._places = {self._key(row): n for n, row in enumerate(rows)}
            self._known.clear()

    def get(self, key: str) -> bytes | None:
        """Bytes of an object; None where they must be had otherwise."""
        way = self._find(key)
        return None if way is None else self._send("GET", way, None)

    def put(self, key: str, data: bytes) -> bool:
        """Write an object; False where it must be written otherwise."""
        way = self._find(key)
        return way is not None and self._send("PUT", way, data) is not None

    def close(self) -> None:
        """Let go of all connections."""
        for host in self._hosts.values():
            host.close()

    def _find(self, key: str) -> Way | None:
        with self._lock:
            at = self._places.pop(key, None)
            if not self._usable or self._failed >= PATIENCE or at is None:
                return None
            if key not in self._known:
                found = self._ask([row for row in self._expected[at : at + AT_ONCE] if self._is_left(row, key)])
                self._usable = found is not None
                self._known |= found or {}
            return self._known.pop(key, None)

    def _is_left(self, row: Row, key: str) -> bool:
        name = self._key(row)
        return name == key or (name in self._places and name not in self._known)

    def _send(self, method: str, way: Way, data: bytes | None) -> bytes | None:
        content = None
        try:
            parts = urlsplit(way.url)
            if parts.scheme == "https" or (parts.scheme == "http" and not self._secure):
                answer, content = self._host(parts.scheme, parts.netloc).ask(
                    method, f"{parts.path}?{parts.query}", data, way.headers
                )
                content = content if answer.status in (200, 201, 204) else None
        except (*GONE, ValueError):
            content = None  # no answer, or a way that is none
        # From here the store may be out of reach, or refuse what it is asked for: then it is soon left alone.
        self._failed = 0 if content is not None else self._failed + 1
        return content

    def _host(self, scheme: str, netloc: str) -> Host:
        with self._lock:
            address = f"{scheme}://{netloc}"
            if address not in self._hosts:
                self._hosts[address] = Host(netloc, secure=scheme == "https", seconds=CONNECT_SECONDS)
            return self._hosts[address]
