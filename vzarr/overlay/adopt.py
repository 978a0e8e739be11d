"""Adoption: an existing volume becomes arrays of an open root in place; nothing is copied, nothing listed.

What is written is one row and one marked document per array, a group document, and the pins where they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from vzarr.errors import AlreadyExistsError, InvalidInputError, UnsupportedError
from vzarr.geometry import Box, iter_coords
from vzarr.overlay.chunks import codec
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry, ArrayId
from vzarr.overlay.sealing import seal
from vzarr.overlay.sources import formats, pins
from vzarr.overlay.sources.base import ChunkReader, SourceArray, Volume
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.pyramid import sized
from vzarr.overlay.views import moves, paths
from vzarr.overlay.views.rootview import RootView

if TYPE_CHECKING:
    from vzarr.overlay.version import Version


def adopt_volume(version: Version, name: str, volume: Volume, *, pin: str = "") -> list[ArrayEntry]:
    """Make a volume a group of the open root, its scales the arrays ``0``, ``1``, … below it.

    Parameters
    ----------
    version
        The root, open.
    name
        Path of the group.
    volume
        What to take in (`sources.formats.open_volume`).
    pin
        ``"stamp"`` records size and time of change (or ETag) of every object, ``"hash"`` its SHA-256 too; both list
        the source.  Empty records neither.

    Returns
    -------
    list of ArrayEntry
        The arrays' entries, finest first.

    Raises
    ------
    InvalidInputError
        If the version is no open root, or the name no path.
    AlreadyExistsError
        If something else is at the path.
    UnsupportedError
        If the source's codecs are not installed, or it cannot be pinned.
    StorageError
        If the source cannot be read.
    """
    view = _open_root(version)
    if pin not in ("", "stamp", "hash"):
        raise InvalidInputError(f"pins are 'stamp' or 'hash', not {pin!r}")
    paths.check_new(view, name, is_array=False)
    volume = sized(volume)
    scales = [formats.shown(s) for s in volume.scales]
    entries = {f"{name}/{n}": _entry(volume, n, scale) for n, scale in enumerate(scales)}
    groups = {arrays.doc_key(name): arrays.group_doc(group_attributes(name, volume, scales))}
    if pin and not _is_there(view, name, groups, entries):
        for (path, entry), scale in zip(list(entries.items()), scales, strict=True):
            entries[path] = _pinned(view, entry, scale, hashed=pin == "hash")
    version.create_group(name.rpartition("/")[0])
    with moves.alone(view.authority, view.node):
        if _is_there(view, name, groups, entries):
            view.adopt({k: v for k, v in groups.items() if view.entry(name) is None}, {})
            return [e for path, e in view.entries.items() if path in entries and isinstance(e, ArrayEntry)]
        view.adopt(groups, entries)
    return list(entries.values())


def _open_root(version: Version) -> RootView:
    view = version.view
    if not isinstance(view, RootView):
        why = "is not the root" if version.parents else "is sealed"
        raise InvalidInputError(f"version {version.uuid} {why}: volumes are adopted by a repo's root while it is open")
    return view


def group_attributes(name: str, volume: Volume, scales: Sequence[SourceArray]) -> dict[str, Any]:
    """Attributes of an adopted volume's group: what it had, and OME-NGFF 0.5 multiscales where it says enough."""
    kept = {k: v for k, v in volume.attributes.items() if k != "ome"}
    ome = dict(volume.attributes.get("ome", {}))
    if volume.voxel_sizes:
        units = volume.units or [None] * len(volume.axes)
        axes = [_axis(n, u) for n, u in zip(volume.axes, units, strict=True)]
        datasets = []
        for n, (scale, size) in enumerate(zip(scales, volume.voxel_sizes, strict=True)):
            steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(size)}]
            start = _translation(volume, n, scale)
            if any(start):
                steps.append({"type": "translation", "translation": start})
            datasets.append({"path": str(n), "coordinateTransformations": steps})
        ome |= {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
    return {**kept, **({"ome": ome} if ome else {})}


def _axis(name: str, unit: str | None) -> dict[str, str]:
    kind = {"t": "time", "c": "channel"}.get(name, "space")
    return {"name": name, "type": kind, **({"unit": unit} if unit else {})}


def _translation(volume: Volume, n: int, shown_as: SourceArray) -> list[float]:
    """Centre of the first voxel that is shown, given that of the first one stored."""
    size = volume.voxel_sizes[n]
    first = volume.translations[n] if volume.translations else [0.0] * len(size)
    scale = volume.scales[n]
    offset = (scale.layout.offset if isinstance(scale, ChunkReader) else scale.origin) or (0,) * len(size)
    start = shown_as.origin or (0,) * len(size)
    return [f + (b - a) * s for f, a, b, s in zip(first, offset, start, size, strict=True)]


def _entry(volume: Volume, n: int, scale: SourceArray) -> ArrayEntry:
    lo, hi = scale.box
    about = {**scale.locator, "chunks": [list(lo), list(hi)], "sha256": seal.sha256(scale.metadata())}
    try:
        docs = {V3_DOC: arrays.as_zarr_writes(_named(scale.docs, volume.axes))}
        entry = ArrayEntry(docs, ArrayId("", str(n)), scale.origin, about)
        codec.codec_of(entry)
    except (ValueError, TypeError, LookupError, RuntimeError, ImportError) as e:
        raise UnsupportedError(f"{volume.url}: its chunks cannot be decoded here: {e}") from e
    return entry


def _named(docs: Mapping[str, bytes], axes: Sequence[str]) -> bytes:
    """An array's document with names for the axes, where they have none."""
    doc = orjson.loads(docs[V3_DOC])
    if not doc.get("dimension_names") and len(axes) == len(doc["shape"]):
        doc["dimension_names"] = list(axes)
    return orjson.dumps(doc)


def _is_there(view: RootView, name: str, groups: Mapping[str, bytes], entries: Mapping[str, ArrayEntry]) -> bool:
    """Whether an interrupted adoption has left just these arrays, and not only the group around them."""
    found = view.entries
    taken = [p for p in found if p == name or p.startswith(f"{name}/")]
    if not taken or (taken == [name] and groups[arrays.doc_key(name)] in found[name].docs.values()):
        return False

    def same(path: str, entry: ArrayEntry) -> bool:
        there = found.get(path)
        if not isinstance(there, ArrayEntry) or there.source is None or entry.source is None:
            return False
        return _unpinned(there.source) == _unpinned(entry.source)

    if {name, *taken} == {name, *entries} and all(same(p, e) for p, e in entries.items()):
        return True
    raise AlreadyExistsError(f"there is something at {name!r} already")


def _unpinned(source: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in source.items() if k != "pins"}


def _pinned(view: RootView, entry: ArrayEntry, scale: SourceArray, *, hashed: bool) -> ArrayEntry:
    recorder: list[pins.RecordingFiles] = []

    def record(files: Files) -> Files:
        recorder.append(pins.RecordingFiles(files))
        return recorder[0]

    # Whatever opening reads, such as metadata beside the array's folder, is pinned with it.
    formats.open_array(scale.locator, record).metadata()
    keys = dict.fromkeys((*recorder[0].asked, *object_keys(scale.files, scale)))
    data = pins.pin(scale.files, keys, hashed=hashed)
    key = pins.store(view.storage.objects, view.node, data)
    return replace(entry, source={**(entry.source or {}), "pins": key})


def object_keys(files: Files, scale: SourceArray) -> Sequence[str]:
    """Keys of all objects of an array: as listed, or, where that cannot be, every chunk's that there may be."""
    try:
        return [key for key, _size in files.walk(scale.folder) if paths.is_key(key)]
    except UnsupportedError:
        box: Box = scale.box
        return list(dict.fromkeys(key for coord in iter_coords(box) for key in scale.keys(coord)))
