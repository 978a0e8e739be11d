"""``roi``: a region of interest, a set of blocks, versioned; what it masks, holds and how it is cut for work.

A ROI lives in the versioned keys of its instance, one row per z of block space: the key is ``z`` and z + 2^31 as 4
bytes, big-endian; the value is (y, x0, x1) for each span of that z, int32 little-endian, sorted.  Whatever replaces a
ROI is then one transaction, it costs the rows that differ, and readers of a box read the rows of its z only.  A Zarr
array of the mask beside them would be a second truth, and one that cannot be replaced at one stroke: a writer killed
among its chunks would leave a mask that nobody posted.  Readers of folders alone find the rows of sealed versions
among the sealed keys, which are Zarr arrays too (``docs/format.md``).

A *span* is a row (z, y, x0, x1) of block coordinates, x1 included, as on DVID's wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vzarr import geometry
from vzarr.errors import ConflictError, InvalidInputError, UnsupportedError
from vzarr.geometry import Box, Coord
from vzarr.overlay.transfer.region import Region
from vzarr.types import settings
from vzarr.types.base import Datatype, Instance
from vzarr.types.partition import partition_json

if TYPE_CHECKING:
    from vzarr.overlay.history.state import InstanceInfo
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn

Spans = NDArray[np.int64]
"""Shape (n, 4): z, y, x0, x1 in block coordinates, x1 included."""

_ROW = b"z"
_LOW, _HIGH = -(1 << 31), (1 << 31) - 1
_SIGN = 1 << 31
_PACKED = np.dtype("<i4")


@dataclass(frozen=True, repr=False)
class Roi(Instance):
    """A region of interest at a version; boxes, blocks and points are zyx, in signed global coordinates."""

    @property
    def block_zyx(self) -> Coord:
        """Edges of a block in voxels."""
        return geometry.reverse(self.block_xyz)

    @property
    def block_xyz(self) -> Coord:
        """Edges of a block in DVID's order."""
        return tuple(map(int, self.config["blocksize"].split(",")))

    # ------------------------------------------------------------ the set of blocks

    def spans(self, first: int = _LOW, last: int = _HIGH) -> Spans:
        """The blocks as spans: sorted, disjoint, and as long as they can be.

        Parameters
        ----------
        first, last
            Range of z, in blocks, both included.

        Raises
        ------
        ConflictError
            If both sides of a merge changed a z in the range; posting the ROI anew resolves it.
        """
        return _joined_rows(self.keys.scan(_key(first), _key(last) + b"\0"))

    def replace(self, spans: Spans) -> None:
        """Make these blocks the ROI.

        Parameters
        ----------
        spans
            In any order; they may overlap.

        Raises
        ------
        InvalidInputError
            If a coordinate does not fit into 32 bits, or a span ends before it begins.
        SealedError
            If the version is not open.
        """
        rows = _rows(normalised(spans))

        def change(tx: InstanceTxn) -> None:
            old = _stored(tx)
            for key in old.keys() - rows.keys():
                tx.delete(key)
            for key, value in rows.items():
                if old.get(key) != value:
                    tx.put(key, value)

        self.transact(change)

    def clear(self) -> None:
        """Empty the ROI at this version; raises as `replace`."""
        self.replace(np.zeros((0, 4), np.int64))

    def z_range(self) -> tuple[int, int] | None:
        """First and last z of its blocks; None without blocks.

        Where both sides of a merge changed it, the range that holds the ROI of each side.
        """
        try:
            return _z_range(self.keys)
        except ConflictError:
            sides = [side for p in self.version.parents if (side := self.at(p).z_range())]
            return (min(a for a, _ in sides), max(b for _, b in sides)) if sides else None

    # ------------------------------------------------------------ asking

    def block_mask(self, lo: Sequence[int], hi: Sequence[int]) -> NDArray[np.bool_]:
        """Which blocks of a box of block coordinates (upper corner exclusive) belong to the ROI; shape hi - lo."""
        shape = geometry.shape_of((tuple(lo), tuple(hi)))
        edges = np.zeros((*shape[:2], shape[2] + 1), np.int8)
        if 0 not in shape:
            z, y, x0, x1 = (self.spans(lo[0], hi[0] - 1) - [*lo, lo[2]]).T
            met = (y >= 0) & (y < shape[1]) & (x1 >= 0) & (x0 < shape[2])
            # Spans don't touch, so that no two of them begin or end at one place.
            edges[z[met], y[met], np.maximum(x0[met], 0)] = 1
            edges[z[met], y[met], np.minimum(x1[met] + 1, shape[2])] = -1
        return np.cumsum(edges, axis=2, dtype=np.int8)[..., :-1].astype(np.bool_)

    def mask(self, lo: Sequence[int], hi: Sequence[int], *, block_zyx: Coord | None = None) -> NDArray[np.bool_]:
        """Which voxels of a box (upper corner exclusive) belong to the ROI; shape hi - lo.

        Parameters
        ----------
        block_zyx
            Blocks that the ROI's coordinates are taken to count; its own by default.
        """
        block = block_zyx or self.block_zyx
        first, end = geometry.blocks_of_box((tuple(lo), tuple(hi)), block)
        found = self.block_mask(first, end)
        for axis in (2, 1, 0):  # the innermost first, while there is least to copy
            edges = np.arange(first[axis], end[axis] + 1) * block[axis]
            found = found.repeat(np.diff(edges.clip(lo[axis], hi[axis])), axis)
        return found

    def contains(self, points_zyx: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether voxels belong to the ROI.

        Parameters
        ----------
        points_zyx
            Shape (n, 3).

        Returns
        -------
        ndarray
            Shape (n,).
        """
        blocks = points_zyx // np.array(self.block_zyx)
        asked = np.unique(blocks[:, 0]).tolist()
        values = self.keys.get_many(_key(z) for z in asked)
        spans = _joined_rows((_key(z), v) for z, v in zip(asked, values, strict=True) if v is not None)
        lines, of_span = np.unique(_line(spans), return_inverse=True)
        line = _line(blocks)
        # Each line of blocks gets a range of numbers of its own, so that one sorted array holds all spans.
        at = np.searchsorted(lines, line)
        known = at < len(lines)
        known[known] = lines[at[known]] == line[known]
        nearest = np.searchsorted(_numbered(of_span, spans[:, 2]), _numbered(at, blocks[:, 2]), "right") - 1
        inside = known & (nearest >= 0)
        inside[inside] = _numbered(of_span, spans[:, 3])[nearest[inside]] >= _numbered(at, blocks[:, 2])[inside]
        return inside

    def partition_json(self, size: int, *, optimized: bool = False) -> dict[str, Any]:
        """Subvolumes that cover the ROI; see `vzarr.types.partition.partition_json`."""
        return partition_json(self.spans(), self.block_zyx, size, optimized=optimized)

    def info_json(self) -> dict[str, Any]:
        """DVID's JSON about the instance; without blocks the least z is the largest number and the other way round."""
        low, high = self.z_range() or (_HIGH, _LOW)
        extended = {"BlockSize": list(self.block_xyz), "MinZ": low, "MaxZ": high}
        return {"Base": self.base_json(), "Extended": extended}


@dataclass(frozen=True)
class Within:
    """A restriction of voxels to a ROI (DVID HTTP API, ``?roi=`` and ``?attenuation=``).

    As for DVID, the ROI's coordinates count blocks of the data that it restricts, whatever its own block size is; it
    names the same voxels as the ROI's mask where both sizes are equal.

    Parameters
    ----------
    roi
        Where voxels stay as they are.
    attenuation
        By how many bits values of 8 bits are shifted elsewhere, which darkens them; 0 makes them 0.
    """

    roi: Roi
    attenuation: int = 0

    def apply(self, voxels: NDArray[Any], lo: Sequence[int], block_zyx: Coord) -> NDArray[Any]:
        """Voxels of a box that begins at `lo`, attenuated outside of the ROI.

        Parameters
        ----------
        block_zyx
            Edges of the data's blocks.

        Raises
        ------
        UnsupportedError
            If voxels of other than 8 bits should be attenuated.
        """
        if self.attenuation and voxels.dtype != np.uint8:
            raise UnsupportedError("only voxels of 8 bits can be attenuated outside of a ROI")
        inside = self.roi.mask(lo, [a + n for a, n in zip(lo, voxels.shape, strict=True)], block_zyx=block_zyx)
        return np.where(inside, voxels, voxels >> self.attenuation if self.attenuation else voxels.dtype.type(0))

    def blocks(self, box: Box, block_zyx: Coord) -> list[Coord]:
        """Blocks inside the ROI, of those of a box of whole blocks (voxels, upper corner exclusive)."""
        first, end = geometry.blocks_of_box(box, block_zyx)
        return [tuple(c) for c in (np.argwhere(self.roi.block_mask(first, end)) + first).tolist()]


# ---------------------------------------------------------------- spans


def spans_from_json(value: Any) -> Spans:
    """Spans that a JSON list ``[[z, y, x0, x1], ...]`` names.

    Raises
    ------
    InvalidInputError
        If it is no such list of integers of 32 bits, or a span ends before it begins.
    """
    good = isinstance(value, list) and all(
        isinstance(s, list) and len(s) == 4 and all(type(c) is int and _LOW <= c <= _HIGH for c in s) for s in value
    )
    if not good:
        raise InvalidInputError("a ROI is a JSON list of spans [z, y, x0, x1], integers of 32 bits")
    return normalised(np.array(value, np.int64).reshape(-1, 4))


def normalised(spans: Spans) -> Spans:
    """The same blocks in sorted spans that neither overlap nor touch.

    Raises
    ------
    InvalidInputError
        If a coordinate does not fit into 32 bits, or a span ends before it begins.
    """
    if spans.size and (spans.min() < _LOW or spans.max() > _HIGH):
        raise InvalidInputError("coordinates of spans should fit into 32 bits")
    if (spans[:, 2] > spans[:, 3]).any():
        raise InvalidInputError("a span [z, y, x0, x1] should not end before it begins")
    if not spans.size:
        return spans
    spans = spans[np.lexsort((spans[:, 2], spans[:, 1], spans[:, 0]))]
    _, line = np.unique(_line(spans), return_inverse=True)
    start, end = _numbered(line, spans[:, 2]), np.maximum.accumulate(_numbered(line, spans[:, 3]))
    begins = np.flatnonzero(np.concatenate([[True], start[1:] > end[:-1] + 1]))
    ends = np.concatenate([begins[1:], [len(spans)]]) - 1
    joined = spans[begins]
    joined[:, 3] = end[ends] - _numbered(line[ends], np.zeros(len(ends), np.int64))
    return joined


def _line(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Number of the line along x that (z, y, ...) names; sorts like (z, y)."""
    z, y = ((rows[:, axis] + _SIGN).astype(np.uint64) for axis in (0, 1))
    return (z << np.uint64(32)) | y


def _numbered(line: NDArray[np.integer[Any]], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position on one axis on which all lines lie behind each other, with a gap between them."""
    return (line.astype(np.int64) << 33) + x


# ---------------------------------------------------------------- rows of keys


def _key(z: int) -> bytes:
    """Key of a z; as bytes they sort like the number."""
    return _ROW + (z + _SIGN).to_bytes(4, "big")


def _rows(spans: Spans) -> dict[bytes, bytes]:
    """Rows of keys for sorted spans: (y, x0, x1) of each span, int32 little-endian."""
    at, first = np.unique(spans[:, 0], return_index=True)
    parts = np.split(spans[:, 1:].astype(_PACKED), first[1:])
    return {_key(z): part.tobytes() for z, part in zip(at.tolist(), parts, strict=False)}


def _joined_rows(rows: Iterable[tuple[bytes, bytes]]) -> Spans:
    """Inverse of `_rows`."""
    parts = [np.zeros((0, 4), np.int64)]
    for key, value in rows:
        part = np.frombuffer(value, _PACKED).reshape(-1, 3)
        z = int.from_bytes(key[1:], "big") - _SIGN
        parts.append(np.column_stack([np.full(len(part), z, np.int64), part]))
    return np.concatenate(parts)


def _stored(tx: InstanceTxn) -> dict[bytes, bytes]:
    """All rows.  Those that collide at a merge are taken away: whoever replaces the ROI resolves them."""
    while True:
        try:
            return dict(tx.scan(_ROW, _key(_HIGH) + b"\0"))
        except ConflictError as error:
            for key in error.conflicts:
                tx.delete(key)


def _z_range(keys: InstanceKeys) -> tuple[int, int] | None:
    ends = [
        int.from_bytes(key[1:], "big") - _SIGN
        for backwards in (False, True)
        for key in keys.scan_keys(_ROW, _key(_HIGH) + b"\0", limit=1, reverse=backwards)
    ]
    return (ends[0], ends[1]) if ends else None


def _region(info: InstanceInfo, keys: InstanceKeys) -> Region:
    """The voxels of a ROI, by its own block size."""
    block = geometry.reverse(list(map(int, info.config["blocksize"].split(","))))
    return Region(block, _joined_rows(keys.scan(_key(_LOW), _key(_HIGH) + b"\0")))


def _configure(config: Mapping[str, str]) -> dict[str, str]:
    size = settings.integers(config, "blocksize", (32, 32, 32), 1, 1024)
    return {**config, "blocksize": ",".join(map(str, size))}


def _name(row: bytes) -> str:
    """What a row is about."""
    return f"z = {int.from_bytes(row[1:], 'big') - _SIGN}"


ROI = Datatype(
    name="roi",
    handle=Roi,
    summary="Region of interest: a set of blocks, posted as spans; masks, point queries and partitions of it.",
    url="github.com/janelia-flyem/dvid/datatype/roi",
    configure=_configure,
    key_name=_name,
    region=_region,
)
