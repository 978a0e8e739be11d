"""Deleted instances: what they keep outside of sealed versions, and the end of it, after which none can come back.

Sealed versions stay as they were sealed, with all that the instance stored in them, and hidden as before; who wants the
space back makes a new repo of some versions (`vzarr clone --versions`), which leaves deleted instances out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice

from vzarr.errors import SealedError
from vzarr.overlay import layout
from vzarr.overlay.care.gc import Garbage
from vzarr.overlay.hierarchy.naming import folder_in
from vzarr.overlay.hierarchy.tree import ArrayEntry, below
from vzarr.overlay.history.state import InstanceInfo, State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.kv.base import Item, OrderedKV, Transaction, prefix_end
from vzarr.overlay.kv.rows import prefixes_of
from vzarr.overlay.views.base import View
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView

BATCH = 5000
"""Rows that one transaction deletes."""

Views = Callable[[str], View]


def find(authority: Authority, state: State, views: Views, grace: float) -> list[Garbage]:
    """Deleted instances that may be collected, and those of which a collection was begun and has left something.

    Parameters
    ----------
    authority, state, views
        The key authority, what the log says, and what gives a version's view.
    grace
        Seconds that must have gone by since an instance was deleted.
    """
    old, found = time.time() - grace, []
    makers = {info.maker for info in state.deleted.values() if info.maker and not info.collected}
    busy = makers - authority.presence.gone(makers)
    for info in state.deleted.values():
        if info.maker in busy and not info.collected:
            continue
        if info.collected or datetime.fromisoformat(info.deleted).timestamp() <= old:
            sizes = list(_holdings(info, authority, state, views))
            if sizes or not info.collected:
                found.append(Garbage("instance", info.data_uuid, len(sizes), sum(sizes)))
    return found


def _holdings(info: InstanceInfo, authority: Authority, state: State, views: Views) -> Iterator[int]:
    """Sizes of an instance's rows of keys, and of its objects in open versions."""
    yield from (len(key) + len(value) for key, value in _rows(authority.kv, info))
    for view, folder in _open(info, state, views):
        for path in below(view.entries, folder):
            entry = view.entries[path]
            if isinstance(entry, ArrayEntry):
                yield from (size for _key, size in authority.objects.walk(view.own_folder(entry)))


def remove(info: InstanceInfo, authority: Authority, state: State, views: Views) -> None:
    """Remove what an instance keeps outside of sealed versions; may be done again after it was interrupted."""
    for view, folder in _open(info, state, views):
        try:
            view.delete_dir(folder)
        except SealedError:
            continue  # by now it is one of those that stay
    while some := list(islice(_rows(authority.kv, info), BATCH)):
        keys = [key for key, _value in some]

        def forget(txn: Transaction, keys: list[bytes] = keys) -> None:
            for key in keys:
                txn.delete(key)

        authority.kv.transact(forget)
    unversioned.drop(authority.objects, authority.locks, info.data_uuid)


def _open(info: InstanceInfo, state: State, views: Views) -> Iterator[tuple[OpenView | RootView, str]]:
    """Open versions in which an instance has a group, and its path; or what belongs to none, if it is not versioned."""
    opened = [node.id for node in state.nodes.values() if not node.sealed]
    for node in opened if info.versioned else [layout.UNVERSIONED]:
        view = views(node)
        folder = folder_in(info, state, lambda view=view: view.entries)  # type: ignore[misc]
        if isinstance(view, OpenView | RootView) and any(below(view.entries, folder)):
            yield view, folder


def _rows(kv: OrderedKV, info: InstanceInfo) -> Iterator[Item]:
    instance = bytes.fromhex(info.data_uuid)
    for prefix in (*prefixes_of(instance), layout.row_changed(instance)):
        yield from kv.scan(prefix, prefix_end(prefix))
