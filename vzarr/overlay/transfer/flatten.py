"""A new repo whose root is what one version of another holds: arrays, groups, keys and instances, without its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError, SealedError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.kv.base import Item
from vzarr.overlay.kv.versioned import InstanceTxn
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.owners.directory import CONFLICT, DELETED, FIRST_OWNER, coords_in, side
from vzarr.overlay.sealing.leftout import gone
from vzarr.overlay.views.base import SealedView
from vzarr.overlay.views.rootview import RootView

if TYPE_CHECKING:
    from vzarr.overlay.repo import Repo
    from vzarr.overlay.version import Version

BATCH = 5000


def flatten_into(version: Version, target: Repo) -> None:
    """Give the open, empty root of a new repo all that a sealed version holds, and seal it.

    Instances get ids of their own, and keys are what the version sees; unversioned instances come as they are now.
    The two repos are strangers from then on.

    Raises
    ------
    SealedError
        If the version is still open.
    ConflictError
        If it has chunks or keys in conflict.
    """
    source, view, root = version.repo, version.view, target.view(target.uuid)
    if not isinstance(view, SealedView):
        raise SealedError(f"version {version.uuid} is open: commit it first")
    assert isinstance(root, RootView)
    _copy_metadata(view, root)
    for path, entry in view.tree.arrays().items():
        _copy_chunks(view, entry, root, path)
    for key in sorted(view.loose()):
        found = view.read_loose(key)
        assert found is not None
        root.put_loose(key, found[0])
    for info in source.state.instances.values():
        _copy_instance(version, info, target)
    line = f"flattened from version {version.uuid} of repo {source.uuid}"
    target.root.commit(version.note or line, log=[line])


def _copy_metadata(view: SealedView, root: RootView) -> None:
    marked: dict[str, ArrayEntry] = {}
    for path, entry in sorted(view.entries.items()):
        if isinstance(entry, ArrayEntry) and not entry.is_plain:
            marked[path] = replace(entry, source=_with_pins(view, entry, root))
        else:
            for name, data in entry.docs.items():
                root.put_doc(f"{path}/{name}" if path else name, data)
    if marked:
        root.adopt({}, marked)


def _with_pins(view: SealedView, entry: ArrayEntry, root: RootView) -> Mapping[str, Any] | None:
    """An adopted array's source, its pins brought along."""
    if entry.source is None or "pins" not in entry.source:
        return entry.source
    old = entry.source["pins"]
    new = layout.pins(root.node, old.rpartition("/")[2])
    root.storage.objects.put(new, _read(view, old))
    return {**entry.source, "pins": new}


def _copy_chunks(view: SealedView, entry: ArrayEntry, root: RootView, path: str) -> None:
    made = root.array(path)
    assert made is not None
    for at, ref in view.owners.pages(entry.id):
        page, ndim = view.owners.reader.page(ref), entry.spec.ndim

        def coords(local: NDArray[np.int64], at: Coord = at, ndim: int = ndim) -> list[Coord]:
            return [tuple(row) for row in coords_in(at, local, side(ndim), ndim).tolist()]

        if disputed := coords(np.flatnonzero(page.codes == CONFLICT)):
            raise ConflictError(f"chunks of {path} were changed differently in merged versions", disputed)
        stored = np.flatnonzero(page.codes >= FIRST_OWNER)
        owners = [str(page.owner(local)) for local in stored.tolist()]

        def copy(item: tuple[Coord, str]) -> None:
            root.put_chunk(made, item[0], _read(view, view.storage.chunk_key(item[1], entry, item[0])))

        share(copy, list(zip(coords(stored), owners, strict=True)), root.storage.objects.concurrency)
        if entry.source is not None:
            for coord in coords(np.flatnonzero(page.codes == DELETED)):
                root.delete_chunk(made, coord)


def _copy_instance(version: Version, info: InstanceInfo, target: Repo) -> None:
    target.record_instance(
        target.root, info.name, info.typename, versioned=info.versioned, config=info.config, tags=info.tags
    )
    made = target.update_instance(info.name, syncs=info.syncs)
    rows = iter(version.repo.keys.at(version.uuid, info).scan())
    while some := list(islice(rows, BATCH)):
        target.keys.transact(target.uuid, made, partial(_put, some))


def _put(rows: Sequence[Item], txn: InstanceTxn) -> None:
    for key, value in rows:
        txn.put(key, value)


def _read(view: SealedView, key: str) -> bytes:
    data = view.storage.objects.get(key)
    if data is None:
        raise gone(view.storage.objects, key, f"{key} is missing, which version {view.node} needs")
    return data
