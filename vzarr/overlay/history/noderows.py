"""One version as values of the columns in which a checkpoint keeps it (see docs/format.md)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np

from vzarr.overlay import layout
from vzarr.overlay.history.nodeinfo import NodeInfo

MERGED = 0xFFFFFFFF
"""In place of a parent: the row's text names the parents."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def fit(info: NodeInfo, parent: int | None) -> dict[str, Any]:
    """A version as values of a row's columns; what they cannot hold is in ``text``, a dictionary."""
    text: dict[str, Any] = {name: value for name in ("note", "log") if (value := getattr(info, name))}
    row: dict[str, Any] = {"id": np.void(_id_bytes(info.id)), "text": text}
    if info.parents:
        row["parent"] = MERGED if parent is None else parent + 1
        if parent is None:
            text["parents"] = info.parents
    for name in ("created", "updated"):
        stamp = getattr(info, name)
        row[name] = _micros(stamp)
        if moment(row[name]) != stamp:
            text[name] = stamp
    seal = bytes.fromhex(info.seal) if info.seal and _SHA256.fullmatch(info.seal) else b""
    row["seal"] = np.void(seal.ljust(32, b"\0"))
    if info.seal is not None and not any(seal):
        text["seal"] = info.seal
    return row


def _id_bytes(node: str) -> bytes:
    return bytes.fromhex(node) if layout.HEX_ID.fullmatch(node) else blake2b(node.encode(), digest_size=16).digest()


def _micros(stamp: str) -> int:
    """Microseconds since 1970 that a time names, or 0 for what is none."""
    try:
        return (datetime.fromisoformat(stamp).astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return 0


def moment(micros: int) -> str:
    """A time as the log records it."""
    return (_EPOCH + micros * _MICROSECOND).isoformat(timespec="microseconds").replace("+00:00", "Z")
