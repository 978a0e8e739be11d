"""The places that there are: repos on files, in memory and on object stores, and those that a server serves."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext

from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import Op, State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.brought import Brought, alone, check_waits, mark, show, take_in_alone
from vzarr.overlay.keys.pause import paused
from vzarr.overlay.keys.repokeys import mark_pending
from vzarr.overlay.keys.sharedarrays import PLACE, rows_of
from vzarr.overlay.kv.mutationids import FIRST_MUTATION_ID, STRIPE_MUTATIONS, begin_mutation_ids
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import Objects, ReadOnly
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing.leftout import Limits, gone
from vzarr.overlay.sealing.seal import load_record
from vzarr.overlay.transfer import partial, stripes
from vzarr.overlay.transfer.copying import Row, check_whole, lacks
from vzarr.overlay.transfer.direct import Way
from vzarr.overlay.transfer.place import NOBODY, NOTHING, WHOLE
from vzarr.overlay.transfer.place import Place as Place
from vzarr.overlay.transfer.plans import Arrival
from vzarr.overlay.transfer.served import ServedPlace, is_served
from vzarr.overlay.transfer.shared import Shared
from vzarr.overlay.transfer.stripes import Stripes
from vzarr.overlay.views.outside import read as read_outside

MOST_SOUND = 200_000
"""Objects that are remembered to be sound; beyond that some are read again."""


class StoredPlace(Place):
    """A repo on files, in memory or on an object store.

    Parameters
    ----------
    objects
        Where it lies.
    """

    def __init__(self, objects: Objects) -> None:
        is_there = objects.get(layout.REPO) is not None
        self.objects = opening.as_durable(objects, opening.read_meta(objects)) if is_there else objects
        self.url = objects.url
        self._log = RepoLog(self.objects)
        self._sound: dict[str, tuple[int, str]] = {}
        self._is_quiet = False

    def state(self) -> State:
        """See `Place.state`."""
        return self._log.open() if self.objects.get(layout.REPO) is not None else State()

    def get(self, key: str) -> bytes | None:
        """See `Place.get`."""
        return self.objects.get(key)

    def size(self, key: str) -> int | None:
        """See `Place.size`."""
        return self.objects.size(key)

    def missing(self, key: str) -> StorageError:
        """See `Place.missing`; a partial clone says that it left the object out."""
        return gone(self.objects, key, str(super().missing(key)))

    def knows(self, node: str) -> bool:
        """Whether the log has a version of that id."""
        return node in self._log.about(node).nodes

    def is_sealed(self, node: str) -> bool:
        """Whether the log knows a version as sealed."""
        known = self._log.about(node).nodes.get(node)
        return known is not None and known.sealed

    def put(self, key: str, data: bytes) -> None:
        """See `Place.put`."""
        self.objects.put(key, data)

    def ways_to_read(self, keys: Sequence[str]) -> dict[str, Way] | None:
        """Signed URLs of objects of sealed versions, by key; None where the store signs none."""
        urls = self.objects.signed_reads(keys) if keys else []
        return None if urls is None else {key: Way(url, {}) for key, url in zip(keys, urls, strict=True)}

    def ways_to_write(self, rows: Sequence[Row]) -> dict[str, Way] | None:
        """Signed URLs by which objects, and no others, can be put in place; None where the store signs none."""
        found = self.objects.signed_writes([(row.key, row.digest) for row in rows]) if rows else []
        return None if found is None else {r.key: Way(*each) for r, each in zip(rows, found, strict=True)}

    def look_for(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of some objects that are not in place; the others are remembered to be sound."""

        def look(row: Row) -> bool:
            if self.size(row.key) != row.size:
                return False
            if self.objects.known_sha256(row.key) != row.digest and lacks(self, row):
                return False
            self.vouch(row)
            return True

        found = share(look, rows, max(4, self.objects.concurrency))
        return [row for row, is_there in zip(rows, found, strict=True) if not is_there]

    def vouch(self, row: Row) -> None:
        """Note that an object is what was sealed, found by reading it or on its way here; the last word counts."""
        if len(self._sound) >= MOST_SOUND:
            self._sound.clear()
        self._sound[row.key] = row.size, row.digest

    def _is_sound(self, row: Row) -> bool:
        return self._sound.get(row.key) == (row.size, row.digest) or self.objects.known_sha256(row.key) == row.digest

    def check_whole(self, rows: Sequence[Row]) -> None:
        """Refuse objects that have not arrived whole and right (see `copying.check_whole`).

        Read is only what this process has not seen, and the store has not checked itself.
        """
        check_whole(self, rows, self._is_sound)

    def forget(self) -> None:
        """Remember no longer which objects are sound, once their versions are published."""
        self._sound.clear()

    def begin(
        self, root: str, keys: str | None = None, avoid: Stripes = NOBODY, limits: Limits = WHOLE,
        durability: str | None = None,
    ) -> None:  # fmt: skip
        """See `Place.begin`."""
        strange = () if self.objects.get(layout.REPO) else self._strange()
        if strange:
            raise AlreadyExistsError(f"{self.url} is no repo, and not empty: it holds {', '.join(strange[:3])}")
        lasting = opening.lasting(durability or opening.PROCESS)
        self.objects = opening.as_durable(self.objects, lasting)
        more = {"clone": secrets.token_hex(16), **({"partial": limits.to_json()} if limits else {}), **lasting}
        stripe = stripes.draw(avoid.known)
        where = opening.EMBEDDED if keys is None else opening.check_keys(self.objects, keys)
        if opening.claim(self.objects, root, where, stripe=stripe, **more) != root:
            raise AlreadyExistsError(f"{self.url} is another repo already")
        if self.limits() != limits:
            raise InvalidInputError(f"{self.url} was begun with other limits: {self.limits() or 'none'}")
        meta = opening.read_meta(self.objects)
        begun = meta.get("durability", opening.PROCESS)
        if durability not in (None, begun):
            raise InvalidInputError(f"{self.url} was begun with another durability: {begun}")
        self.objects = opening.as_durable(self.objects, meta)
        self._log = RepoLog(self.objects)
        if not opening.lacks_keys(self.objects, meta):
            first = FIRST_MUTATION_ID + meta["stripe"] * STRIPE_MUTATIONS
            with closing(opening.open_authority(self.objects, meta)) as authority:
                authority.kv.transact(lambda txn: begin_mutation_ids(txn, first))

    @property
    def is_mirror(self) -> bool:
        """See `Place.is_mirror`."""
        return opening.is_mirror(self.objects, opening.read_meta(self.objects))

    def _strange(self) -> Sequence[str]:
        """What lies where a repo is to be made, and is not what another attempt left."""
        return [name for names in self.objects.list_dir("") for name in names if name not in ("keys", "tmp")]

    def stripes(self) -> Stripes:
        """See `Place.stripes`."""
        return stripes.read(self.objects)

    def learn(self, theirs: Stripes) -> Stripes:
        """See `Place.learn`."""
        return stripes.learn(self.objects, theirs)

    def limits(self) -> Limits:
        """See `Place.limits`."""
        return Limits.of(opening.read_meta(self.objects))

    def wanted(self, arrival: Arrival) -> Collection[str]:
        """See `Place.wanted`."""
        return partial.wanted(self.objects, self.state(), arrival, self.limits())

    def leave_out(self, arrival: Arrival, wanted: Collection[str]) -> None:
        """See `Place.leave_out`."""
        partial.leave_out(self.objects, self.state(), arrival, wanted)

    def shared(self) -> Shared:
        """See `Place.shared`; snapshots are taken now, where the keys can be reached and written beside."""
        if self.objects.get(layout.REPO) is None:
            return Shared()
        authority, objects = opening.reach_authority(self.objects, opening.read_meta(self.objects))
        with closing(authority):
            if isinstance(objects, ReadOnly):
                rows = {path: entry.to_json() for path, entry in read_outside(self.objects).entries.items()}
            else:
                rows = rows_of(authority.kv)
                try:
                    locks = nullcontext() if self._is_quiet else authority.locks.alone(layout.node(layout.UNVERSIONED))
                    own = {info.data_uuid for info in self.state().every_instance() if info.versioned}
                    unversioned.take(objects, authority.kv, _outside(authority), own, locks)
                except StorageError as e:
                    if e.errno not in stripes.READ_ONLY:
                        raise  # else what the last commit found is the newest that can be had
        found = ((key[len(PLACE) + 1 :], (size, stamp)) for key, size, stamp in self.objects.stamped(PLACE))
        arrays = {key: each for key, each in found if "/" in key}  # beside folders lies the root group's document
        return Shared(unversioned.read(self.objects), arrays, rows)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """See `Place.quiet`: writers pause."""
        authority, objects = opening.reach_authority(self.objects, opening.read_meta(self.objects))
        with closing(authority), paused(authority, [layout.UNVERSIONED]) if objects is self.objects else nullcontext():
            self._is_quiet = True
            try:
                yield
            finally:
                self._is_quiet = False

    def check_takes(self) -> None:
        """See `Place.check_takes`; keys of what arrives must be noted where all others are."""
        super().check_takes()
        meta = opening.read_meta(self.objects)
        if not opening.lacks_keys(self.objects, meta):
            opening.open_authority(self.objects, meta).close()

    def publish(self, arrival: Arrival, brought: Brought = NOTHING) -> Sequence[str]:
        """See `Place.publish`."""
        if not arrival(self.state()) and not brought.instances:
            return ()
        self.check_takes()
        meta = opening.read_meta(self.objects)
        if opening.lacks_keys(self.objects, meta):
            return self._publish_shown(arrival, brought)
        with closing(opening.open_authority(self.objects, meta)) as authority, alone(authority):
            # What somebody left who was killed: there is one row for what waits.
            take_in_alone(authority, _outside(authority), self.state())
            check_waits(self.objects, brought)
            ops = self._operations(arrival)
            if ops:
                mark_pending(authority, [op["id"] for op in ops if op["op"] == "node"])
            if brought.instances:
                mark(authority, brought)
            if ops:
                self._log.publish(arrival)
            return take_in_alone(authority, _outside(authority), self._log.open()) if brought.instances else ()

    def _publish_shown(self, arrival: Arrival, brought: Brought) -> Sequence[str]:
        """The same where there are no keys at all."""
        ops = self._operations(arrival)
        own = {info.data_uuid for info in self._log.known.every_instance()}
        left = show(self.objects, brought, arrival.source, own) if brought.instances else ()
        if ops:
            self._log.publish(arrival)
        return left

    def _operations(self, arrival: Arrival) -> Sequence[Op]:
        """What is to be published; each seal is in place."""
        ops = arrival(self.state())
        for op in ops:
            if op["op"] == "node":
                load_record(self.objects, layout.seal(op["id"]), op["seal"])
        return ops


def _outside(authority: Authority) -> VersionedKV:
    """Keys outside of versions, none of which descends from another."""
    return VersionedKV(authority.kv, lambda a, b: a == b)


def open_place(url: str, token: str = "") -> Place:
    """The place that a URL names.

    Parameters
    ----------
    url
        As for `vzarr.open`; or of a repo that a vzarr server serves, ``http://HOST:PORT[/ROOT]``.
    token
        The server's administrator token, where it is a server's.
    """
    return ServedPlace(url, token) if is_served(url) else StoredPlace(opening.open_objects(url))


def existing(place: Place) -> State:
    """State of a place that must be a repo.

    Raises
    ------
    NotFoundError
        If it is none.
    """
    state = place.state()
    if not state.nodes:
        raise NotFoundError(f"no repo at {place.url}")
    return state
