"""Settings of an instance: strings as DVID receives them, their checks, and the texts DVID shows for them.

Settings arrive as a JSON object whose keys are case-insensitive and whose values are strings, numbers and
booleans included (DVID HTTP API, ``POST /api/repo/{uuid}/instance``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vzarr.errors import InvalidInputError

RESERVED_NAMES = frozenset({"log", "branch", "note", "commit", "newversion"})
"""Names that DVID's node endpoints take for themselves."""

_COMPRESSION = re.compile(r"(none|snappy|lz4|gzip|jpeg)|gzip:([1-9])")
_COMPRESSION_TEXT = {
    "none": "No compression, level -1",
    "snappy": "Go Snappy compression, level -1",
    "lz4": "LZ4 compression, level -1",
    "gzip": "gzip compression, level -1",
}
_BOOLEANS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


def lower_keys(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings under lower-case keys.

    Raises
    ------
    InvalidInputError
        If a value is not a string; only ``versioned`` may be a JSON boolean.
    """
    found = {}
    for key, value in settings.items():
        if key.lower() == "versioned" and isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(value, str):
            raise InvalidInputError(f"Setting for '{key}' was not a string: {value}")
        found[key.lower()] = value
    return found


def check_name(name: str) -> str:
    """A name that an instance may have: one path segment of Zarr and of DVID's URLs.

    Raises
    ------
    InvalidInputError
        If the name is empty, reserved by DVID, or no name of a Zarr node.
    """
    if name in RESERVED_NAMES:
        raise InvalidInputError(f'cannot use reserved name "{name}"')
    if not name or len(name.encode()) > 200:
        raise InvalidInputError("an instance needs a dataname of 1 to 200 bytes")
    bad_start = name.startswith((".", "__")) or name in ("zarr.json", "c")
    if bad_start or "/" in name or "\\" in name or not name.isprintable():
        raise InvalidInputError(
            f'cannot use the name "{name}": it must not hold a slash, a backslash or a control character, '
            "nor start with a dot or two underscores, nor be zarr.json or c"
        )
    return name


def boolean(settings: Mapping[str, str], key: str, default: bool) -> bool:
    """A yes or no: ``true``, ``1``, ``on`` or ``false``, ``0``, ``off``, in any case.

    Raises
    ------
    InvalidInputError
        If the setting is anything else.
    """
    text = settings.get(key, "").strip().lower()
    if not text:
        return default
    if text not in _BOOLEANS:
        raise InvalidInputError(f"setting {key!r} must be true or false, not {settings[key]!r}")
    return _BOOLEANS[text]


def integer(settings: Mapping[str, str], key: str, default: int, low: int, high: int) -> int:
    """A whole number between `low` and `high`, both included.

    Raises
    ------
    InvalidInputError
        If the setting is no such number.
    """
    text = settings.get(key, str(default)).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise InvalidInputError(f"setting {key!r} must be a whole number from {low} to {high}, not {text!r}")
    return int(text)


def integers(settings: Mapping[str, str], key: str, default: Sequence[int], low: int, high: int) -> tuple[int, ...]:
    """Comma-separated whole numbers, one per axis; axes that are not given keep their default.

    Raises
    ------
    InvalidInputError
        If there are too many numbers, or one is none or out of its range.
    """
    parts = _parts(settings, key, len(default))
    numbers = [integer({key: part}, key, 0, low, high) for part in parts]
    return (*numbers, *default[len(numbers) :])


def floats(settings: Mapping[str, str], key: str, default: Sequence[float]) -> tuple[float, ...]:
    """Comma-separated positive numbers; a single one counts for all axes.

    Raises
    ------
    InvalidInputError
        If there are more than axes, or one is no positive finite number.
    """
    found = tuple(positive(part, key) for part in _parts(settings, key, len(default)))
    return found * len(default) if len(found) == 1 else found or tuple(default)


def positive(value: object, key: str) -> float:
    """A number above zero, from its text or from JSON.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InvalidInputError(f"{key} must hold positive numbers, not {value!r}")
    return number


def words(settings: Mapping[str, str], key: str, default: Sequence[str]) -> tuple[str, ...]:
    """Comma-separated words, as many as are given but no more than the default has."""
    return tuple(_parts(settings, key, len(default))) or tuple(default)


def _parts(settings: Mapping[str, str], key: str, most: int) -> list[str]:
    text = settings.get(key, "").strip()
    parts = [p.strip() for p in text.split(",")] if text else []
    if len(parts) > most:
        raise InvalidInputError(f"setting {key!r} takes at most {most} values, not {text!r}")
    return parts


def pairs(text: str) -> dict[str, str]:
    """``k=v,k2=v2`` as a dictionary, the form of the setting ``Tags``.

    Raises
    ------
    InvalidInputError
        If a part has no equals sign.
    """
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InvalidInputError(f"tags are written key=value,key2=value2, not {text!r}")
        found[key.strip()] = value.strip()
    return found


def compression(settings: Mapping[str, str], default: str) -> str:
    """The setting ``Compression``: none, snappy, lz4, gzip, gzip:1 to gzip:9, or jpeg.

    It decides what DVID's endpoints send, not how chunks are stored.

    Raises
    ------
    InvalidInputError
        If it is none of these.
    """
    text = settings.get("compression", default).strip().lower() or default
    if not _COMPRESSION.fullmatch(text):
        raise InvalidInputError(f"Illegal compression specified: {text}")
    return text


def compression_text(name: str, block_width: int = 32) -> str:
    """DVID's text for a compression, for example ``LZ4 compression, level -1``.

    Parameters
    ----------
    block_width
        Width of a block in voxels: what DVID gives as the level of its JPEG compression.
    """
    if name == "jpeg":
        return f"jpeg compression, level {block_width}"
    kind, _, level = name.partition(":")
    return f"gzip compression, level {level}" if level else _COMPRESSION_TEXT[kind]


def checksum(settings: Mapping[str, str]) -> str:
    """The setting ``Checksum``: none or crc32.

    Raises
    ------
    InvalidInputError
        If it is neither.
    """
    text = settings.get("checksum", "none").strip().lower() or "none"
    if text not in ("none", "crc32"):
        raise InvalidInputError(f"Illegal checksum specified: {text}")
    return text
