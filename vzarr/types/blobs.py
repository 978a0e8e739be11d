"""Blobs by the hash of their content: one store per repo, shared by all its instances and versions.

A reference is DVID's: the 128-bit FNV-1 hash of the content (Fowler, Noll, Vo; IETF draft-eastlake-fnv), its 16 bytes,
the highest first, in URL-safe base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.version import Version

_BASIS = 0x6C62272E07BB014262B821756295C58D
_PRIME = 0x0000000001000000000000000000013B
_MASK = (1 << 128) - 1
_STEP = np.uint8(_PRIME & 0xFF)
_BLOCK = 1 << 14
"""Bytes that are hashed at a time."""

# Keys need an instance; this one is in no log, so that no name can meet it.
_DATA_UUID = hashlib.md5(b"vzarr blobs", usedforsecurity=False).hexdigest()


def reference(content: bytes) -> str:
    """Name of a blob."""
    found = _BASIS
    for start in range(0, len(content), _BLOCK):
        found = _hashed(found, np.frombuffer(content, np.uint8, min(_BLOCK, len(content) - start), start))
    return base64.urlsafe_b64encode(found.to_bytes(16, "big")).decode()


def _hashed(begin: int, content: NDArray[np.uint8]) -> int:
    """The hash after some more bytes.

    By definition each byte makes of a hash h the hash (h * prime) ^ byte, a step of Python each.  Such an xor adds a
    number to the lowest byte, so once these are known for all steps the rest is one sum of powers of the prime.
    """
    before, after = _lowest_bytes(begin & 0xFF, content)
    added = after.astype(np.float64) - (before * _STEP)
    # Floats are exact here: each of the sums is below 2^(8 + 16) * _BLOCK < 2^53.
    sums = added @ _powers()[_BLOCK - len(content) :]
    whole = sum(int(part) << 16 * place for place, part in enumerate(sums.tolist()))
    return (begin * pow(_PRIME, len(content), 1 << 128) + whole) & _MASK


def _lowest_bytes(begin: int, content: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lowest byte of the hash before and after each step.

    They are found bit by bit: the prime is odd, so that a bit of a product is that of the factor, flipped by what the
    lower bits say.
    """
    before, after = np.zeros(len(content), np.uint8), np.zeros(len(content), np.uint8)
    for bit in (np.uint8(1 << n) for n in range(8)):
        flips = (before * _STEP ^ content) & bit
        flips[0] ^= begin & bit
        found = np.bitwise_xor.accumulate(flips)
        after |= found
        before[1:] |= found[:-1]
        before[0] |= begin & bit
    return before, after


@cache
def _powers() -> NDArray[np.float64]:
    """Powers of the prime from that of `_BLOCK` - 1 down to 1, each as 8 numbers of 16 bits, the lowest first."""
    power, found = 1, []
    for _ in range(_BLOCK):
        found.append(power.to_bytes(16, "little"))
        power = power * _PRIME & _MASK
    return np.frombuffer(b"".join(found[::-1]), "<u2").reshape(_BLOCK, 8).astype(np.float64)


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
