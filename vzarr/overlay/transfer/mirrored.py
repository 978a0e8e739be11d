"""What a mirror is made of: the objects of a repo that are read for one, and those that may be written into one.

It is what a server holds to when it gives a repo to a mirror elsewhere, or has one itself.  The keys of a repo are in
neither: they stay with it.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from vzarr.errors import AlreadyExistsError, FormatError, InvalidInputError, SealedError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.history.checkpoints import entry_of, parsed
from vzarr.overlay.history.refs import check_node_id
from vzarr.overlay.sealing import seal
from vzarr.overlay.transfer import exchange
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.views.paths import is_key

_FOLDERS = ("log", "nodes", "open", layout.STRIPE_HOLDERS)
_ENTRY = re.compile(r"log/(\d{20})\.json")
_HINT = re.compile(r"log/(?:latest|checkpoint-\d{20}\.table)")
_HOLDER = re.compile(rf"{layout.STRIPE_HOLDERS}/\d{{1,4}}")
_HELD = re.compile(layout.moment_object("[0-9a-f]{64}"))


def check_read(key: str) -> None:
    """Refuse to read what a mirror does not have.

    Raises
    ------
    InvalidInputError
        If it is no object of a version, of the log, of what a mirror holds, or ``vzarr.json``.
    """
    if key != layout.REPO and not (key.startswith(tuple(f"{name}/" for name in _FOLDERS)) and is_key(key)):
        raise InvalidInputError(f"{key!r} is nothing that a mirror is made of")


def check_folder(prefix: str) -> None:
    """Refuse to list a folder that a mirror does not have.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    if prefix not in _FOLDERS:
        check_read(f"{prefix}/x")


def check_sent(key: str, data: bytes, digest: str) -> None:
    """Refuse what did not arrive as it was sent.

    Raises
    ------
    InvalidInputError
        If its SHA-256 is another.
    """
    if seal.sha256(data) != digest:
        raise InvalidInputError(f"{key} did not arrive as it was sent: its checksum differs")


def begin(data: bytes, root: str) -> None:
    """Refuse what cannot be the ``vzarr.json`` of a mirror.

    Raises
    ------
    InvalidInputError
        If it is not one of a repo with that root, or names keys.
    """
    try:
        meta: Any = orjson.loads(data)
        fits = meta["mirror"] is True and meta["root"] == root and meta["format"] <= layout.FORMAT
        fits = fits and opening.keys_named(meta)[0] == opening.EMBEDDED
    except (orjson.JSONDecodeError, LookupError, TypeError) as e:
        raise InvalidInputError(f"{layout.REPO} cannot be read: {e}") from e
    if not fits:
        raise InvalidInputError(f"{layout.REPO} is not that of a mirror of repo {root} which this release can read")


def check_is_mirror(place: StoredPlace) -> None:
    """Refuse to write into what is no mirror, or none any more.

    Raises
    ------
    AlreadyExistsError
        If it is a repo of its own.
    """
    if not place.is_mirror:
        raise AlreadyExistsError(f"{place.url} is a repo of its own, no mirror: it takes versions by push or pull")


def put(place: StoredPlace, key: str, data: bytes, digest: str, *, new: bool) -> bool:
    """Write an object into a mirror; False if one was to be new, and is not.

    Parameters
    ----------
    digest
        SHA-256 of the object as it was sent.
    new
        Whether nothing may lie there yet.

    Raises
    ------
    InvalidInputError
        If it did not arrive as it was sent, or is none that is written so.
    AlreadyExistsError
        If it is no mirror.
    SealedError
        If it belongs to a version that the mirror has sealed already.
    """
    check_is_mirror(place)
    check_sent(key, data, digest)
    if _ENTRY.fullmatch(key):
        _check_entry(place, key, data)
    elif not (_HOLDER.fullmatch(key) if new else _may_replace(place, key, digest)):
        raise InvalidInputError(f"{key!r} is nothing that is written into a mirror{' as new' if new else ''}")
    if new or _ENTRY.fullmatch(key):
        return place.objects.create(key, data)
    place.objects.put(key, data)
    return True


def may_put(place: StoredPlace, key: str) -> bool:
    """Whether an object is one of a version that a mirror does not have sealed yet, or of a snapshot."""
    return exchange.is_of_snapshot(key) or (exchange.is_object(key) and not place.is_sealed(key.split("/")[1]))


def delete(place: StoredPlace, key: str) -> None:
    """Remove an object from a mirror.

    Raises
    ------
    InvalidInputError
        If it is none that a mirror ever gives up.
    AlreadyExistsError
        If it is no mirror.
    """
    check_is_mirror(place)
    if not (_HELD.fullmatch(key) or exchange.is_of_snapshot(key)):
        raise InvalidInputError(f"{key!r} is nothing that a mirror gives up")
    place.objects.delete(key)


def _may_replace(place: StoredPlace, key: str, digest: str) -> bool:
    if key in (layout.moment(), layout.unversioned(), layout.moment_object(digest)) or _HINT.fullmatch(key):
        return True
    if exchange.is_object(key) and not may_put(place, key):
        raise SealedError(f"{key} belongs to a version that is sealed in the mirror already")
    return may_put(place, key)


def _check_entry(place: StoredPlace, key: str, data: bytes) -> None:
    """Refuse an entry that does not follow, or that seals a version which has not arrived."""
    match = _ENTRY.fullmatch(key)
    number = int(match[1]) if match else 0
    if number and place.objects.size(layout.log_entry(number - 1)) is None:
        raise InvalidInputError(f"{key} does not follow: the entry before it is missing")
    try:
        entry = entry_of(key, parsed(key, data))
        if entry.number != number:
            raise InvalidInputError(f"{key} is entry {entry.number}")
        for op in entry.ops:
            if op["op"] == "node":
                check_node_id(op["id"])
            digest = op.get("sha256") if op["op"] == "seal" else op.get("seal") if op["op"] == "node" else None
            if digest:
                seal.load_record(place.objects, layout.seal(op["id"]), digest)
    except (FormatError, StorageError, LookupError, TypeError, AttributeError) as e:
        raise InvalidInputError(f"{key} is no entry that a mirror takes: {e}") from e
