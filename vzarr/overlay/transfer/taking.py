"""Taking open versions as they are at one moment, while others write into them.

What they have stored is copied beforehand, again and again while it changes.  Then all writers pause (see `paused`):
for as long as it takes to list what is there, to read what changed since it was copied, and to begin a snapshot of the
keys.  So every write is there whole or not at all, voxels, keys and metadata alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import NamedTuple

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.overlay import layout, opening
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.authority import LOST, Authority
from vzarr.overlay.keys.pause import paused
from vzarr.overlay.kv import sidecar
from vzarr.overlay.kv.base import Reader
from vzarr.overlay.kv.mutationids import peek_mutation_id
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import LINK, Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing import seal
from vzarr.overlay.transfer import moment
from vzarr.overlay.transfer.copying import WORKERS, Progress
from vzarr.overlay.transfer.moment import Held, Moment
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.views.paths import is_key

ROUNDS = 4
"""How often changes are copied before the pause, at most."""
FEW = 64
"""So few changes are not worth another round."""
ATTEMPTS = 3
"""How often a pause is tried that writers do not make, or that lasts too long."""
KEPT_BYTES = 256 << 20
"""What is read during the pause waits in memory for its end, up to so much; reading is fast, the mirror may be far."""
_PASSING = (b"p", b"w")
"""Kinds of rows of an open version that end with whoever wrote them: pauses and leases."""


class Taken(NamedTuple):
    """Open versions of one moment: what the log said then, and what is still to be published."""

    state: State
    moment: Moment
    held: dict[str, Held]
    nbytes: int


def take(source: StoredPlace, target: Objects, progress: Progress | None) -> Taken:
    """Copy what open versions are at one moment; nothing refers to it yet.

    Parameters
    ----------
    source, target
        A repo, and where its mirror lies.
    progress
        Told of each object.

    Raises
    ------
    AuthorityUnavailableError
        If the repo's keys cannot be reached from here.
    ConflictError
        If writers do not pause, such as for a write that takes longer than `pause.LONGEST_SECONDS`.
    """
    with closing(opening.open_authority(source.objects, opening.read_meta(source.objects))) as authority:
        copies = Copies(source.objects, Beside(target), held_by(target), progress)
        return in_rounds(
            copies,
            lambda: open_nodes(source.state(), authority),
            lambda nodes: at_once(source, authority, copies, nodes),
        )


def in_rounds(
    copies: Copies, nodes: Callable[[], Sequence[str]], stop: Callable[[Sequence[str]], Taken | None]
) -> Taken:
    """Copy beforehand what changes, then let writers stop.

    Parameters
    ----------
    nodes
        Gives the versions that are open now.
    stop
        Does the rest, in a pause (see `at_once`); tried again where there is none.
    """
    found = nodes()
    for _ in range(ROUNDS):
        if copies.catch_up(found) <= FEW:
            break
    for attempt in range(ATTEMPTS):
        try:
            taken = stop(found)
        except ConflictError:
            if attempt + 1 == ATTEMPTS:
                raise
            taken = None
        if taken is not None:
            return taken
        found = nodes()
        copies.catch_up(found)
    raise ConflictError("versions are made all the time: try again")


def held_by(mirror: Objects) -> dict[str, Held]:
    """What a mirror has of an earlier moment; nothing if it has none."""
    known = moment.read(mirror)
    return {} if known is None else moment.listed(mirror, known)


def open_nodes(state: State, authority: Authority) -> list[str]:
    """Ids of versions that can be written into, ``unversioned`` too."""
    opened = [n for n, info in state.nodes.items() if not info.sealed and authority.node_state(n)[0] != LOST]
    return [*opened, layout.UNVERSIONED]


def at_once(source: StoredPlace, authority: Authority, copies: Copies, nodes: Sequence[str]) -> Taken | None:
    """The rest, in a pause; None if there is a version meanwhile whose writers were not asked to pause."""
    with ExitStack() as after:
        with paused(authority, nodes):
            state = source.state()
            opened = open_nodes(state, authority)
            if not set(nodes).issuperset(opened):
                return None
            view = after.enter_context(authority.kv.snapshot())
            time = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            copies.stand_still(opened)
        copies.put_kept()
        held = dict(copies.held)
        for name, rows in (found for node in opened for found in _rows(authority, view, state, node)):
            held |= copies.put_rows(name, rows)
        mutations = peek_mutation_id(view)
    sums = copies.put(moment.listing(held))
    made = Moment(time, state.next, mutations, tuple(opened), sums.digest)
    return Taken(state, made, held, copies.nbytes)


def _rows(authority: Authority, view: Reader, state: State, node: str) -> Iterator[tuple[str, Iterator[Change]]]:
    """What an open version has in the key store: names (see `moment.listed`), and rows in order."""
    prefix = layout.node_rows(node)
    rows = ((key[len(prefix) :], value) for key, value in view.scan(prefix, layout.after(prefix)))
    yield f"{moment.ROWS}/{node}", ((key, value) for key, value in rows if key[:1] not in _PASSING)
    number = 0 if node == layout.UNVERSIONED else state.nodes[node].version_id
    versioned = VersionedKV(authority.kv, lambda a, b: a == b)
    for instance in versioned.instances_changed(number, view=view):
        yield f"{moment.KEYS}/{node}/{instance.hex()}", versioned.changes(instance, number, view=view)


def own_objects(objects: Objects, node: str) -> Iterator[tuple[str, int, str]]:
    """Keys, sizes and stamps of what an open version has stored, without what belongs to a writer or a commit alone."""
    folder = layout.node(node)
    folders, files = objects.list_dir(folder)
    if node == layout.UNVERSIONED:
        folders, files = [name for name in folders if name in ("zarr", "loose", "journal")], []
    for name in folders:
        if name == "journal":
            for aside in filter(layout.is_aside, objects.list_dir(f"{folder}/{name}")[0]):
                yield from objects.stamped(f"{folder}/{name}/{aside}")
        else:
            yield from objects.stamped(f"{folder}/{name}")
    for key in (f"{folder}/{name}" for name in files):
        size = objects.size(key)
        if size is not None and key != layout.seal(node):
            yield key, size, ""


class Beside:
    """Where objects of a moment lie: beside a mirror, each under its hash."""

    def __init__(self, mirror: Objects) -> None:
        self._mirror = mirror
        self._sizes = dict(mirror.walk(layout.moment_object("").rstrip("/")))  # asked one by one they cost more

    def has(self, held: Held) -> bool:
        """Whether an object is there."""
        return self._sizes.get(layout.moment_object(held.digest)) == held.size

    def put(self, digest: str, data: bytes) -> None:
        """Let one be there."""
        key = layout.moment_object(digest)
        self._mirror.put(key, data)
        self._sizes[key] = len(data)


class Copies:
    """What of open versions lies beside the mirror, each object as it was when its stamp was read.

    Parameters
    ----------
    source
        Whose versions they are.
    beside
        Where copies lie.
    known
        What was held before.
    progress
        Told of each object that is copied.
    """

    def __init__(self, source: Objects, beside: Beside, known: Mapping[str, Held], progress: Progress | None) -> None:
        self._source, self._beside, self._progress = source, beside, progress
        self.held = {key: each for key, each in known.items() if key.startswith("nodes/")}
        self.nbytes = 0
        self._lock = threading.Lock()
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    def catch_up(self, nodes: Sequence[str]) -> int:
        """Copy what changed; gives the number of objects."""
        changed = self._changed(nodes)

        def copy(item: tuple[str, str]) -> None:
            data = self._source.get(item[0])
            if data is not None:
                self.held[item[0]] = self.put(data, item[1])
            if self._progress is not None:
                self._progress(len(changed), len(data or b""))

        share(copy, changed, WORKERS)
        return len(changed)

    def stand_still(self, nodes: Sequence[str]) -> None:
        """The same while nothing changes; what is read is put into place later (see `put_kept`)."""
        share(lambda item: self._keep(*item), self._changed(nodes), max(2, self._source.concurrency))

    def _keep(self, key: str, stamp: str) -> None:
        data = self._source.get(key)
        if data is None:
            self.held.pop(key, None)
            return
        self.held[key] = Held(seal.sha256(data), len(data), stamp)
        with self._lock:
            waits = self._kept_bytes + len(data) <= KEPT_BYTES
            if waits:
                self._kept.append(data)
                self._kept_bytes += len(data)
        if not waits:
            self.put(data)

    def put_kept(self) -> None:
        """Put into place what `stand_still` has read."""
        share(self.put, self._kept, WORKERS)
        self._kept, self._kept_bytes = [], 0

    def put(self, data: bytes, stamp: str = "") -> Held:
        """Let an object lie beside the mirror, under its hash."""
        held = Held(seal.sha256(data), len(data), stamp)
        if not self._beside.has(held):
            self._beside.put(held.digest, data)
            with self._lock:
                self.nbytes += len(data)
        return held

    def put_rows(self, name: str, rows: Iterable[Change]) -> dict[str, Held]:
        """Let rows of the key store lie beside the mirror, as a sidecar; its objects by name."""
        held: dict[str, Held] = {}

        def put(part: str, data: bytes) -> None:
            held[f"{name}/{part}"] = self.put(data)

        sidecar.write(rows, put)
        return held

    def _changed(self, nodes: Sequence[str]) -> list[tuple[str, str]]:
        """Keys of objects that may not be as they are held, and their stamps; what is gone is forgotten."""
        found = {key: (size, stamp) for node in nodes for key, size, stamp in own_objects(self._source, node)}
        odd = [key for key, (size, _stamp) in found.items() if size == LINK or not is_key(key)]
        if odd:
            raise InvalidInputError(f"{odd[0]!r} is a symbolic link, or its name is none of a key: it cannot be copied")
        for key in self.held.keys() - found.keys():
            del self.held[key]
        return [
            (key, stamp)
            for key, (size, stamp) in found.items()
            if not stamp or key not in self.held or (self.held[key].size, self.held[key].stamp) != (size, stamp)
        ]
