"""A version as an fsspec file system, ``vzarr://``: complete and plain Zarr, one file per key.

::

    fsspec.get_mapper("vzarr://em/0", repo="file:///lab/repo", version="master")
    fsspec.get_mapper("vzarr://em/0::file:///lab/repo", version="3f8c:side")
    fsspec.get_mapper("vzarr://master@/em/0::file:///lab/repo")

A ref in the URL ends in ``@/``, which no branch, tag or id contains; it is looked for behind ``vzarr://`` only, so
that keys may hold any character.  A file system stands for one version for good: a branch that moves on is opened anew.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import PurePath
from typing import Any, ClassVar

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version

_WITH_REF = re.compile(r"(?:vzarr://)([^/]+)@(?:/|$)")


class VersionFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no type hints
    """The keys of one version as files; nothing is cached, for an open version changes under its readers.

    Parameters
    ----------
    repo
        URL of a repo, a `Repo`, or a `Version` (then `version` is not looked at).
    version
        A ref, as in ``repo[ref]``.
    fo, target_protocol
        The repo, as fsspec names it in chained URLs.
    target_options
        Not taken: repos need none.

    Raises
    ------
    NotFoundError, FormatError
        If the repo or version cannot be opened.
    SealedError
        On a write to a sealed version.

    Notes
    -----
    There are no empty folders: `mkdir` does nothing, and a folder is there as long as a key lies below it.
    """

    protocol = "vzarr"
    root_marker = "/"
    cachable = False  # a kept instance would go on showing where a branch once was
    blocksize: ClassVar[int] = 1 << 20

    def __init__(
        self,
        repo: str | os.PathLike[str] | Repo | Version | None = None,
        version: str = "master",
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if target_options:
            raise UnsupportedError(f"a repo takes no options, unlike {sorted(target_options)}")
        if repo is None and fo is None:
            raise InvalidInputError("name a repo: vzarr://PATH::file:///REPO, or the option repo=")
        self.version = _open(_target(fo, target_protocol) if repo is None else repo, version)
        self.store = self.version.store.with_read_only(False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.version,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionFileSystem) and self.version == other.version

    def __hash__(self) -> int:
        return hash(self.version)

    @property
    def fsid(self) -> str:
        """Name of what the file system shows."""
        return str(self.store)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(p) for p in path]
        text = path.as_posix() if isinstance(path, PurePath) else os.fspath(path)
        named = _WITH_REF.match(text)
        text = text[named.end() :] if named else text.removeprefix("vzarr://")
        text = text.strip("/")
        # With a slash in front, as in fsspec's memory file system: zarr 3.1 lists no other paths rightly.
        return f"/{text}" if text else ""

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        named = _WITH_REF.match(path)
        return {"version": named[1]} if named else {}

    # -- looking

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Name, size and type (``file`` or ``directory``) of a path.

        Raises
        ------
        FileNotFoundError
            If no key is there or lies below.
        """
        path = self._strip_protocol(path)
        found = self.store.read(path[1:], 0, 0)
        if found is not None:
            return {"name": path, "size": found[1], "type": "file"}
        if not path or self.store.names(path[1:]):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What lies directly below a folder, sorted; of a file, itself."""
        path = self._strip_protocol(path)
        names = [f"{path}/{n}" for n in self.store.names(path[1:])]
        if not names and path:
            names = [self.info(path)["name"]]
        return [self._entry(n) for n in names] if detail else names

    def ukey(self, path: str) -> str:
        """A name of a file's content: for sealed versions without reading it."""
        path = self._strip_protocol(path)
        content = f"{self.fsid}{path}".encode() if self.version.sealed else self.cat_file(path)
        return hashlib.sha256(content).hexdigest()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Bytes of a file, or of a range of it; negative positions count from the end."""
        path = self._strip_protocol(path)
        if start is None and end is None:
            return self._read(path)[0]
        if (start or 0) >= 0 and (end is None or end >= 0):
            return self._read(path, start or 0, None if end is None else max(0, end - (start or 0)))[0]
        size = self._read(path, 0, 0)[1]
        first, last, _ = slice(start, end).indices(size)
        return self._read(path, first, max(0, last - first))[0]

    # -- changing

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Set a file's bytes; in mode ``create`` only if there is none."""
        path = self._strip_protocol(path)
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        self.store.write(path[1:], bytes(value))

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; without `truncate` only where there is none."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        path = self._strip_protocol(path)
        self._read(path, 0, 0)
        self.store.delete_sync(path[1:])

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files and, if `recursive`, folders with all below them."""
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for found in self.expand_path(path):
            if self.isfile(found):
                self.store.delete_sync(found[1:])
            elif recursive:
                self.store.delete_below(found[1:])
            else:
                raise IsADirectoryError(found)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file; of a folder nothing, for it is there as soon as a key is."""
        path1 = self._strip_protocol(path1)
        if not self.isdir(path1):
            self.pipe_file(path2, self.cat_file(path1))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Nothing: folders come with their keys."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing, unless something is there that `exist_ok` does not allow."""
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)

    def rmdir(self, path: str) -> None:
        """Nothing: an empty folder is not there; one with keys is refused."""
        if self.store.names(self._strip_protocol(path)[1:]):
            raise OSError(f"{path} is not empty")

    # -- parts

    def _entry(self, path: str) -> dict[str, Any]:
        found = self.store.read(path[1:], 0, 0)
        return {"name": path, "size": found[1] if found else 0, "type": "file" if found else "directory"}

    def _read(self, path: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int]:
        found = self.store.read(path[1:], offset, length)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> VersionFile:
        path = self._strip_protocol(path)
        if "x" in mode and self.exists(path):
            raise FileExistsError(path)
        return VersionFile(self, path, mode, block_size or self.blocksize, **kwargs)


class VersionFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no type hints
    """One key, open: read by ranges, written whole when it is closed."""

    buffer: io.BytesIO

    def _initiate_upload(self) -> None:
        if "a" in self.mode and self.fs.exists(self.path):
            rest = self.buffer.getvalue()
            self.buffer = io.BytesIO(self.fs.cat_file(self.path) + rest)
            self.buffer.seek(0, io.SEEK_END)

    def _upload_chunk(self, final: bool = False) -> bool:
        """A key is set at once, so all is kept until the end."""
        if final:
            self._whole = self.buffer.getvalue()
            if self.autocommit:
                self.commit()
        return final

    def commit(self) -> None:
        """Set the key."""
        self.fs.pipe_file(self.path, self._whole, mode="create" if "x" in self.mode else "overwrite")

    def discard(self) -> None:
        """Forget what was written."""
        self._whole = b""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start, end)
        return data


def split_url(url: str) -> tuple[str | None, str, str]:
    """Ref, path and repo of ``vzarr://[REF@/]PATH::REPO``: None for no ref, and an empty repo where none is named."""
    head, _, repo = url.partition("::")
    named = _WITH_REF.match(head)
    return named[1] if named else None, VersionFileSystem._strip_protocol(head)[1:], repo


def _open(repo: str | os.PathLike[str] | Repo | Version, version: str) -> Version:
    if isinstance(repo, Version):
        return repo
    return (repo if isinstance(repo, Repo) else Repo.open(os.fspath(repo)))[version]


def _target(fo: str | None, protocol: str | None) -> str:
    target = fo or ""
    if "://" in target or protocol in (None, "file", "local"):
        return target
    return f"{protocol}://{target.lstrip('/')}"
