"""A repo, or the place for one, as a transfer sees it: its history, its objects, and the one way to add to it."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from contextlib import closing

from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from vzarr.overlay import layout, opening, plans
from vzarr.overlay.kv.versioned import FIRST_MUTATION_ID, begin_mutation_ids
from vzarr.overlay.log import RepoLog
from vzarr.overlay.objects import Objects, ReadOnly
from vzarr.overlay.repokeys import mark_pending
from vzarr.overlay.seal import load_record
from vzarr.overlay.state import State

STRIPE_MUTATIONS = 10**9
"""Mutation ids of a clone begin so many further on for each stripe."""


class Place(ABC):
    """One end of a transfer."""

    url: str

    @abstractmethod
    def state(self) -> State:
        """What its log says now; without versions where there is no repo yet."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Bytes of an object, or None when it is absent."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Size of an object, or None when it is absent."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object of a version that the log does not know yet."""

    @abstractmethod
    def begin(self, root: str, keys: str | None = None) -> None:
        """Make the place for a clone of the repo with that root; may be done again.

        Raises
        ------
        AlreadyExistsError
            If there is another repo, or one that has versions.
        """

    @abstractmethod
    def publish(self, plan: plans.Plan) -> None:
        """Add versions whose objects are all in place."""

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most places hold nothing open
        """Let go of what is held open."""


class StoredPlace(Place):
    """A repo on files, in memory or on an object store.

    Parameters
    ----------
    objects
        Where it lies.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects, self.url = objects, objects.url
        self._log = RepoLog(objects)

    def state(self) -> State:
        """See `Place.state`."""
        return self._log.open() if self.objects.get(layout.REPO) is not None else State()

    def get(self, key: str) -> bytes | None:
        """See `Place.get`."""
        return self.objects.get(key)

    def size(self, key: str) -> int | None:
        """See `Place.size`."""
        return self.objects.size(key)

    def put(self, key: str, data: bytes) -> None:
        """See `Place.put`."""
        self.objects.put(key, data)

    def begin(self, root: str, keys: str | None = None) -> None:
        """See `Place.begin`."""
        stripe = 1 + secrets.randbelow(layout.STRIPES - 1)
        where = opening.EMBEDDED if keys is None else opening.check_keys(self.objects, keys)
        if opening.claim(self.objects, root, where, stripe=stripe) != root:
            raise AlreadyExistsError(f"{self.url} is another repo already")
        meta = opening.read_meta(self.objects)
        if not opening.lacks_keys(self.objects, meta):
            first = FIRST_MUTATION_ID + meta["stripe"] * STRIPE_MUTATIONS
            with closing(opening.open_authority(self.objects, meta)) as authority:
                authority.kv.transact(lambda txn: begin_mutation_ids(txn, first))

    def publish(self, plan: plans.Plan) -> None:
        """See `Place.publish`."""
        meta = opening.read_meta(self.objects)
        authority, objects = opening.reach_authority(self.objects, meta)
        try:
            ops = plan(self.state())
            arrived = [op["id"] for op in ops if op["op"] == "node"]
            for op in ops:
                if op["op"] == "node":
                    load_record(self.objects, layout.seal(op["id"]), op["seal"])
            if not isinstance(objects, ReadOnly):
                mark_pending(authority.kv, arrived)
            self._log.open()
            self._log.publish(plan)
        finally:
            authority.close()


def open_place(url: str, token: str = "") -> Place:
    """The place that a URL names.

    Parameters
    ----------
    url
        As for `vzarr.open`; or of a repo that a vzarr server serves, ``http://HOST:PORT[/ROOT]``.
    token
        The server's administrator token, where it is a server's.
    """
    if url.startswith(("http://", "https://")):
        raise InvalidInputError(f"{url!r} is no place of this process")
    return StoredPlace(opening.open_objects(url))


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
