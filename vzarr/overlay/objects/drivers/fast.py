"""The fast lane to S3: whole objects and ranges through obstore, where it is installed; all else goes through s3fs.

Address, region and credentials are those that s3fs found, so that both always mean the same bucket.  What obstore
cannot do, or cannot explain, is asked again through s3fs; if that knows better, the lane is left for good.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from vzarr.overlay.objects.drivers import systems
from vzarr.overlay.objects.drivers.driver import TransientError
from vzarr.overlay.objects.drivers.s3 import READ_SECONDS, S3

_LOST = ("error sending request", "timed out", "connection", "incomplete", "error decoding response")
_CREDENTIAL_SECONDS = 300
LARGEST = 32 << 20
"""Larger objects need more time than the lane gives to any."""

_forked = False
"""Whether this process inherited a runtime of obstore's, which does not outlive a fork."""


class FastS3(S3):
    """Requests to a bucket of S3, most of them through obstore."""

    def __init__(self, bucket: str, write_seconds: float) -> None:
        super().__init__(bucket)
        self._seconds = write_seconds
        self._reader: Any = None
        self._writer: Any = None
        self._usable = not _forked

    def read(self, key: str, start: int = 0, stop: int | None = None) -> tuple[bytes | memoryview, int] | None:
        """See `Driver.read`."""
        if not self._ready(key):
            return super().read(key, start, stop)
        options: Any = {}
        if start < 0:
            options = {"range": {"suffix": -start}}
        elif stop is not None:
            options = {"range": (start, stop)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            found = obstore.get(self._reader, key, options=options)
            return memoryview(found.bytes()), found.meta["size"]
        except FileNotFoundError as e:
            if "NoSuchKey" in str(e):
                return None
            return super().read(key, start, stop)
        except (BaseError, OSError, ValueError) as e:
            _raise_if_lost(e)
            known = super().read(key, start, stop)
            self._usable = "416" in str(e)
            return known

    def write(self, key: str, data: bytes, seconds: float, *, claim: str = "") -> bool:
        """See `Driver.write`."""
        if claim or len(data) > LARGEST or not self._ready(key):
            return super().write(key, data, seconds, claim=claim)
        try:
            obstore.put(self._writer, key, data, use_multipart=False)
        except (BaseError, OSError, ValueError) as e:
            _raise_if_lost(e)
            super().write(key, data, seconds)
            self._usable = False
        return True

    def _ready(self, key: str) -> bool:
        """Whether the lane may be taken to a key."""
        if not self._usable or not key.isascii() or "//" in key or "%" in key:
            return False
        if self._reader is None:
            self._reader, self._writer = self._store(READ_SECONDS), self._store(self._seconds)
        return True

    def _store(self, seconds: float) -> S3Store:
        system = self.system
        client = systems.run(system.set_session(), READ_SECONDS)
        endpoint, region = client.meta.endpoint_url, client.meta.region_name
        where: dict[str, Any] = {} if endpoint.endswith(".amazonaws.com") else {"endpoint": endpoint}
        who: dict[str, Any] = (
            {"skip_signature": True} if system.anon else {"credential_provider": lambda: _credentials(client)}
        )
        return S3Store(
            self.bucket,
            region=region or "us-east-1",
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": timedelta(seconds=seconds),
                "connect_timeout": timedelta(seconds=systems.CONNECT_SECONDS),
            },
            retry_config={"max_retries": 0},
            **where,
            **who,
        )

    def _renew(self) -> None:
        super()._renew()
        self._reader = self._writer = None


def _credentials(client: Any) -> Any:
    """What s3fs signs with, asked for again from time to time: it may change."""
    found = client._request_signer._credentials
    if found is None:
        raise TransientError("there are no credentials")
    frozen = systems.run(found.get_frozen_credentials(), READ_SECONDS)
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIAL_SECONDS),
    }


def _raise_if_lost(error: Exception) -> None:
    text = str(error)
    if "status code" not in text and any(word in text for word in _LOST):
        raise TransientError(text.partition("\n")[0]) from error


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
