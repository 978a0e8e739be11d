"""xarray: ``xr.open_dataset(REPO, engine="vzarr", version="master")`` opens any version, lazily, without a server.

``xr.open_dataset("vzarr://master@/em::REPO")`` says the same by its URL alone; ``xr.open_datatree`` opens every scale.
Voxels are written back through the version's Zarr store, where a variable has the name of its scale::

    part.rename("0").drop_vars(["z", "y", "x"]).to_dataset().to_zarr(version.store, group="em", region=...)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint, CachingFileManager
from xarray.core import indexing

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.fsspec import split_url
from vzarr.overlay.hierarchy.naming import folder_in
from vzarr.overlay.version import Version
from vzarr.types import registry, voxels
from vzarr.types.labelmap.relabel import relabel
from vzarr.types.labelmap.view import LabelView

if TYPE_CHECKING:
    from vzarr.overlay.repo import Repo

DIMS = ("z", "y", "x")


class VzarrBackend(BackendEntrypoint):
    """Opens the voxel instances of one version as variables over physical coordinates.

    Examples
    --------
    >>> xr.open_dataset("repo", engine="vzarr", version="master", instance="grayscale")    # doctest: +SKIP
    """

    description = "Versions of a vzarr repo"
    url = "https://github.com/vzarr/vzarr"
    supports_groups = True
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "version", "instance", "scale", "bodies")

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        version: str = "master",
        instance: str | None = None,
        scale: int = 0,
        bodies: bool = False,
    ) -> xr.Dataset:
        """Open one version.

        Parameters
        ----------
        filename_or_obj
            Path or URL of a repo, or ``vzarr://[REF@/][INSTANCE]::REPO``.
        drop_variables
            Instances to leave out.
        version
            Branch, tag, id, or unique beginning of an id; a URL's own wins.
        instance
            One voxel instance, or the path of any array of the version, or of a group with scales ``0``, ``1``, …; by
            default the URL's, or all voxel instances.
        scale
            Scale of the pyramid; 0 is the finest.
        bodies
            Whether labelmaps are shown as bodies rather than as the supervoxels that are stored.

        Returns
        -------
        xr.Dataset
            One lazy variable (z, y, x) per instance; coordinates are the centres of voxels in the unit that the
            OME-Zarr metadata name: ``scale * index + translation``.  An array without such metadata has none.

        Raises
        ------
        NotFoundError
            No such repo, version, instance or scale.
        InvalidInputError
            Instances of different coordinates, and none was chosen; the message lists them.
        """
        repo, version, named = _address(os.fspath(filename_or_obj), version)
        manager = CachingFileManager(_open, repo, mode="r")
        try:
            dataset = _dataset(manager, version, instance or named, scale, _names(drop_variables), bodies)
        except BaseException:
            manager.close()
            raise
        dataset.set_close(manager.close)
        return dataset

    def open_groups_as_dict(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        version: str = "master",
        instance: str | None = None,
        bodies: bool = False,
    ) -> dict[str, xr.Dataset]:
        """Every scale of every instance, or of one, as the group ``/INSTANCE/SCALE``; see `open_dataset`."""
        repo, version, named = _address(os.fspath(filename_or_obj), version)
        manager = CachingFileManager(_open, repo, mode="r")
        try:
            groups = _groups(manager, version, instance or named, _names(drop_variables), bodies)
        except BaseException:
            manager.close()
            raise
        for dataset in groups.values():
            dataset.set_close(manager.close)
        return groups

    def open_datatree(  # type: ignore[override]
        self, filename_or_obj: str | os.PathLike[str], **options: Any
    ) -> xr.DataTree:
        """What `open_groups_as_dict` gives, as a tree."""
        groups = self.open_groups_as_dict(filename_or_obj, **options)
        tree = xr.DataTree.from_dict(groups)
        tree.set_close(groups["/"].close)
        return tree

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether a path or URL is one of ``vzarr://``, or names a folder on this machine with a repo in it."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        text = os.fspath(filename_or_obj)
        if text.startswith("vzarr://"):
            return "::" in text
        path = unquote(urlsplit(text).path) if text.startswith("file://") else text
        return "://" not in path and (Path(path) / "vzarr.json").is_file()


def _dataset(
    manager: CachingFileManager[Repo], ref: str, instance: str | None, scale: int, dropped: set[str], bodies: bool
) -> xr.Dataset:
    """Dataset of one version; what the backend's method says of its parameters holds."""
    version = manager.acquire()[ref]
    there = _voxel_instances(version, scale)
    names = [name for name in there if name not in dropped]
    if instance is None and scale and not there:
        raise NotFoundError(f"nothing has a scale {scale} in {ref!r}; {_list(_voxel_instances(version, 0))}")
    if instance is not None and not _has(version, instance, scale):
        raise NotFoundError(f"no voxel instance {instance!r} of scale {scale} in {ref!r}; {_list(names)}")
    chosen = names if instance is None else [instance]
    found = {name: _variable(manager, version, name, scale, bodies) for name in chosen}
    return xr.Dataset(
        {name: variable for name, (variable, _) in found.items()},
        _common(names, {name: coords for name, (_, coords) in found.items()}),
        {"vzarr_version": version.uuid, "vzarr_scale": scale},
    )


