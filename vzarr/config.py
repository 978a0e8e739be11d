"""How a server is run: one frozen value, built once by the CLI; the only place that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vzarr.errors import InvalidInputError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PREFIX = "VZARR_"


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Parameters
    ----------
    host, port
        Where it listens.
    admin_token
        Secret that gives a request an administrator's rights (``?admintoken=``); "" gives them to nobody.
    note
        Text of ``/api/server/note``.
    readonly
        Accept GET and HEAD only, except from administrators.
    cors_origins
        Origins of web pages that may change data; every page may read.
    allowed_hosts
        Names in a ``Host`` header that are accepted besides those of the machine itself while the server
        listens on a loopback address: the outer names of a proxy in front of it.
    cache_mb
        Mebibytes of blocks of labels, decoded and encoded, and of chunks of images that are kept in memory.
    remotes
        Folders and URLs below which jobs may push and from below which they may pull; by default administrators may
        name any.
    kafka_servers
        ``HOST:PORT`` of Kafka brokers to which mutations, changes of history and requests are published; none by
        default.
    kafka_topic_prefix
        What the topics of repos and instances begin with.
    kafka_topic_suffixes
        ``DATA-UUID:SUFFIX``, which the topics of these instances end with.
    kafka_activity_topic
        Topic of the requests; by default ``dvidactivity-HOST``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    admin_token: str = ""
    note: str = ""
    readonly: bool = False
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    cache_mb: int = 256
    remotes: tuple[str, ...] = ()
    kafka_servers: tuple[str, ...] = ()
    kafka_topic_prefix: str = ""
    kafka_topic_suffixes: tuple[str, ...] = ()
    kafka_activity_topic: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from ``VZARR_HOST``, ``VZARR_ADMIN_TOKEN`` and so on; what is `given` and not None wins.

        Raises
        ------
        InvalidInputError
            If a variable has a value that its setting cannot have.
        """
        env = os.environ if environment is None else environment
        found = {
            f.name: _parse(f.name, env[_PREFIX + f.name.upper()], f.default)
            for f in fields(cls)
            if _PREFIX + f.name.upper() in env
        }
        return replace(cls(), **{**found, **_not_none(given)})


def _not_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in {"1", "true", "on", "0", "false", "off", ""}:
            raise InvalidInputError(f"{_PREFIX}{name.upper()} should be true or false, not {text!r}")
        return text.lower() in {"1", "true", "on"}
    if isinstance(default, int):
        if not text.isdecimal():
            raise InvalidInputError(f"{_PREFIX}{name.upper()} should be a number, not {text!r}")
        return int(text)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
