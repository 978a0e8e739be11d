"""Passcodes of repos: who renames or deletes an instance must know that of the repo, where it was made with one.

``vzarr.json`` holds what a passcode is checked against, not the passcode.  It stays with the folder: clones have none.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import scrypt
from typing import Any

from vzarr.errors import ForbiddenError

FIELD = "passcode"
_COST = {"n": 1 << 14, "r": 8, "p": 1}
"""Of scrypt (RFC 7914): 16 MiB and some 50 ms for each try."""


def field(passcode: str) -> dict[str, Any]:
    """What ``vzarr.json`` says of a passcode; nothing for ""."""
    if not passcode:
        return {}
    salt = secrets.token_bytes(16)
    return {FIELD: {"kind": "scrypt", **_COST, "salt": salt.hex(), "hash": _hash(passcode, salt, _COST).hex()}}


def check(meta: Mapping[str, Any], given: str) -> None:
    """Refuse who does not know a repo's passcode; there may be none.

    Raises
    ------
    ForbiddenError
        If it is another one, or of a kind that this release does not know.
    """
    known = meta.get(FIELD)
    if known is None:
        return
    if known.get("kind") != "scrypt":
        raise ForbiddenError(
            f"the passcode of repo {meta['root']} can only be checked by a newer release: upgrade vzarr"
        )
    right = _hash(given, bytes.fromhex(known["salt"]), known)
    if not given or not hmac.compare_digest(right.hex(), known["hash"]):
        raise ForbiddenError(f"incorrect passcode for repo {meta['root']}")


def _hash(passcode: str, salt: bytes, cost: Mapping[str, int]) -> bytes:
    return scrypt(passcode.encode(), salt=salt, n=cost["n"], r=cost["r"], p=cost["p"])
