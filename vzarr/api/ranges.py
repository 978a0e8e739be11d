"""The header ``Range`` of a request for one object (RFC 9110, section 14)."""

from __future__ import annotations

import re

from vzarr.api.errors import RangeNotSatisfiableError

_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and byte after the last of the one range that a request asks for.

    Parameters
    ----------
    header
        The header, None when there is none.
    size
        Size of the whole object, in bytes.

    Returns
    -------
    tuple or None
        None for the whole object: no header, several ranges, another unit, or nothing that makes sense.

    Raises
    ------
    RangeNotSatisfiableError
        If the range begins behind the end.
    """
    found = _ONE_RANGE.fullmatch((header or "").strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise RangeNotSatisfiableError(size)
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiableError(size)
    return int(first), min(int(last) + 1, size) if last else size
