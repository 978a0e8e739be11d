"""Blobs by the hash of their content: one store per repo, shared by all its instances and versions.

A reference is DVID's: the 128-bit FNV-1 hash of the content (Fowler, Noll, Vo; IETF draft-eastlake-fnv), its 16 bytes,
the highest first, in URL-safe base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.version import Version

_BASIS = 0x6C62272E07BB014262B821756295C58D
_PRIME = 0x0000000001000000000000000000013B
_MASK = (1 << 128) - 1

# Keys need an instance; this one is in no log, so that no name can meet it.
_DATA_UUID = hashlib.md5(b"vzarr blobs", usedforsecurity=False).hexdigest()


def reference(content: bytes) -> str:
    """Name of a blob."""
    found = _BASIS
    for byte in content:
        found = (found * _PRIME & _MASK) ^ byte
    return base64.urlsafe_b64encode(found.to_bytes(16, "big")).decode()


def put(version: Version, content: bytes) -> str:
    """Keep a blob and return its reference; a sealed version's repo takes blobs too."""
    name = reference(content)
    version.transact(_info(version), lambda txn: txn.put(name.encode(), content))
    return name


def get(version: Version, name: str) -> bytes:
    """Content of a blob.

    Raises
    ------
    InvalidInputError
        If `name` cannot be a reference.
    NotFoundError
        If the repo has no such blob.
    """
    try:
        valid = len(base64.b64decode(name, b"-_", validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise InvalidInputError(f'"{name}" is no reference to a blob: 16 bytes in URL-safe base64')
    found = version.keys(_info(version)).get(name.encode())
    if found is None:
        raise NotFoundError(f'Reference "{name}" not found')
    return found


def _info(version: Version) -> InstanceInfo:
    return InstanceInfo("", "", _DATA_UUID, version.repo.uuid, versioned=False)
