"""Figures about a labelmap's mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vzarr.types.labelmap import pages, rows

if TYPE_CHECKING:
    from vzarr.types.base import Instance

_UNITS = ("B", "kB", "MB", "GB", "TB")
_ROW_BYTES = 17


def map_stats(instance: Instance) -> dict[str, Any]:
    """Figures about the mapping at a version (DVID HTTP API, ``GET D/map-stats``).

    Returns
    -------
    dict
        ``MapEntries``; ``MapSize`` of keys and values in words; ``NumVersions`` and ``MaxVersion``: how many
        versions the repo has, and the number of the newest.
    """
    entries = sum(1 for _ in instance.keys.scan_keys(*rows.class_range(rows.MAPPING))) + pages.size(instance.keys)
    versions = len(instance.version.repo.state.nodes)  # numbered from 1
    return {
        "MapEntries": entries,
        "MapSize": _in_words(entries * _ROW_BYTES),
        "NumVersions": versions,
        "MaxVersion": versions,
    }


def _in_words(size: float) -> str:
    """A number of bytes as people say it, such as ``3.2 kB``."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_UNITS[-1]}"
