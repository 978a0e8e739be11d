"""A new repo whose root is what one version of another holds: arrays, groups, keys and instances, without its past."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vzarr.errors import AlreadyExistsError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.extract.content import Content, keys_of, read
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.kv.versioned import InstanceTxn
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.repo import Repo
from vzarr.overlay.transfer.copying import Progress
from vzarr.overlay.transfer.region import Region
from vzarr.overlay.version import Version
from vzarr.overlay.views.rootview import RootView


def flatten(
    version: Version, url: str, *, keys: str | None = None, instances: Collection[str] | None = None,
    within: Region | None = None, progress: Progress | None = None,
) -> str:  # fmt: skip
    """Make a new repo whose sealed root is what a sealed version holds, or a part of it.

    Instances get ids of their own, and keys are what the version sees; unversioned instances come as they are now.
    The two repos are strangers from then on.  What was begun and cut off goes on when it is asked for again.

    Parameters
    ----------
    version
        The version.
    url, keys
        Where the new repo is to be, and its keys (see `vzarr.create`).
    instances
        Names of those that are taken, with nothing beside them; None for all, and all else.
    within
        Region of space that is taken of volumes; None for all.
    progress
        Told of each chunk.

    Returns
    -------
    str
        Id of the new root.

    Raises
    ------
    SealedError
        If the version is still open.
    ConflictError
        If it has chunks or keys in conflict.
    AlreadyExistsError
        If there is a repo already.
    NotFoundError, UnsupportedError
        If there is no such instance, or it cannot be taken in part.
    """
    content = Content.of(version, instances, within, shown=True)
    source = version.repo
    with begun(url, f"vzarr flatten {version.uuid}", source, keys) as target:
        root = target.view(target.uuid)
        assert isinstance(root, RootView)
        write_root(content, root, progress)
        for info in content.infos:
            _copy_instance(version, info, target)
        if instances is None:
            copy_strays(source, target)
        target.root.commit(version.note or _line(version), log=[_line(version)])
        return target.uuid


def _line(version: Version) -> str:
    return f"flattened from version {version.uuid} of repo {version.repo.uuid}"


def begun(url: str, app: str, source: Repo, keys: str | None) -> Repo:
    """A new repo with an open root, or one that was begun for the same purpose, which the first log entry names."""
    about = {"alias": source.state.alias, "description": source.state.description}
    try:
        return Repo.create(url, keys=keys, app=app, **about)
    except AlreadyExistsError:
        found = Repo.open(url)
        if found.root.sealed or found.log()[0].app != app:
            found.close()
            raise
        return found


def write_root(content: Content, root: RootView, progress: Progress | None) -> None:
    """Write groups, arrays, chunks and other keys into an open root; what is there already stays."""
    _write_metadata(content, root)
    total = sum(len(some) for _path, some in content.chunks()) if progress is not None else 0
    objects = root.storage.objects
    for path, some in content.chunks():
        made, entry = root.array(path), content.entries[path]
        assert made is not None
        assert isinstance(entry, ArrayEntry)
        share(partial(_copy_chunk, content, entry, root, made, (progress, total)), some, objects.concurrency)
    for path, entry in content.arrays.items():
        made = root.array(path)
        if entry.source is not None and made is not None:
            for coord in content.deleted(entry):
                root.delete_chunk(made, coord)
    for key in sorted(content.loose):
        root.put_loose(key, content.loose_bytes(key))


def _copy_chunk(
    content: Content, entry: ArrayEntry, root: RootView, made: ArrayEntry, told: tuple[Progress | None, int],
    item: tuple[Coord, str],
) -> None:  # fmt: skip
    coord, owner = item
    data = content.chunk(entry, owner, coord)
    if root.storage.objects.size(root.storage.chunk_key(root.node, made, coord)) is None:
        root.put_chunk(made, coord, data)
    progress, total = told
    if progress is not None:
        progress(total, len(data))


def _write_metadata(content: Content, root: RootView) -> None:
    marked: dict[str, ArrayEntry] = {}
    for path, entry in sorted(content.entries.items()):
        if isinstance(entry, ArrayEntry) and not entry.is_plain:
            marked[path] = replace(entry, source=_with_pins(content, entry, root))
        else:
            for name, data in entry.docs.items():
                root.put_doc(f"{path}/{name}" if path else name, data)
    root.adopt({}, {path: entry for path, entry in marked.items() if root.array(path) is None})


def _with_pins(content: Content, entry: ArrayEntry, root: RootView) -> Mapping[str, Any] | None:
    """An adopted array's source, its pins brought along."""
    if entry.source is None or "pins" not in entry.source:
        return entry.source
    old = entry.source["pins"]
    new = layout.pins(root.node, old.rpartition("/")[2])
    root.storage.objects.put(new, read(content.view, old))
    return {**entry.source, "pins": new}


def _copy_instance(version: Version, info: InstanceInfo, target: Repo) -> None:
    if info.name not in target.state.instances:
        target.record_instance(
            target.root, info.name, info.typename, versioned=info.versioned, config=info.config, tags=info.tags
        )
    made = target.update_instance(info.name, syncs=info.syncs)
    for some in keys_of(version, info):
        target.keys.transact(target.uuid, made, partial(put, some))


def copy_strays(source: Repo, target: Repo) -> None:
    """Copy keys that belong to no version and no instance, such as blobs."""
    for data_uuid in source.keys.strays():
        info = InstanceInfo("", "", data_uuid, target.uuid, versioned=False)
        for some in keys_of(source.root, info):
            target.keys.transact(target.uuid, info, partial(put, some))


def put(rows: Sequence[Change], txn: InstanceTxn) -> None:
    """Set some keys, or delete those without a value."""
    for key, value in rows:
        if value is None:
            txn.delete(key)
        else:
            txn.put(key, value)