def _groups(
    manager: CachingFileManager[Repo], ref: str, instance: str | None, dropped: set[str], bodies: bool
) -> dict[str, xr.Dataset]:
    """Datasets of all scales by path."""
    version = manager.acquire()[ref]
    names = [instance] if instance else [n for n in _voxel_instances(version, 0) if n not in dropped]
    groups = {"/": xr.Dataset(attrs={"vzarr_version": version.uuid})}
    for name in names:
        scale = 0
        while scale == 0 or _has(version, name, scale):
            groups[f"/{name}/{scale}"] = _dataset(manager, version.uuid, name, scale, dropped, bodies)
            scale += 1
    return groups


def _address(text: str, version: str) -> tuple[str, str, str | None]:
    """URL of the repo, ref, and instance that a path or URL names; the given ref where it names none."""
    if not text.startswith("vzarr://"):
        return text, version, None
    ref, path, repo = split_url(text)
    if not repo:
        raise InvalidInputError(f"{text!r} names no repo: vzarr://[REF@/][INSTANCE]::REPO")
    return repo, ref or version, path or None


def _names(names: str | Iterable[str] | None) -> set[str]:
    return {names} if isinstance(names, str) else set(names or ())


def _open(url: str, mode: str) -> Repo:
    """Open a repo as a file manager asks for it; a version decides by itself whether it can be written."""
    return vzarr.open(url)


class VersionArray(BackendArray):
    """One array of one version, read by region; holds no data and can be pickled.

    Parameters
    ----------
    manager
        Opens the repo.
    node
        Id of the version.
    path
        Of the array in the version.
    lo
        Global coordinates of its first voxel.
    shape, dtype
        Of the array.
    bodies
        Labelmap whose bodies are shown instead of what is stored; None for none.
    """

    def __init__(
        self, manager: CachingFileManager[Repo], node: str, path: str, lo: Coord, shape: Coord, dtype: np.dtype[Any],
        bodies: str | None = None,
    ) -> None:  # fmt: skip
        self._bodies = bodies
        self._manager, self._node, self._path, self._lo = manager, node, path, lo
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Voxels of any xarray indexer."""
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        repo = self._manager.acquire()
        version = repo.outside if self._node == layout.UNVERSIONED else Version(repo, self._node)
        ranges = [_range(part, size) for part, size in zip(key, self.shape, strict=True)]
        if any(abs(r.step) > 1 for r in ranges):
            # Only Zarr's own indexing leaves out the chunks between the steps.
            return self._shown(version, np.asarray(_array(version, self._path)[key]))
        lo = tuple(o + min(r, default=0) for o, r in zip(self._lo, ranges, strict=True))
        hi = tuple(a + len(r) for a, r in zip(lo, ranges, strict=True))
        region = self._shown(version, version.read(self._path, lo, hi))
        flips = tuple(slice(None, None, r.step) for r in ranges)
        return region[flips][tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in key)]

    def _shown(self, version: Version, stored: NDArray[Any]) -> NDArray[Any]:
        if self._bodies is None:
            return stored
        handle = registry.open_info(version, version.instance_info(self._bodies))
        assert isinstance(handle, LabelView)
        return relabel(stored, handle.lookup)


def _range(part: int | slice, size: int) -> range:
    """Indices that one part of a basic indexer stands for."""
    if isinstance(part, slice):
        return range(*part.indices(size))
    index = int(part) + (size if part < 0 else 0)
    return range(index, index + 1)


def _voxel_instances(version: Version, scale: int) -> list[str]:
    """Names of the instances that have voxels at a scale of a version."""
    return [name for name in sorted(version.repo.state.instances) if _has(version, name, scale)]


def _has(version: Version, name: str, scale: int) -> bool:
    """Whether an instance, or a path, has voxels at a scale."""
    at, path = _place(version, name, scale)
    return at.has_array(path)


def _place(version: Version, name: str, scale: int) -> tuple[Version, str]:
    """Where an instance's array is, and its path there: in the version, or outside of all; of no instance, its path."""
    if name not in version.repo.state.instances:
        path = name.strip("/")
        return version, path if scale == 0 and version.has_array(path) else voxels.array_path(path, scale)
    info = version.instance_info(name)
    at = version if info.versioned else version.repo.outside
    return at, voxels.array_path(folder_in(info, at.repo.known, lambda: at.view.entries), scale)


