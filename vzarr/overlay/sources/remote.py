"""Sources on web servers and object stores, read through fsspec's file systems without any cache of theirs.

One request answers what a chunk's bytes, size and stamp are: HTTP and S3 are asked directly over the connections that
fsspec keeps; of other protocols the size and stamp are one request more.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.objects.drivers import systems
from vzarr.overlay.sources.files import Answer, Files

_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
_NO_SUCH = {404, 410}
_BEYOND = 416
_OK, _PART = 200, 206
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_SECONDS, _LIST_SECONDS = 60.0, 3600.0
_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each repetition of a request that failed in a way that may pass."""


class RemoteFiles(Files):
    """Objects below a URL of any protocol that fsspec knows.

    Parameters
    ----------
    url
        Where they lie.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/"))
        self._protocol = self.url.partition("://")[0]
        self.root = str(self.fs._strip_protocol(self.url)).rstrip("/")

    @property
    def fs(self) -> Any:
        """The file system in this process, for none outlives a fork."""
        return systems.open_system(self._protocol)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Answer | None:
        """Read a range of an object (see `Files.read`)."""
        for pause in (*_PAUSES, None):
            try:
                return self._read(self._name(key), offset, length)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
            except Exception as e:
                # Whatever a protocol's client raises: only what it calls absent is absent.
                if pause is None or isinstance(e, PermissionError | StorageError):
                    code = getattr(e, "errno", None) or errno.EIO
                    raise StorageError(code, f"could not read {self.place(key)}: {type(e).__name__}: {e}") from e
            time.sleep(pause)
        raise AssertionError

    def _name(self, key: str) -> str:
        return f"{self.root}/{key}" if key else self.root

    def _read(self, path: str, offset: int, length: int | None) -> Answer:
        info = self.fs.info(path)
        if info["type"] == "directory":
            raise IsADirectoryError(path)
        size = int(info["size"])
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        end = size if length is None else min(size, start + max(0, length))
        data = self.fs.cat_file(path, start=start, end=end) if end > start else b""
        stamp = next((f"{name.lower()}:{info[name]}" for name in _STAMPS if info.get(name)), "")
        return Answer(data, size, stamp.replace(" ", "_"))

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a folder, as the store lists them."""
        base = f"{self.root}/{prefix}" if prefix else self.root
        try:
            found = self.fs.find(base, detail=True)
        except FileNotFoundError:
            return
        except Exception as e:
            raise StorageError(errno.EIO, f"could not list {self.place(prefix)}: {type(e).__name__}: {e}") from e
        yield from sorted((path[len(self.root) + 1 :], int(info["size"])) for path, info in found.items())


class HttpFiles(RemoteFiles):
    """Objects of a web server."""

    def place(self, key: str) -> str:
        """URL of a key, as a request spells it."""
        return super().place(quote(key, safe="/:@!$&'()*+,;="))

    def _name(self, key: str) -> str:
        return self.place(key)

    def _read(self, path: str, offset: int, length: int | None) -> Answer:
        return systems.run(self._get(path, offset, length), _SECONDS)

    async def _get(self, path: str, offset: int, length: int | None) -> Answer:
        session = await self.fs.set_session()
        headers = _range_header(offset, length)
        if headers:
            headers["Accept-Encoding"] = "identity"
        async with session.get(self.fs.encode_url(path), headers=headers) as found:
            if found.status in _NO_SUCH:
                raise FileNotFoundError(path)
            stamp = _stamp(found.headers.get("ETag"), found.headers.get("Last-Modified"))
            total = _RANGE.fullmatch(found.headers.get("Content-Range", ""))
            if found.status == _BEYOND and total:
                return Answer(b"", int(total[1]), stamp)
            if found.status == _PART and total:
                return Answer((await found.read())[:length], int(total[1]), stamp)
            if found.status != _OK:
                kind = OSError if found.status in _AGAIN else PermissionError
                raise kind(errno.EIO, f"the answer was {found.status} {found.reason}")
            data = await found.read()
            return Answer(_cut(data, offset, length), len(data), stamp)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Refuse: web servers do not list."""
        raise UnsupportedError(f"{self.url}: a web server does not list what it has")


class S3Files(RemoteFiles):
    """Objects of an S3 bucket."""

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a folder, as the bucket lists them."""
        try:
            found = systems.run(self.fs._find(self._name(prefix), detail=True), _LIST_SECONDS)
        except FileNotFoundError:
            return
        except Exception as e:
            raise StorageError(errno.EIO, f"could not list {self.place(prefix)}: {type(e).__name__}: {e}") from e
        yield from sorted((path[len(self.root) + 1 :], int(info["size"])) for path, info in found.items())

    def _read(self, path: str, offset: int, length: int | None) -> Answer:
        bucket, _, key = path.partition("/")
        return systems.run(self._get(bucket, key, offset, length), _SECONDS)

    async def _get(self, bucket: str, key: str, offset: int, length: int | None) -> Answer:
        headers = _range_header(offset, length)
        try:
            found: dict[str, Any] = await self.fs._call_s3("get_object", Bucket=bucket, Key=key, **headers)
        except OSError as e:
            if isinstance(e, FileNotFoundError) or "InvalidRange" not in str(e.__cause__ or e):
                raise
            whole = await self.fs._call_s3("head_object", Bucket=bucket, Key=key)
            return Answer(b"", int(whole["ContentLength"]), _stamp(whole.get("ETag"), None))
        async with found["Body"] as body:
            data = await body.read()
        total = _RANGE.fullmatch(found.get("ContentRange", ""))
        return Answer(data[:length], int(total[1]) if total else len(data), _stamp(found.get("ETag"), None))


def open_remote(url: str, scheme: str) -> RemoteFiles:
    """Files below a URL by its protocol.

    Raises
    ------
    UnsupportedError
        If nothing installed reads it.
    InvalidInputError
        If it has a query, which no key below it could keep.
    """
    if scheme in ("http", "https"):
        if "?" in url or "#" in url:
            raise InvalidInputError(f"a source's URL has no query and no fragment: {url}")
        return HttpFiles(url)
    return S3Files(url) if scheme in ("s3", "s3a") else RemoteFiles(url)


def _range_header(offset: int, length: int | None) -> dict[str, str]:
    """Range of a request; of nothing the first byte, for its answer tells the size."""
    if offset < 0:
        return {"Range": f"bytes={offset}"}
    if length is None:
        return {"Range": f"bytes={offset}-"} if offset else {}
    return {"Range": f"bytes={offset}-{offset + max(1, length) - 1}"}


def _cut(data: bytes, offset: int, length: int | None) -> bytes:
    start = max(0, len(data) + offset) if offset < 0 else min(offset, len(data))
    return data[start : len(data) if length is None else start + max(0, length)]


def _stamp(etag: str | None, modified: str | None) -> str:
    text = f"etag:{etag}" if etag else f"modified:{modified}" if modified else ""
    return text.replace(" ", "_")
