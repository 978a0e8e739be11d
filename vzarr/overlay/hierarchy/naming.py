"""Instances and the groups of their arrays: how a version's hierarchy is shown once names and folders differ.

The group of an instance's arrays is called as the instance was when it was made, in every version, and stays so: a
sealed version never changes.  A renamed instance is seen by its new name all the same, and the old path still leads
there; of a deleted one nothing is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry, below
from vzarr.overlay.history.state import InstanceInfo, State

Entries = Mapping[str, Entry]


def folder_in(info: InstanceInfo, state: State, entries: Callable[[], Entries]) -> str:
    """Group of an instance's arrays in a version.

    Two repos may have made instances of one name before one of them was renamed and they came together.  Then the
    arrays tell whose they are, for their identities name instances.

    Parameters
    ----------
    info, state
        The instance, and what the log says.
    entries
        Gives the version's groups and arrays; asked only where others have a folder of that name, too.
    """
    if not info.versioned:
        return shared_folder(info)
    rivals = {rival.data_uuid for rival in state.rivals(info)}
    if not rivals:
        return info.path
    arrays = {path: e.id.creator for path, e in entries().items() if isinstance(e, ArrayEntry)}
    own = [path.rpartition("/")[0] for path, creator in arrays.items() if creator == info.data_uuid]
    if own:
        return min(own)
    taken = any(arrays[path] in rivals for path in below(arrays, info.path))
    return f"{info.path}~{info.data_uuid[:8]}" if taken else info.path


def shared_folder(info: InstanceInfo) -> str:
    """Group of an unversioned instance's arrays, outside of versions: no two instances have one, whoever made them."""
    return f"{info.path}~{info.data_uuid[:8]}"


@dataclass(frozen=True)
class Naming:
    """How the top-level groups of a version are shown.

    Parameters
    ----------
    folders
        Name -> group, of instances whose group has another name.
    hidden
        Groups of deleted instances.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, state: State, entries: Callable[[], Entries]) -> Self:
        """How a version with some groups and arrays is shown; what is stored under a name goes before an instance."""
        if not state.renamed:
            return cls()
        deleted = (info for info in state.deleted.values() if info.versioned)
        hidden = frozenset(folder_in(info, state, entries) for info in deleted)
        stored = {path.partition("/")[0] for path in entries()} - hidden
        versioned = (info for info in state.instances.values() if info.versioned)
        named = {info.name: folder_in(info, state, entries) for info in versioned}
        folders = {name: folder for name, folder in named.items() if name != folder and name not in stored}
        return cls(folders, hidden - set(named.values()))

    @classmethod
    def outside(cls, state: State) -> Self:
        """How the groups of unversioned instances are shown."""
        folders = {info.name: shared_folder(info) for info in state.instances.values() if not info.versioned}
        hidden = (shared_folder(info) for info in state.deleted.values() if not info.versioned)
        return cls(folders, frozenset(hidden))

    def __bool__(self) -> bool:
        return bool(self.folders or self.hidden)

    def stored(self, key: str) -> str | None:
        """Key or folder as it is stored that is shown as `key`; None for one that is hidden."""
        first, slash, rest = key.partition("/")
        if first in self.folders:
            return self.folders[first] + slash + rest
        return None if first in self.hidden else key

    def shown(self, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Keys as they are shown, but for hidden ones, each with what it is stored as."""
        names = {folder: name for name, folder in self.folders.items()}
        for key in keys:
            first, slash, rest = key.partition("/")
            if first not in self.hidden:
                yield names.get(first, first) + slash + rest, key

    def entries(self, stored: Entries) -> Entries:
        """Groups and arrays as they are shown, by path."""
        return {path: stored[key] for path, key in self.shown(stored)} if self else stored


PLAIN = Naming()
"""Everything is shown as it is stored."""
