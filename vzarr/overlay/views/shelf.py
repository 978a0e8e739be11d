"""The views of a repo's versions, made when asked for; sealed ones are kept, since they never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial

from vzarr.errors import NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import NodeInfo
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.sealing import seal
from vzarr.overlay.views.base import SealedView, Storage, View
from vzarr.overlay.views.commit import Base, base_owners
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.outside import OutsideView
from vzarr.overlay.views.rootview import RootView

KEPT = 64
"""Sealed views to keep."""


class Shelf:
    """Views by version.

    Parameters
    ----------
    storage
        The repo's objects and pages.
    authority
        Keeps what open versions are.
    log
        Says which versions there are, and what they come from.
    """

    def __init__(self, storage: Storage, authority: Authority, log: RepoLog) -> None:
        self.storage, self.authority, self._log = storage, authority, log
        self._views: OrderedDict[str, View] = OrderedDict()
        # Views know this, and not the shelf that keeps them.
        self._load_sealed = partial(_load_sealed, storage, log)
        self._lock = threading.RLock()

    def view(self, node: str) -> View:
        """What a version looks like now."""
        view = self._views.get(node)
        if view is not None:
            return view
        with self._lock:
            view = self._views[node] = self._views.get(node) or self._load(node)
            for old in [n for n, v in self._views.items() if v.sealed][:-KEPT]:
                del self._views[old]
            return view

    def sealed_view(self, node: str) -> SealedView:
        """What a sealed version looks like."""
        view = self.view(node)
        return view if isinstance(view, SealedView) else self._load_sealed(node)

    def fresh(self, node: str) -> OpenView | RootView:
        """An open version as it is stored, without anything remembered, for who is about to seal it."""
        view = self._load(node)
        assert isinstance(view, OpenView | RootView)
        return view

    def forget(self, node: str) -> None:
        """Make a version's view anew next time: it has been sealed."""
        with self._lock:
            self._views.pop(node, None)

    def base(self, node: str) -> Base:
        """What an open version builds on, as its commit needs it."""
        info = self._log.about(node).nodes[node]
        if not info.parents:
            return Base(None, base_owners(self._load(node)))
        view = self._base_view(info)
        if len(info.parents) == 1:
            return Base(self.record(info.parents[0]), view.owners)
        return Base(seal.load_record(self.storage.objects, layout.base(node), None), view.owners)

    def record(self, node: str) -> seal.Record:
        """The seal of a sealed version, checked against the log."""
        return _record(self.storage, self._log, node)

    def _base_view(self, info: NodeInfo) -> SealedView:
        if len(info.parents) == 1:
            return self.sealed_view(info.parents[0])
        record = seal.load_record(self.storage.objects, layout.base(info.id), None)
        return SealedView.load(self.storage, info.id, record)

    def _load(self, node: str) -> View:
        if node == layout.UNVERSIONED:
            return OutsideView(self.storage, self.authority)
        # If it has been sealed since the log was last asked, the view will notice.
        info = self._log.naming(node).nodes.get(node)
        if info is None:
            raise NotFoundError(f"no version {node}")
        if info.sealed:
            return self._load_sealed(node)
        if not info.parents:
            return RootView(self.storage, node, self.authority, self._load_sealed)
        return OpenView(self.storage, node, self._base_view(info), self.authority, self._load_sealed)


def _record(storage: Storage, log: RepoLog, node: str) -> seal.Record:
    return seal.load_record(storage.objects, layout.seal(node), log.about(node).nodes[node].seal)


def _load_sealed(storage: Storage, log: RepoLog, node: str) -> SealedView:
    return SealedView.load(storage, node, _record(storage, log, node))
