"""What makes a folder a repo: ``vzarr.json``, the first log entry, and the key authority it names."""

from __future__ import annotations

import os
import secrets
import uuid as uuids
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from vzarr.errors import (
    AlreadyExistsError,
    AuthorityUnavailableError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    UnsupportedError,
)
from vzarr.overlay import arrays, layout, plans, refs
from vzarr.overlay.fileobjects import FileObjects
from vzarr.overlay.kv import open_kv
from vzarr.overlay.kv.base import OrderedKV
from vzarr.overlay.log import RepoLog
from vzarr.overlay.memoryobjects import MemoryObjects
from vzarr.overlay.objects import Objects


def open_objects(url: str | os.PathLike[str]) -> Objects:
    """Open the object store that a URL names.

    Parameters
    ----------
    url
        A local path, ``file://`` path, or ``memory://name``.

    Raises
    ------
    UnsupportedError
        If the URL names another protocol.
    """
    text = os.fspath(url)
    if not text:
        raise InvalidInputError(f"a repo is named by a path or a URL, not by {url!r}")
    if "://" not in text:
        return FileObjects(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    if parts.scheme == "file":
        return FileObjects(Path(unquote(parts.path)).absolute())
    if parts.scheme == "memory":
        return MemoryObjects((parts.netloc + parts.path).strip("/"))
    raise UnsupportedError(f"cannot open {text!r}: this release keeps repos in file:// and memory:// only")


def create(objects: Objects, alias: str, description: str, root: str | None, user: str, app: str) -> None:
    """Make a repo with an open, empty root version.

    Raises
    ------
    AlreadyExistsError
        If there is one already; of several racing callers one succeeds.
    """
    asked = root
    root = refs.check_node_id(root) if root is not None else uuids.uuid4().hex
    meta = {"format": layout.FORMAT, "root": root, "keys": {"id": secrets.token_hex(16), "url": "embedded"}}
    if not objects.create(layout.REPO, orjson.dumps(meta, option=orjson.OPT_INDENT_2)):
        # A creation that was cut off left no log; whoever makes the first entry finishes it.
        begun = read_meta(objects)["root"]
        if objects.get(layout.log_entry(0)) is not None:
            raise AlreadyExistsError(f"{objects.url} is a repo already")
        if asked and asked != begun:
            raise AlreadyExistsError(f"{objects.url} was begun with root {begun}; create it with that root, or without")
        root = begun
    assert root is not None
    objects.create(f"{layout.zarr(root)}/{arrays.doc_key('')}", arrays.group_doc(None))
    RepoLog(objects).publish(plans.create(root, alias, description, objects.url), user=user, app=app)


def read_meta(objects: Objects) -> dict[str, Any]:
    """What ``vzarr.json`` says.

    Raises
    ------
    NotFoundError
        If there is no repo.
    FormatError
        If it is damaged, or of a newer format.
    """
    data = objects.get(layout.REPO)
    if data is None:
        raise NotFoundError(f"no repo at {objects.url}")
    try:
        meta: dict[str, Any] = orjson.loads(data)
        known = meta["format"] <= layout.FORMAT and isinstance(meta["root"], str)
    except (orjson.JSONDecodeError, KeyError, TypeError) as e:
        raise FormatError(f"{layout.REPO} in {objects.url} is damaged: {e}") from e
    if not known:
        raise FormatError(
            f"{objects.url} has format {meta['format']}; this release reads up to {layout.FORMAT}: upgrade vzarr"
        )
    return meta


def open_authority(objects: Objects, meta: Mapping[str, Any]) -> OrderedKV:
    """The key authority: embedded beside files, in memory beside memory."""
    if isinstance(objects, FileObjects):
        try:
            Path(objects.path("keys")).mkdir(exist_ok=True)
        except OSError as e:
            raise AuthorityUnavailableError(f"cannot make {objects.path('keys')}: {e.strerror or e}") from e
        return open_kv(f"sqlite:///{objects.path(layout.database())}")
    return open_kv(f"memory://{meta['keys']['id']}")
