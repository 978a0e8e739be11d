"""What a version holds otherwise than those that a copy of it comes from, written into that copy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from vzarr.errors import ConflictError
from vzarr.geometry import Coord
from vzarr.overlay.extract.content import Content
from vzarr.overlay.extract.flat import put
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Entry
from vzarr.overlay.history.dag import ancestry
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.kv.batches import batched
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.owners.directory import ABSENT, CONFLICT, DELETED, coords_in, side
from vzarr.overlay.threeway.pages import differing_pages
from vzarr.overlay.transfer.copying import Progress
from vzarr.overlay.version import Version
from vzarr.overlay.views.base import SealedView
from vzarr.overlay.views.openview import OpenView


class _Task(NamedTuple):
    """A chunk to write, or (without an owner) to delete."""

    entry: ArrayEntry
    made: ArrayEntry
    coord: Coord
    owner: str


class Differences:
    """A sealed version, and an open one of another repo that is to hold the same.

    Parameters
    ----------
    version
        The sealed version.
    made
        Its copy, open; versions of one id hold the same in both repos where they are sealed in the other.
    view
        What the copy looks like.

    Notes
    -----
    Versions are compared by who owns what, in the one repo; what is the same is not read.  An array that got another
    path since its parent is written anew.
    """

    def __init__(self, version: Version, made: Version, view: OpenView) -> None:
        self._version, self._made, self._view = version, made, view
        self._content = Content.of(version, shown=False)
        self._parents = [parent.uuid for parent in made.parents]

    def write(self, progress: Progress | None) -> None:
        """Write them; may be done again after it was interrupted."""
        same = self._write_metadata()
        tasks = list(self._tasks(same))
        objects = self._view.storage.objects
        share(partial(self._copy, progress, len(tasks)), tasks, objects.concurrency)
        self._write_loose()
        for info in self._content.infos:
            if info.versioned:
                self._write_keys(info)

    # -- metadata

    def _write_metadata(self) -> set[str]:
        """Groups and arrays; gives paths of those arrays that go on from a parent."""
        wanted, same = self._content.entries, set[str]()
        for path in [p for p in self._view.entries if p not in wanted]:
            self._drop(path)
        for path, entry in sorted(wanted.items()):
            found = self._view.entry(path)
            if not isinstance(entry, ArrayEntry):
                if isinstance(found, ArrayEntry):
                    self._drop(path)
                self._write_docs(path, entry, self._view.entry(path))
            elif isinstance(found, ArrayEntry) and self._goes_on(path, entry.id, found.id):
                same.add(path)
                if entry.window != found.window:
                    self._view.grow(path, entry.window, exact=True)
                self._write_docs(path, entry, self._view.entry(path))
            else:
                self._make(path, entry, found)
        return same

    def _goes_on(self, path: str, array: ArrayId, made: ArrayId) -> bool:
        """Whether an array is that of a parent, in both repos."""
        for parent in self._parents:
            here, there = self._entry(self._version, parent, path), self._entry(self._made, parent, path)
            if isinstance(here, ArrayEntry) and isinstance(there, ArrayEntry) and (here.id, there.id) == (array, made):
                return True
        return False

    def _make(self, path: str, entry: ArrayEntry, found: Entry | None) -> None:
        if isinstance(found, ArrayEntry) and self._is_own(found.id):
            self._write_docs(path, entry, found)  # made by whoever was interrupted
        else:
            if found is not None:
                self._drop(path)
            known = entry.id.creator in {info.data_uuid for info in self._content.infos}
            self._view.put_array(path, entry.docs, entry.id.creator if known else self._made.uuid)
        if any(entry.origin):
            self._view.grow(path, entry.window, exact=True)
            self._write_docs(path, entry, self._view.entry(path))

    def _is_own(self, made: ArrayId) -> bool:
        """Whether an array was made by the copy itself."""
        return all(not isinstance(e, ArrayEntry) or e.id != made for e in self._view.base.entries.values())

    def _write_docs(self, path: str, entry: Entry, found: Entry | None) -> None:
        there = {} if found is None else found.docs
        for name, data in entry.docs.items():
            if there.get(name) != data:
                self._view.put_doc(f"{path}/{name}" if path else name, data)
        for name in there.keys() - entry.docs.keys():
            self._view.delete_doc(f"{path}/{name}" if path else name)

    def _drop(self, path: str) -> None:
        entry = self._view.entry(path)
        if isinstance(entry, ArrayEntry):
            self._view.delete_dir(path)
        elif entry is not None:
            for name in entry.docs:
                self._view.delete_doc(f"{path}/{name}" if path else name)

    # -- chunks

    def _tasks(self, same: set[str]) -> Iterator[_Task]:
        for path, some in self._content.chunks():
            if path not in same:
                entry, made = self._arrays(path)
                yield from (_Task(entry, made, coord, owner) for coord, owner in some)
        for path in sorted(same):
            yield from self._changed(*self._arrays(path))

    def _arrays(self, path: str) -> tuple[ArrayEntry, ArrayEntry]:
        entry, made = self._content.entries[path], self._view.entry(path)
        assert isinstance(entry, ArrayEntry)
        assert isinstance(made, ArrayEntry)
        return entry, made

    def _changed(self, entry: ArrayEntry, made: ArrayEntry) -> Iterator[_Task]:
        """Chunks of an array that are not those that its copy inherits."""
        mine, ndim = self._content.view.owners, entry.spec.ndim
        above, known = [self._sealed(self._version, parent).owners for parent in self._parents], set[Coord]()
        for at in sorted(differing_pages(entry.id, [mine, *above])):
            page, base = mine.page(entry.id, at), self._view.base.owners.page(made.id, at)
            used = [p.codes != ABSENT for p in (page, base) if p is not None]
            local = np.flatnonzero(np.logical_or.reduce(used)) if used else np.zeros(0, np.int64)
            for row in coords_in(at, local, side(ndim), ndim).tolist():
                task = self._compared(entry, made, tuple(row))
                if task is not None:
                    known.add(task.coord)
                    yield task
        # Whoever joined the parents' data may have written, too.
        for coord, _key, _size in self._view.own_chunks(made):
            if coord not in known:
                wanted = mine.owner(entry.id, coord)
                yield _Task(entry, made, coord, wanted if isinstance(wanted, str) else "")

    def _compared(self, entry: ArrayEntry, made: ArrayEntry, coord: Coord) -> _Task | None:
        wanted, there = self._content.view.owners.owner(entry.id, coord), self._view.base.owners.owner(made.id, coord)
        if wanted == CONFLICT:
            raise ConflictError(f"chunk {coord} of {entry.id.path} was changed differently in merged versions", [coord])
        if isinstance(wanted, str):
            stored = isinstance(there, str)
            known = self._sealed(self._version, str(there)).owners.owner(entry.id, coord) if stored else ABSENT
            return None if known == wanted else _Task(entry, made, coord, wanted)
        hidden = wanted == DELETED and there == ABSENT and entry.source is not None
        return _Task(entry, made, coord, "") if isinstance(there, str) or hidden else None

    def _copy(self, progress: Progress | None, total: int, task: _Task) -> None:
        data = self._content.chunk(task.entry, task.owner, task.coord) if task.owner else b""
        if task.owner:
            self._view.put_chunk(task.made, task.coord, data)
        else:
            self._view.delete_chunk(task.made, task.coord)
        if progress is not None:
            progress(total, len(data))

    # -- keys

    def _write_loose(self) -> None:
        wanted, there = self._content.view.loose(), dict(self._view.loose())
        for key in self._content.loose:
            node = there.pop(key, None)
            known = node is not None and node != self._made.uuid
            if not known or self._sealed(self._version, str(node)).loose().get(key) != wanted[key]:
                self._view.put_loose(key, self._content.loose_bytes(key))
        for key in there:
            self._view.delete_loose(key)

    def _write_keys(self, info: InstanceInfo) -> None:
        made = self._made.repo.state.instances[info.name]
        rows = iter(self._key_changes(info, made))
        for some in batched(rows):
            self._made.transact(made, partial(put, some))

    def _key_changes(self, info: InstanceInfo, made: InstanceInfo) -> Iterator[Change]:
        """Keys that the copy sees otherwise than the version, and what they should be."""
        source, target = self._version.repo, self._made.repo
        lines = [frozenset(ancestry(parent, source.state.parents)) for parent in self._parents]
        between = frozenset(ancestry(self._version.uuid, source.state.parents)) - frozenset.intersection(*lines)
        keys = {key for node in between for key in source.keys.changed(node, info)}
        keys |= {*target.keys.changed(self._made.uuid, made)}
        mine, there = source.keys.at(self._version.uuid, info), target.keys.at(self._made.uuid, made)
        for key in sorted(keys):
            wanted = mine.get(key)
            try:
                same = there.get(key) == wanted
            except ConflictError:
                same = False
            if not same:
                yield key, wanted

    # -- parts

    @staticmethod
    def _sealed(version: Version, node: str) -> SealedView:
        view = version.repo.view(node)
        assert isinstance(view, SealedView)
        return view

    def _entry(self, version: Version, node: str, path: str) -> Entry | None:
        return self._sealed(version, node).entries.get(path)
