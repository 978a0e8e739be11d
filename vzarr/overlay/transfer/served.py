"""A repo that a vzarr server serves, as one end of a transfer: its side of ``/api/transfer`` (docs/transfer.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from vzarr.errors import ForbiddenError, FormatError, InvalidInputError, NotFoundError, StorageError
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import exchange
from vzarr.overlay.transfer.client import Client, UnknownRequestError
from vzarr.overlay.transfer.copying import Row
from vzarr.overlay.transfer.direct import Way, Ways
from vzarr.overlay.transfer.http import Host
from vzarr.overlay.transfer.place import NOBODY, NOTHING, WHOLE, Place
from vzarr.overlay.transfer.plans import Arrival
from vzarr.overlay.transfer.shared import Shared
from vzarr.overlay.transfer.stripes import Stripes


def is_served(url: str) -> bool:
    """Whether a URL is that of a server."""
    return url.startswith(("http://", "https://"))


def split(url: str) -> tuple[str, str, str]:
    """Scheme, address and repo, "" for none, that the URL of a server's repo names.

    Raises
    ------
    InvalidInputError
        If it is none; what it says beyond that may be a secret, and is not repeated.
    """
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as e:
        raise InvalidInputError(f"the URL of a server cannot be read: {e}") from e
    ref = parts.path.strip("/")
    if parts.query or parts.fragment or parts.username is not None:
        raise InvalidInputError(
            f"a repo of a server is named {parts.scheme}://HOST:PORT/ROOT and nothing more: the token is given apart"
        )
    if not good or "/" in ref:
        raise InvalidInputError(f"a repo of a server is named http://HOST:PORT or http://HOST:PORT/ROOT, not {url}")
    return parts.scheme, parts.netloc, ref


class ServedPlace(Place):
    """A repo of a vzarr server.

    Parameters
    ----------
    url
        ``http://HOST:PORT/ROOT``, where ROOT may be the beginning of an id; or ``http://HOST:PORT``, which is the
        server's only repo, or the one that the other end of the transfer is a clone of.
    token
        The server's administrator token; reading needs none.

    Raises
    ------
    InvalidInputError
        If the URL is none of these.

    Notes
    -----
    Where the server's store can sign URLs, objects come and go by these (see `direct`); otherwise by the server itself.
    """

    at_once = 500

    def __init__(self, url: str, token: str = "") -> None:
        scheme, netloc, self._ref = split(url)
        self.url, self._is_mirror = url, False
        secure = scheme == "https"
        self.client = Client(Host(netloc, secure=secure), token)
        self._reads = Ways(self._ways_to_read, lambda row: row.origin or row.key, secure=secure)
        self._writes = Ways(self._ways_to_write, lambda row: row.key, secure=secure)

    @property
    def path(self) -> str:
        """Beginning of the repo's paths, as `Client.ask` takes them."""
        return f"/{quote(self._ref, safe='')}"

    def choose(self, root: str) -> None:
        """See `Place.choose`."""
        if not self._ref:
            self._ref = root

    def is_named(self) -> bool:
        """Whether a repo was named, or the server has just one, which is meant then.

        Raises
        ------
        InvalidInputError
            If it has several.
        """
        if not self._ref:
            roots = self.client.item(list, "repos", "GET", "")
            if len(roots) > 1:
                raise InvalidInputError(f"{self.url} serves {len(roots)} repos, name one: {', '.join(map(str, roots))}")
            self._ref = str(roots[0]) if roots else ""
        return bool(self._ref)

    def state(self) -> State:
        """See `Place.state`."""
        if not self.is_named():
            return State()
        try:
            found = self.client.json("GET", self.path)
        except NotFoundError:
            return State()
        state = exchange.state_from_json(found)
        self._is_mirror = found.get("mirror") is True
        return state

    @property
    def is_mirror(self) -> bool:
        """See `Place.is_mirror`."""
        return self._is_mirror

    def get(self, key: str) -> bytes | None:
        """See `Place.get`."""
        found = self._reads.get(key)
        if found is not None:
            return found
        return self.client.get(self._object(key))

    def size(self, key: str) -> int | None:
        """See `Place.size`."""
        return self.client.size(self._object(key))

    def missing(self, key: str) -> StorageError:
        """See `Place.missing`; the server knows what is no loss, for it left the object out."""
        try:
            self.client.ask("GET", self._object(key))
        except NotFoundError as e:
            return StorageError(str(e))
        return super().missing(key)  # it was absent a moment ago

    def limits(self) -> Limits:
        """See `Place.limits`."""
        try:
            return exchange.limits_from_json(self.client.json("GET", f"{self.path}/partial"))
        except (NotFoundError, UnknownRequestError):
            return WHOLE  # there is no repo yet, or the server's release is one without partial clones

    def lacking(self, rows: Sequence[Row]) -> Sequence[Row]:
        """See `Place.lacking`."""
        return self.client.lacking(self.path, rows)

    def will_read(self, rows: Sequence[Row]) -> None:
        """See `Place.will_read`."""
        self._reads.expect(rows)

    def will_write(self, rows: Sequence[Row]) -> None:
        """See `Place.will_write`."""
        self._writes.expect(rows)

    def put(self, key: str, data: bytes) -> None:
        """See `Place.put`."""
        if not self._writes.put(key, data):
            self.client.ask("PUT", f"{self._object(key)}?sha256={sha256(data).hexdigest()}", data)

    def stripes(self) -> Stripes:
        """See `Place.stripes`."""
        try:
            return Stripes.from_json(self.client.json("GET", f"{self.path}/stripes"))
        except (NotFoundError, UnknownRequestError):
            return NOBODY  # there is no repo yet, or the server's release is an earlier one

    def learn(self, theirs: Stripes) -> Stripes:
        """See `Place.learn`; only who has the server's token can tell it anything."""
        if theirs.known and self.client.has_token:
            try:
                told = orjson.dumps(theirs.to_json())
                return Stripes.from_json(self.client.json("POST", f"{self.path}/stripes", told))
            except UnknownRequestError:
                return NOBODY  # of an earlier release
            except ForbiddenError:
                pass  # a wrong token does no harm to who reads; who writes is told soon enough
        return self.stripes()

    def begin(
        self, root: str, keys: str | None = None, avoid: Stripes = NOBODY, limits: Limits = WHOLE,
        durability: str | None = None,
    ) -> None:  # fmt: skip
        """See `Place.begin`; keys and durability are the server's to say, and `avoid` is told it later, by `learn`."""
        if keys is not None:
            raise InvalidInputError(f"{self.url} is a server's, which says itself where the keys lie: leave them out")
        if durability is not None:
            raise InvalidInputError(f"{self.url} is a server's, which says itself what repos outlast: leave that out")
        self.name(root)
        if not limits:
            self.client.ask("POST", self.path)
            return
        try:
            self.client.ask("POST", f"{self.path}/partial", orjson.dumps(exchange.limits_to_json(limits)))
        except UnknownRequestError as e:
            raise InvalidInputError(
                f"{self.client.address} is no vzarr server, or of an earlier release, which takes whole repos only:"
                f" clone into it without {limits}"
            ) from e

    def name(self, root: str) -> None:
        """Be the repo with that root, whether or not there is one yet.

        Raises
        ------
        InvalidInputError
            If another one was named.
        """
        if not root.startswith(self._ref):
            raise InvalidInputError(f"on a server a repo is named by its root: {self.client.address}/{root}")
        self._ref = root

    def wanted(self, arrival: Arrival) -> Collection[str]:
        """See `Place.wanted`; the server says it, by the metadata that were sent to it."""
        body = orjson.dumps(exchange.arrival_to_json(arrival))
        return frozenset(exchange.wanted_from_json(self.client.json("POST", f"{self.path}/wanted", body)))

    def shared(self) -> Shared:
        """See `Place.shared`."""
        try:
            return exchange.shared_from_json(self.client.json("GET", f"{self.path}/unversioned"))
        except NotFoundError:
            return Shared()

    def publish(self, arrival: Arrival, brought: Brought = NOTHING) -> Sequence[str]:
        """See `Place.publish`."""
        if not arrival(self.state()) and not brought.instances and not self.limits():
            return ()  # a partial clone may have got chunks of versions that it knew
        body = {**exchange.arrival_to_json(arrival), "unversioned": brought.to_json()}
        return list(map(str, self.client.item(list, "kept", "POST", f"{self.path}/publish", orjson.dumps(body))))

    def close(self) -> None:
        """Let go of all connections."""
        for each in (self.client, self._reads, self._writes):
            each.close()

    def _ways_to_read(self, rows: Sequence[Row]) -> Mapping[str, Way] | None:
        return self._ways("GET", [row.origin or row.key for row in rows])

    def _ways_to_write(self, rows: Sequence[Row]) -> Mapping[str, Way] | None:
        return self._ways("POST", [row[:3] for row in rows])

    def _ways(self, method: str, asked: Sequence[Any]) -> Mapping[str, Way] | None:
        try:
            answer = self.client.json(method, f"{self.path}/urls", orjson.dumps(asked))
        except FormatError:
            return None  # a server of an earlier release
        return exchange.ways_from_json(answer)

    def _object(self, key: str) -> str:
        return f"{self.path}/objects/{quote(key)}"
