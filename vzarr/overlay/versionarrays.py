"""What one does with a version's arrays: make, read and write them by global voxel, and ask who wrote what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.geometry import Box, Coord
from vzarr.overlay.compare.blame import Blame, blame_array
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.reading import regions, resizing
from vzarr.overlay.views import paths
from vzarr.overlay.views.base import View, refuse_sealed
from vzarr.overlay.views.grid import Grid
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView

if TYPE_CHECKING:
    from vzarr.overlay.repo import Repo


class VersionArrays(ABC):
    """The arrays of a version; the base of `vzarr.overlay.version.Version`.

    Boxes and points are in global voxel coordinates, zyx for volumes, signed; upper corners are exclusive.
    """

    repo: Repo
    uuid: str

    @property
    @abstractmethod
    def view(self) -> View:
        """What the version looks like now (for the overlay's own use)."""

    def create_array(
        self,
        path: str,
        *,
        dtype: Any,
        chunks: Sequence[int],
        codecs: str | Sequence[Any] = "image",
        fill_value: Any = 0,
        shape: Sequence[int] | None = None,
        dimension_names: Sequence[str] | None = arrays.ZYX,
        attributes: Mapping[str, Any] | None = None,
        creator: str | None = None,
    ) -> None:
        """Make an array, and the groups above it; nothing happens when the path has an array already.

        Parameters
        ----------
        path
            Where, below the root group.
        dtype, chunks, fill_value, dimension_names, attributes
            As in Zarr; one entry of `chunks` per axis.
        codecs
            ``"image"`` (blosc lz4, bit-shuffled), ``"labels"`` (zstd 1), or compressors as zarr takes them.
        shape
            Voxels per axis; by default none, and the array grows as chunks are written.
        creator
            Names the array's identity in place of this version: a data id makes it one array on all branches.
        """
        docs = arrays.array_docs(
            shape or (0,) * len(chunks), chunks, dtype, codecs, fill_value, dimension_names, attributes
        )
        view = self._open()
        paths.check_new(view, path, is_array=True)
        view.put_array(path, docs, creator or self.uuid)
        self.create_group(path.rpartition("/")[0])

    def create_group(self, path: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Make a group, and those above it; given attributes replace those of a group that is there."""
        view = self._open()
        paths.check_new(view, path, is_array=False)
        parts = path.split("/") if path else []
        for n in range(len(parts)):
            above = "/".join(parts[:n])
            if view.entry(above) is None:
                view.put_doc(*arrays.group_row(above, None))
        entry = view.entry(path)
        if entry is None or attributes is not None:
            view.put_doc(*arrays.group_row(path, attributes, entry))

    def has_array(self, path: str) -> bool:
        """Whether the path has an array."""
        return self.view.array(path) is not None

    def attributes(self, path: str) -> dict[str, Any]:
        """Attributes of a group or array.

        Raises
        ------
        NotFoundError
            If nothing is there.
        """
        entry = self.view.entry(path)
        if entry is None:
            raise NotFoundError(f"version {self.uuid} has nothing at {path!r}")
        return arrays.attributes_of(entry)

    def bounds(self, path: str) -> Box | None:
        """Voxel box that an array covers, upper corner exclusive, or None while it is empty."""
        entry = self._entry(path)
        return None if any(n == 0 for n in entry.spec.shape) else entry.window

    def chunk_shape(self, path: str) -> Coord:
        """Shape of an array's stored chunks.

        Raises
        ------
        InvalidInputError
            If its chunk grid is not regular.
        """
        entry = self._entry(path)
        if entry.spec.chunks is None:
            raise InvalidInputError(f"the chunk grid of {path!r} is not regular")
        return entry.spec.chunks

    def read(self, path: str, lo: Sequence[int], hi: Sequence[int], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Voxels of a box (see `regions.read_region`)."""
        entry = self._entry(path)
        return regions.read_region(self.view, entry, (regions.point(entry, lo), regions.point(entry, hi)), out)

    def read_chunks(self, path: str, coords: Iterable[Sequence[int]]) -> Iterator[tuple[Coord, NDArray[Any] | None]]:
        """Decoded chunks by chunk coordinate, in order; None where absent."""
        entry = self._entry(path)
        return regions.read_chunks(self.view, entry, [regions.point(entry, c) for c in coords])

    def write(self, path: str, lo: Sequence[int], voxels: NDArray[Any], *, step: int = 1) -> None:
        """Write a box of voxels; chunks at its border are read, changed and written whole, and the array grows."""
        view, start = self._open(), regions.point(self._entry(path), lo)
        regions.check_axes(self._entry(path), voxels.shape)
        end = tuple(a + n for a, n in zip(start, voxels.shape, strict=True))
        with view.writer.write():
            resizing.cover(view, path, self._entry(path), (start, end), step)
            regions.write_region(view, self._entry(path), start, voxels)

    def write_chunks(
        self,
        path: str,
        chunks: Mapping[Coord, NDArray[Any]],
        *,
        extent: Box | None = None,
        step: int = 1,
        aside: str = "",
    ) -> None:
        """Write whole chunks by chunk coordinate; each replaces an older one atomically.

        Parameters
        ----------
        extent
            Voxels that the array must cover afterwards; by default all of the chunks'.
        step
            Grain, in chunks, of growth below the first voxel (see `with_window`).
        aside
            Name under which the chunks wait for `place_chunks`; by default they are put in place.
        """
        if not chunks:
            return
        view, entry = self._open(), self._entry(path)
        chunks = {regions.chunk(entry, coord): voxels for coord, voxels in chunks.items()}
        box = extent or regions.bounding_box(chunks, self.chunk_shape(path))
        with view.writer.write():
            if box is not None:
                resizing.cover(view, path, self._entry(path), box, step)
            regions.write_chunks(view, self._entry(path), chunks, aside)

    def place_chunks(self, path: str, aside: str) -> None:
        """Put chunks in place that were written aside; may be done again after it was interrupted."""
        regions.place_chunks(self._open(), self._entry(path), aside)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Context that makes several writes, of chunks and of keys, one as far as a commit is concerned.

        A commit waits for its end, and nothing inside it is refused because a commit has begun meanwhile.

        Raises
        ------
        SealedError
            If the version takes no writes, or stopped trusting this process before the end: the writes then count
            as not made.
        """
        with self._open().writer.write():
            yield

    def delete_chunks(self, path: str, coords: Iterable[Sequence[int]]) -> None:
        """Delete chunks by chunk coordinate; nothing happens where none is."""
        view, entry = self._open(), self._entry(path)
        with view.writer.write():
            for coord in coords:
                view.delete_chunk(entry, regions.point(entry, coord))

    def chunk_coords(
        self, path: str, lo: Sequence[int] | None = None, hi: Sequence[int] | None = None
    ) -> NDArray[np.int64]:
        """Coordinates of stored chunks, shape (n, ndim), sorted; only those in a box of chunk coordinates if given."""
        entry = self._entry(path)
        box = None if lo is None or hi is None else (regions.point(entry, lo), regions.point(entry, hi))
        found = regions.coords_within(self.view.chunk_coords(entry, box), box)
        return found[np.lexsort(found.T[::-1])] if found.shape[1] else found

    def owners(self, path: str, coords: Iterable[Sequence[int]]) -> list[str | None]:
        """Id of the version that stored each chunk: who last wrote here; None where absent."""
        view, entry = self.view, self._entry(path)
        return [view.chunk_owner(entry, regions.point(entry, c)) for c in coords]

    def conflicts(self, path: str) -> list[Coord]:
        """Chunks of an array that merged versions changed differently: reading one raises, writing it resolves."""
        return Grid.of(self.view, self._entry(path)).conflicts()

    def blame(self, path: str, box: Box | None = None) -> Blame:
        """Which version last wrote each chunk of an array, or of a box of voxels of it."""
        return blame_array(self.view, self.repo.state, path, self._entry(path), self.chunk_shape(path), box)

    def grow(self, path: str, before: Sequence[int], after: Sequence[int], *, step: int = 1) -> None:
        """Make an array cover more voxels before its first and after its last, per axis.

        Handles that are open keep the origin they had; open a new one to see voxels before it.
        """
        resizing.grow(self._open(), path, self._entry(path), before, after, step)

    def resize(self, path: str, lo: Sequence[int], hi: Sequence[int]) -> None:
        """Make an array cover a box of voxels and no more; chunks that then lie wholly outside are deleted.

        The box must begin where a chunk does.  Readers see it at once; who dies before all is deleted may do it again.
        """
        view, entry = self._open(), self._entry(path)
        resizing.resize(view, path, entry, (regions.point(entry, lo), regions.point(entry, hi)))

    def rename(self, source: str, target: str) -> None:
        """Give a group or array, with all below it, another path in this version, and make the groups above that."""
        view = self._open()
        groups = paths.check_rename(view, source, target)
        with view.writer.write():
            for key, data in groups.items():
                view.put_doc(key, data)
            view.rename(source, target)

    # -- parts

    def _entry(self, path: str) -> ArrayEntry:
        entry = self.view.array(path)
        if entry is None:
            raise NotFoundError(f"version {self.uuid} has no array {path!r}")
        return entry

    def _open(self) -> OpenView | RootView:
        view = self.view
        if not isinstance(view, OpenView | RootView):
            raise refuse_sealed(self.uuid)
        return view
