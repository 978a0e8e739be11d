"""All repos of a server: the folders below one root folder, and the versions in them by name."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import vzarr
from vzarr.api.behind import Behind
from vzarr.api.errors import UnknownReferenceError
from vzarr.errors import AlreadyExistsError, FormatError, InvalidInputError, NotFoundError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.history.refs import check_node_id
from vzarr.overlay.history.state import State
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.opening import open_objects
from vzarr.overlay.repo import Repo
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import mirrored
from vzarr.overlay.transfer.place import WHOLE
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.version import Version
from vzarr.types import registry
from vzarr.types.base import Instance

log = logging.getLogger(__name__)

MOST_FOUND = 1000
"""References whose meaning is remembered."""
LOOK_SECONDS = 5.0
"""How long what was listed on an object store may be taken for all there is."""
_GONE_SECONDS = 0.1
"""How long a version of a repo that somebody removed may still be found by its whole id."""


@dataclass(frozen=True)
class Found:
    """What a reference names, for as long as it does.

    Parameters
    ----------
    repo, version
        What it names.
    sealed
        Whether the version is sealed.
    repos, states
        What that follows from: all repos, and what the logs say of those that were asked.
    whole
        Whether the reference is a version's whole id.
    """

    repo: Repo
    version: Version
    sealed: bool
    repos: _Known
    states: Sequence[tuple[Repo, State]]
    whole: bool
    _handles: dict[str, Instance] = field(default_factory=dict)

    def holds(self, repos: _Known) -> bool:
        """Whether nothing that it follows from has changed."""
        if self.repos is not repos:
            return False
        for repo, state in self.states:  # noqa: SIM110 - a third quicker, for every request
            if repo.state is not state:
                return False
        return True

    @property
    def is_near(self) -> bool:
        """Whether chunks and keys are on this machine."""
        return self.repo.objects.path("") is not None and isinstance(self.repo.authority.kv, SqliteKV)

    def instance(self, name: str) -> Instance:
        """Handle on an instance of the version (see `registry.open_instance`)."""
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = registry.open_info(self.version, self.version.instance_info(name))
        if not self.sealed:
            handle.datatype.resume(handle)
        return handle


@dataclass(frozen=True)
class _Known:
    """Repos by folder, as of one look at the root folder; folders that are no repo yet stand in `pending`."""

    stamp: int
    repos: dict[str, Repo]
    pending: frozenset[str]


class Hub:
    """Repos below a root folder, each in a subfolder named by its root version.

    Parameters
    ----------
    root
        Folder that holds repos (made if absent), or one repo's own folder, which is then the only one; or the URL of
        either on an object store.
    keys
        Where the keys of new repos lie (see `vzarr.create`); by default in each repo.
    durability
        What new repos outlast (see `vzarr.create`).

    Notes
    -----
    Safe for use from several threads.  A repo that another process makes is found by the next call; on an object store
    within `LOOK_SECONDS`.  One whose folder is removed is gone soon.
    """

    def __init__(self, root: str | os.PathLike[str], keys: str | None = None, durability: str = "process") -> None:
        self._objects = open_objects(root)
        folder = self._objects.path("")
        self.root = None if folder is None else Path(folder)
        self._folder = str(folder)
        self._keys, self._durability = keys, durability
        self.behind = Behind()
        self._lock = threading.Lock()
        self._known = _Known(-1, {}, frozenset())
        self._found: dict[str, Found] = {}
        self._look_by = 0.0
        self._complaints: dict[str, str] = {}
        self._places: dict[str, StoredPlace] = {}
        try:
            if self.root is not None:
                self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"could not make the folder {self.root}: {error}") from error
        self._is_repo = self._objects.size(layout.REPO) is not None

    def repos(self) -> list[Repo]:
        """Handles on all repos, oldest folder name first; each is opened once and kept."""
        return list(self._current().repos.values())

    def _current(self) -> _Known:
        known, self._look_by = self._known, time.monotonic() + _GONE_SECONDS
        if (not known.pending or self.root is None) and known.stamp == self._stamp():
            return known
        with self._lock:
            self._known = self._look()
            return self._known

    def current(self) -> list[Repo]:
        """As `repos`, each with the keys that its log names by now."""
        return list(self._with_keys(self._current()).repos.values())

    def _with_keys(self, known: _Known) -> _Known:
        """Open repos again whose keys have moved; whoever still uses the old handle is told so."""
        moved = {name: repo for name, repo in known.repos.items() if repo.authority.number in repo.state.moved}
        if not moved:
            return known
        with self._lock:
            for name, repo in moved.items():
                if self._known.repos.get(name) is repo:  # else somebody was quicker
                    fresh = vzarr.open(repo.url)
                    self._known = replace(self._known, repos={**self._known.repos, name: fresh})
            return self._known

    def find(self, ref: str) -> tuple[Repo, Version]:
        """Version that a reference of a URL names: ``ID``, ``PREFIX``, ``PREFIX:BRANCH~N``, ``:BRANCH``.

        A prefix counts over all repos; an exact id is preferred to longer ones.

        Raises
        ------
        UnknownReferenceError
            If nothing has that name.
        InvalidInputError
            If several versions do.
        """
        found = self.look_up(ref)
        return found.repo, found.version

    def look_up(self, ref: str) -> Found:
        """As `find`, with what else is known of the version; looked for again only after something has changed."""
        found = self._found.get(ref)
        # Whatever is new below the root folder, a whole id means what it meant.
        is_sure = found is not None and found.whole and time.monotonic() < self._look_by
        known = self._known if is_sure else self._current()
        if found is None or not found.holds(known):
            found = self._look_up(self._with_keys(known), ref)
            if len(self._found) >= MOST_FOUND:
                self._found.clear()
            self._found[ref] = found
        return found

    def _look_up(self, known: _Known, ref: str) -> Found:
        repos = list(known.repos.values())
        states = [(repo, repo.state) for repo in repos]  # before anything follows from them
        prefix, colon, branch = ref.partition(":")
        if colon and not prefix:
            repo = self._only_repo()
            version = self._version(repo, ref)
        else:
            repo, node = self._by_prefix(prefix)
            version = self._version(repo, f"{node}:{branch}" if branch else node)
            if node == prefix:  # repos behind the first that has an exact id are not asked
                states = states[: repos.index(repo) + 1]
        return Found(repo, version, version.sealed, known, states, ref == version.uuid)

    def create(self, *, alias: str = "", description: str = "", root: str | None = None, passcode: str = "") -> Repo:
        """Make a repo in a folder of its own.

        Parameters
        ----------
        root
            Id of its root version; a random one if None.
        passcode
            See `vzarr.create`.

        Raises
        ------
        AlreadyExistsError
            If a version of any repo has that id.
        InvalidInputError
            If the id cannot name a version, or the root folder is one repo itself.
        """
        node = root or uuid.uuid4().hex
        self._check_new(node)
        self._places.pop(self._url(node), None)
        with self._lock:
            about = {"alias": alias, "description": description, "passcode": passcode}
            repo = vzarr.create(self._url(node), root=node, keys=self._keys, durability=self._durability, **about)
            self._known = _Known(-1, {**self._known.repos, node: repo}, self._known.pending)
            return repo

    def place(self, ref: str) -> StoredPlace:
        """A repo as one end of a transfer; a root names one that is still on its way, too.

        Raises
        ------
        UnknownReferenceError, InvalidInputError
            As `find`.
        """
        try:
            url = self._by_prefix(ref)[0].url
        except UnknownReferenceError:
            if self._is_repo or not layout.NODE_ID.fullmatch(ref):
                raise
            url = self._url(ref)
            if self._objects.size(f"{ref}/{layout.REPO}") is None:
                raise
        known = self._places.get(url)
        return known or self._places.setdefault(url, StoredPlace(open_objects(url)))

    def begin(self, root: str, limits: Limits = WHOLE) -> None:
        """Make the place for a clone of the repo with that root; may be done again.

        Parameters
        ----------
        limits
            What it will have.

        Raises
        ------
        AlreadyExistsError, InvalidInputError
            As `create`.
        """
        if any(repo.uuid == root for repo in self.repos()):
            raise AlreadyExistsError(f"the server has repo {root} already: push to it, or pull from it")
        self._check_new(root)
        place = self._afresh(root)
        # What was begun goes on as it was.
        durability = self._durability if place.size(layout.REPO) is None else None
        place.begin(root, self._keys, limits=limits, durability=durability)

    def begin_mirror(self, root: str, meta: bytes) -> bool:
        """Make the place for a mirror of the repo with that root, by its ``vzarr.json``; False if there is one.

        Raises
        ------
        AlreadyExistsError, InvalidInputError
            As `create`; or if there is the repo itself, or `meta` is not that of a mirror.
        """
        mirrored.begin(meta, root)
        try:
            place = self.place(root)
        except UnknownReferenceError:
            self._check_new(root)
            return self._afresh(root).objects.create(layout.REPO, meta)
        mirrored.check_is_mirror(place)
        return False

    def _afresh(self, root: str) -> StoredPlace:
        """The place for a repo, of which nothing is remembered: another one of that root may have been removed."""
        url = self._url(root)
        self._places.pop(url, None)
        return StoredPlace(open_objects(url))

    def look_again(self) -> None:
        """Let the next look at the repos find one that has just been made."""
        with self._lock:
            self._known = _Known(-1, self._known.repos, self._known.pending)

    def close(self) -> None:
        """Close all repos, once nothing is left to do in them."""
        self.behind.wait()
        with self._lock:
            for repo in self._known.repos.values():
                repo.close()
            self._known = _Known(-1, {}, frozenset())

    def _check_new(self, root: str) -> None:
        if self._is_repo:
            raise InvalidInputError(f"{self.root or self._objects.url} is one repo, this server can make no other")
        check_node_id(root)
        if any(root in repo.state.nodes for repo in self.repos()):
            raise AlreadyExistsError("UUID already exists in datastore")

    def _url(self, name: str) -> str:
        """URL of the repo in a folder, or of the root folder for ""."""
        base = self._objects.url if self.root is None else str(self.root)
        return f"{base}/{name}" if name else base

    def _stamp(self) -> int:
        """Changes when there may be something new below the root folder."""
        if self._is_repo:
            return 0
        if self.root is None:
            return int(time.monotonic() // LOOK_SECONDS)
        return os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - quicker, for every request

    def _look(self) -> _Known:
        """Look at the root folder again; the stamp is taken first, so that nothing is missed in between."""
        stamp = self._stamp()
        folders = [""] if self._is_repo else self._objects.list_dir("")[0]
        repos, pending = {}, set()
        for name in folders:
            found = self._known.repos.get(name) or self._open(name)
            if found is None:
                pending.add(name)
            else:
                repos[name] = found
        return _Known(stamp, repos, frozenset(pending))

    def _open(self, name: str) -> Repo | None:
        """Open a repo; one that cannot be opened (yet) must not take the others down with it."""
        url = self._url(name)
        try:
            if self._objects.size(f"{name}/{layout.REPO}" if name else layout.REPO) is None:
                return None
            return vzarr.open(url)
        except (FormatError, StorageError) as error:
            if self._complaints.get(url) != str(error):
                self._complaints[url] = str(error)
                log.error("skipped %s: %s", url, error)
            return None

    def _by_prefix(self, prefix: str) -> tuple[Repo, str]:
        repos = self.repos()
        found = [(repo, prefix) for repo in repos if prefix in repo.state.nodes]
        if not found:
            found = [(repo, node) for repo in repos for node in repo.state.with_prefix(prefix)] if prefix else []
        if not found:
            raise UnknownReferenceError(f"could not find UUID with partial match to {prefix}")
        if len(found) > 1:
            raise InvalidInputError(f"more than one UUID matches {prefix}")
        return found[0]

    def _only_repo(self) -> Repo:
        repos = self.repos()
        if len(repos) != 1:
            raise InvalidInputError("UUID must be specified if more than one repo exists")
        return repos[0]

    @staticmethod
    def _version(repo: Repo, ref: str) -> Version:
        try:
            return repo[ref]
        except NotFoundError as error:
            raise UnknownReferenceError(str(error)) from error