def _variable(
    manager: CachingFileManager[Repo], version: Version, name: str, scale: int, bodies: bool
) -> tuple[xr.Variable, dict[str, xr.Variable]]:
    """Lazy voxels of one instance, or of a path, and its coordinates."""
    info = version.instance_info(name) if name in version.repo.state.instances else None
    version, path = _place(version, name, scale)
    array = _array(version, path)
    bounds = version.bounds(path)
    lo = bounds[0] if bounds else (0,) * array.ndim
    relabelled = name if bodies and info and isinstance(registry.open_info(version, info), LabelView) else None
    data = VersionArray(manager, version.view.node, path, lo, array.shape, array.dtype, relabelled)
    # Dask's chunks are whole stored objects: two tasks that share a shard would both read and decode it.
    dims = _dims(array)
    encoding = {"chunks": array.chunks, "preferred_chunks": dict(zip(dims, array.shards or array.chunks, strict=True))}
    if array.shards:
        encoding["shards"] = array.shards
    attributes = {"datatype": info.typename, "instance": info.data_uuid} if info else {}
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(data), attributes, encoding)
    group, _, own = path.rpartition("/")
    return variable, _coordinates(version.attributes(group).get("ome", {}), own, dims, lo, array.shape)


def _dims(array: zarr.Array[Any]) -> tuple[str, ...]:
    """Names of an array's axes: its own, else z, y, x, and ``dim_0``, ``dim_1`` where there are not three."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(named, list | tuple) and len({n for n in named if n}) == array.ndim:
        return tuple(map(str, named))
    return DIMS if array.ndim == len(DIMS) else tuple(f"dim_{n}" for n in range(array.ndim))


def _array(version: Version, path: str) -> zarr.Array[Any]:
    """The Zarr array at a path."""
    return zarr.open_array(version.store, path=path, mode="r")


def _coordinates(
    ome: Mapping[str, Any], own: str, dims: tuple[str, ...], lo: Coord, shape: Coord
) -> dict[str, xr.Variable]:
    """Centres of voxels in physical units, after OME-NGFF 0.5 (scale first, then translation); none where unsaid."""
    multiscale: Mapping[str, Any] = next(iter(ome.get("multiscales", [])), {"axes": [], "datasets": []})
    steps: list[Any] = next((d["coordinateTransformations"] for d in multiscale["datasets"] if d["path"] == own), [])
    factor = next((step["scale"] for step in steps if step["type"] == "scale"), None)
    if factor is None or tuple(axis["name"] for axis in multiscale["axes"]) != dims:
        return {}
    shift = next((step["translation"] for step in steps if step["type"] == "translation"), (0.0,) * len(dims))
    return {
        axis["name"]: xr.Variable(
            (axis["name"],),
            (np.arange(size) + first) * a + b,
            {"units": axis["unit"]} if "unit" in axis else {},
        )
        for axis, size, first, a, b in zip(multiscale["axes"], shape, lo, factor, shift, strict=True)
    }


def _common(names: list[str], coordinates: Mapping[str, Mapping[str, xr.Variable]]) -> Mapping[str, xr.Variable]:
    """The coordinates that all chosen instances share.

    Raises
    ------
    InvalidInputError
        They share none.
    """
    every = list(coordinates.values())
    for other in every[1:]:
        if other.keys() != every[0].keys() or not all(_same(other[dim], every[0][dim]) for dim in other):
            raise InvalidInputError(f"these instances lie on different coordinates: choose instance=; {_list(names)}")
    return every[0] if every else {}


def _same(a: xr.Variable, b: xr.Variable) -> bool:
    """Whether two coordinates are equal, units included."""
    return np.array_equal(a.values, b.values) and a.attrs == b.attrs


def _list(names: list[str]) -> str:
    """Names as a person reads them."""
    return f"there are: {', '.join(names)}" if names else "there is none"
