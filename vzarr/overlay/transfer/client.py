"""Requests to ``/api/transfer`` of a vzarr server, with what its errors stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from http.client import HTTPResponse
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson

from vzarr import errors
from vzarr.errors import FormatError, InvalidInputError, NotFoundError, StorageError, VzarrError
from vzarr.overlay.transfer.copying import Row
from vzarr.overlay.transfer.http import GONE, Host

T = TypeVar("T")
KIND = "Vzarr-Error"
"""Header of an answer that is an error: which of `vzarr.errors` it is."""
SHA256 = "Vzarr-Sha256"
"""Header of an object that may change, and so has no checksum elsewhere."""


class UnknownRequestError(FormatError):
    """Who answers knows no such request: no vzarr server, or of a release that had none of the kind."""


class Client:
    """What a server answers to transfers.  Every request may be sent again, for none does more the second time.

    Parameters
    ----------
    host
        The server.
    token
        The server's administrator token; "" for none.

    Raises
    ------
    InvalidInputError
        If that cannot be sent.
    """

    def __init__(self, host: Host, token: str = "") -> None:
        if not token.isprintable():  # which is not shown: it is a secret but for a line break
            raise InvalidInputError("a token has no line breaks, nor other characters that are not printed")
        self._host, self._token = host, token
        self._headers: Mapping[str, str | bytes] = {"Authorization": f"Bearer {token}".encode()} if token else {}

    @property
    def secure(self) -> bool:
        """Whether the server speaks HTTPS."""
        return self._host.is_secure

    @property
    def address(self) -> str:
        """Beginning of the server's URLs."""
        return self._host.address

    @property
    def has_token(self) -> bool:
        """Whether requests are an administrator's, if the token is right."""
        return bool(self._headers)

    def patient(self, seconds: float) -> Client:
        """Another client of the server, which waits longer."""
        return Client(self._host.patient(seconds), self._token)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
        """Answer and its content.

        Parameters
        ----------
        path
            What follows ``/api/transfer``.

        Raises
        ------
        StorageError
            If there is no answer.
        VzarrError
            The error that the server raised.
        """
        try:
            answer, content = self._host.ask(method, f"/api/transfer{path}", body, self._headers)
        except GONE as e:
            raise StorageError(
                f"{self.address} cannot be reached, or went away ({str(e) or type(e).__name__});"
                " the same command goes on where this one stopped"
            ) from e
        if answer.status >= 300:
            raise self._error(answer, content, path)
        return answer, content

    def json(self, method: str, path: str, body: bytes | None = None) -> Any:
        """As `ask`, of an answer that is JSON.

        Raises
        ------
        FormatError
            Also if it is none.
        """
        content = self.ask(method, path, body)[1]
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as e:
            raise FormatError(f"{self.address} answered what is no JSON: is it a vzarr server?") from e

    def item(self, kind: type[T], name: str, method: str, path: str, body: bytes | None = None) -> T:
        """One item of an answer that is a JSON object.

        Raises
        ------
        FormatError
            Also if there is none of that kind.
        """
        found = self.json(method, path, body)
        value = found.get(name) if isinstance(found, dict) else None
        if not isinstance(value, kind):
            raise FormatError(f"{self.address} answered {method} {unquote(path)} without {name!r}")
        return value

    def get(self, path: str) -> bytes | None:
        """An object, held against its checksum where one comes with it; None when it is absent.

        Raises
        ------
        StorageError
            Also if it did not come as it was sent.
        """
        try:
            answer, data = self.ask("GET", path)
        except NotFoundError:
            return None
        digest = answer.headers.get(SHA256)
        if digest is not None and sha256(data).hexdigest() != digest:
            raise StorageError(f"{unquote(path)} did not come as it was sent: its checksum differs")
        return data

    def size(self, path: str) -> int | None:
        """Size of an object, or None when it is absent.

        Raises
        ------
        FormatError
            Also if the answer does not say it.
        """
        try:
            answer, _ = self.ask("HEAD", path)
        except NotFoundError:
            return None
        said = answer.headers.get("Content-Length", "")
        if not said.isdecimal():
            raise FormatError(f"{self.address} answered HEAD {unquote(path)} without a size")
        return int(said)

    def lacking(self, path: str, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of some objects that a repo, or a mirror, with this path does not have whole and right.

        Raises
        ------
        FormatError
            Also if the server names others.
        """
        known = {row.key: row for row in rows}
        asked = orjson.dumps([row[:3] for row in rows])
        found = self.item(list, "keys", "POST", f"{path}/lacking", asked)
        strange = next((key for key in found if not isinstance(key, str) or key not in known), None)
        if strange is not None:
            raise FormatError(f"{self.address} lacks {str(strange)[:80]!r}, which it was not asked for")
        return [known[key] for key in found]

    def close(self) -> None:
        """Let go of all connections."""
        self._host.close()

    def _error(self, answer: HTTPResponse, content: bytes, path: str) -> VzarrError:
        """What an answer stands for, as the error that the server raised."""
        text = content[:2000].decode(errors="replace").strip()
        where = f" ({unquote(f'/api/transfer{path}'.partition('?')[0])})."  # of no use to who asked for a transfer
        text = f"{self.address}: {text.removesuffix(where)}" if text.endswith(where) else text
        kind = getattr(errors, answer.headers.get(KIND, ""), None)
        if isinstance(kind, type) and issubclass(kind, VzarrError):
            return kind(text or f"{self.address} answered {answer.status}")
        if answer.status in {404, 405, 501}:
            what = "mirrors" if "/mirror/" in path else "transfers"
            return UnknownRequestError(
                f"{self.address} takes part in no {what}: no vzarr server, or of an older release"
            )
        refused = answer.status < 500
        return (InvalidInputError if refused else StorageError)(f"{self.address} answered {answer.status}: {text}")
