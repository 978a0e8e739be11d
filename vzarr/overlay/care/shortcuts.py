"""Checkpoint and hint of the log, which only repeat what its entries say, written anew where they are damaged."""

from __future__ import annotations

from collections.abc import Iterable

from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.logcheck import Finding, read_log
from vzarr.overlay.objects.base import Objects

_NAMES = frozenset({"hint-damaged", "checkpoint-damaged"})


def renew(objects: Objects, findings: Iterable[Finding]) -> list[str]:
    """Write the short cuts anew that `verify` found damaged, and give their keys; of checkpoints the newest is enough.

    Nothing happens where the entries themselves are damaged: then what a short cut says may be all that is left.
    """
    keys = sorted({f.key for f in findings if f.name in _NAMES})
    if not keys or any(f.name not in _NAMES for f in read_log(objects)[1]):
        return []
    for key in keys:
        objects.delete(key)
    RepoLog(objects).renew_hints()
    return keys
