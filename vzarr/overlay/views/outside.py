"""Arrays that belong to no version: those of unversioned instances, which all versions share and none seals.

They lie in a folder of their own, ``nodes/unversioned/zarr``, edited in place like an open root's.  Readers without the
repo's keys know of arrays that are not plain from a list beside it, which each commit renews.
"""

from __future__ import annotations

import orjson

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import Entry, Tree
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.kv.section import Unreachable
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.views.base import SealedView, Storage
from vzarr.overlay.views.rootview import RootView


class OutsideView(RootView):
    """What belongs to no version.

    Parameters
    ----------
    storage, authority
        The repo.
    """

    def __init__(self, storage: Storage, authority: Authority) -> None:
        super().__init__(storage, layout.UNVERSIONED, authority, _never)

    @property
    def is_here(self) -> bool:
        """Whether the repo holds what belongs to no version; a mirror does not."""
        keys = self.authority.kv
        return not (isinstance(keys, Unreachable) and keys.elsewhere)

    def look(self) -> None:
        """Take note of what others changed; without the repo's keys, of what the last commit found.

        Raises
        ------
        AuthorityUnavailableError
            In a mirror, which would show nothing where the original has something.
        """
        keys = self.authority.kv
        if isinstance(keys, Unreachable):
            if not self.is_here:
                keys.refuse()
            self._marked, self._counter = read(self.storage.objects).arrays(), 0
        else:
            super().look()


def _never(_node: str) -> SealedView:
    raise AssertionError("what belongs to no version is never sealed")


def read(objects: Objects) -> Tree:
    """Arrays that are not plain, as the last commit found them.

    Raises
    ------
    FormatError
        If the list of them is damaged.
    """
    data = objects.get(layout.tree(layout.UNVERSIONED))
    try:
        return Tree() if data is None else Tree.from_bytes(data)
    except (ValueError, LookupError, TypeError) as e:
        raise FormatError(f"{layout.tree(layout.UNVERSIONED)} is damaged: {e}") from e


def keep(objects: Objects, authority: Authority) -> None:
    """Write down which arrays are not plain, for readers without keys, if that has changed."""
    prefix = layout.row_tree(layout.UNVERSIONED, "")
    rows = authority.kv.scan(prefix, layout.after(prefix))
    found = Tree({key[len(prefix) :].decode(): Entry.from_json(orjson.loads(value)) for key, value in rows})
    if found.entries != read(objects).entries:
        objects.put(layout.tree(layout.UNVERSIONED), found.to_bytes())
