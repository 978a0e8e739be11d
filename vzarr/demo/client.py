"""A small client of DVID's HTTP API on one kept-alive connection: what the tour proofreads with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import VzarrError

Labels = NDArray[np.uint64]


class Client:
    """Talks to one server.

    Parameters
    ----------
    url
        ``http://HOST:PORT``.
    """

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """Send JSON, get bytes.

        Raises
        ------
        VzarrError
            The server answered with an error; the message has its text.
        """
        sent = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, sent)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise VzarrError(f"{method} {path}: {answer.status} {content.decode(errors='replace').strip()}")
        return content

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """Send JSON, get JSON; nothing counts as an empty object."""
        answer: dict[str, Any] = json.loads(self.request("POST", path, body) or b"{}")
        return answer


class Bodies:
    """The bodies of one labelmap at one version.

    Parameters
    ----------
    client
        Where it is served.
    version
        Id of the version.
    name
        Of the labelmap.
    """

    def __init__(self, client: Client, version: str, name: str) -> None:
        self._client = client
        self._base = f"/api/node/{version}/{name}"

    def merge(self, target: int, other: int) -> None:
        """Make `other` part of `target`."""
        self._client.post(f"{self._base}/merge", [target, other])

    def cleave(self, body: int, supervoxels: Iterable[int]) -> int:
        """Cut supervoxels off a body; gives the number of the body that they make."""
        made = self._client.post(f"{self._base}/cleave/{body}", list(supervoxels))
        return int(made["CleavedLabel"])

    def sizes(self, bodies: Labels) -> NDArray[np.int64]:
        """Voxels of bodies, 0 for one that there is not."""
        return np.array(json.loads(self._client.request("GET", f"{self._base}/sizes", bodies.tolist())), np.int64)

    def mapping(self, supervoxels: Labels) -> Labels:
        """Bodies of supervoxels."""
        answer = self._client.request("GET", f"{self._base}/mapping", supervoxels.tolist())
        return np.array(json.loads(answer), np.uint64)

    def runs(self, body: int) -> NDArray[np.int32]:
        """Sparse volume of a body: rows (x, y, z, length), in no set order (DVID's format ``rles``)."""
        content = self._client.request("GET", f"{self._base}/sparsevol/{body}")
        return np.frombuffer(content, "<i4", offset=12).reshape(-1, 4)
