"""Which places are on this machine: a path, or a ``file://`` URL; what a URL names otherwise is no path."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vzarr.errors import InvalidInputError

CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP)
"""Why a file cannot get a second name where its bytes can be copied."""
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


def local_path(place: str | os.PathLike[str]) -> Path | None:
    """Absolute path of a place, or None where it is the URL of something else.

    Raises
    ------
    InvalidInputError
        If it is a URL that went through `pathlib`, which makes ``s3:/bucket`` of ``s3://bucket``: taken for a path, it
        would be a folder of that name.
    """
    text = os.fspath(place)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path)).absolute()
    if "://" in text:
        return None
    if _LOST_SLASH.match(text):
        scheme, _, rest = text.partition(":/")
        raise InvalidInputError(f"{text!r} looks like {scheme}://{rest} with a slash lost; a path would be ./{text}")
    return Path(text) if text.startswith("/") else Path(text).expanduser().absolute()


def local_target(place: str | os.PathLike[str]) -> Path:
    """Absolute path of something to write.

    Raises
    ------
    InvalidInputError
        If it is empty, or the URL of something else.
    """
    path = local_path(place) if os.fspath(place) else None
    if path is None:
        raise InvalidInputError(f"{os.fspath(place)!r} is no path: this is written to a local file system")
    return path
