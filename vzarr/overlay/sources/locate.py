"""From a source's path or URL to its files."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from vzarr.errors import InvalidInputError
from vzarr.overlay.objects.localpaths import local_path
from vzarr.overlay.sources.files import Files, LocalFiles
from vzarr.overlay.sources.remote import open_remote


def open_files(url: str | os.PathLike[str]) -> Files:
    """Open the folder that a URL names for reading.

    Parameters
    ----------
    url
        A local path, or a URL of any protocol that fsspec knows.

    Raises
    ------
    InvalidInputError
        If it is empty, or holds a password.
    UnsupportedError
        If nothing installed reads its protocol.
    """
    text = os.fspath(url).strip()
    if not text:
        raise InvalidInputError("a source is named by a path or a URL")
    path = local_path(text)
    if path is not None:
        return LocalFiles(path)
    if not text.partition("://")[2].strip("/"):
        raise InvalidInputError(f"{text} names no source: a host or bucket, and mostly a path, follow the protocol")
    parts = urlsplit(text)
    if parts.password or (parts.username and parts.scheme in ("http", "https")):
        raise InvalidInputError("a source's URL is written into the repo: give credentials by the environment instead")
    return open_remote(text, parts.scheme)
