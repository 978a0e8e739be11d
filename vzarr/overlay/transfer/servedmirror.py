"""A repo that a server serves, as one end of a mirror: the original, or the mirror itself."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.history.checkpoints import entry_of, parsed
from vzarr.overlay.history.state import State, replay
from vzarr.overlay.keys import unversioned
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing import seal
from vzarr.overlay.transfer import exchange, moment, taking
from vzarr.overlay.transfer.copying import WORKERS, Progress, Row
from vzarr.overlay.transfer.direct import Way, Ways
from vzarr.overlay.transfer.moment import Held, Moment
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.transfer.served import ServedPlace
from vzarr.overlay.transfer.servedobjects import ServedObjects
from vzarr.overlay.transfer.shared import Shared
from vzarr.overlay.transfer.stripes import Stripes
from vzarr.overlay.transfer.taking import Beside, Copies, Taken

STOP_SECONDS = 3600.0
"""How long a server may take to write down its open versions' keys."""
MOMENT_ID = 16
"""Bytes of the id of a moment, which its client makes up."""


class ServedMirror(StoredPlace):
    """A server's repo, word for word.

    Parameters
    ----------
    place
        The repo, named.

    Raises
    ------
    ForbiddenError
        Without the server's administrator token.
    FormatError
        If the server is of an earlier release.
    """

    at_once = ServedPlace.at_once

    def __init__(self, place: ServedPlace) -> None:
        super().__init__(ServedObjects(place.client, place.path, place.url))
        self._place, self._client, self._path = place, place.client, f"{place.path}/mirror"
        self._writes = Ways(self._ways_to_write, lambda row: row.key, secure=place.client.secure)

    def get(self, key: str) -> bytes | None:
        """See `Place.get`: what is sealed, or of a snapshot."""
        return self._place.get(key)

    def will_read(self, rows: Sequence[Row]) -> None:
        """See `Place.will_read`."""
        self._place.will_read(rows)

    def lacking(self, rows: Sequence[Row]) -> Sequence[Row]:
        """See `Place.lacking`."""
        return self._client.lacking(self._path, rows)

    def will_write(self, rows: Sequence[Row]) -> None:
        """See `Place.will_write`."""
        self._writes.expect(rows)

    def put(self, key: str, data: bytes) -> None:
        """See `Place.put`."""
        if not self._writes.put(key, data):
            self.objects.put(key, data)

    def stripes(self) -> Stripes:
        """See `Place.stripes`."""
        return self._place.stripes()

    def shared(self) -> Shared:
        """See `Place.shared`; the server takes snapshots, and few rows stand in their list alone."""
        taken = self._place.shared()
        few = {i: s for i, s in unversioned.read(self.objects).items() if s.rows is not None}
        return Shared({**few, **taken.snapshots}, taken.objects, taken.rows)

    def take(self, target: Objects, progress: Progress | None) -> Taken:
        """Copy what open versions are at one moment (see `taking.take`): from here but for the pause.

        Raises
        ------
        AuthorityUnavailableError, ConflictError
            As there.
        FormatError
            If an object is not what the server said it is.
        """
        known = taking.held_by(target)
        copies = Copies(self.objects, Beside(target), known, progress)
        before = State()

        def nodes() -> Sequence[str]:
            nonlocal before
            before = self.state()
            return [str(node) for node in self._client.item(list, "nodes", "GET", f"{self._path}/open")]

        def stop(found: Sequence[str]) -> Taken | None:
            held = {**known, **copies.held}
            return self._stop(found, held, copies, before)

        return taking.in_rounds(copies, nodes, stop)

    def close(self) -> None:
        """Let go of connections to the server's store; those to the server are the place's."""
        self._writes.close()

    def _stop(self, nodes: Sequence[str], known: Mapping[str, Held], copies: Copies, before: State) -> Taken | None:
        """Let the server's writers pause, and fetch what is not known yet."""
        number = secrets.token_hex(MOMENT_ID)
        body = orjson.dumps({"nodes": list(nodes), "held": moment.listing(known).decode()})
        patient = self._client.patient(STOP_SECONDS)
        try:
            said = patient.item(object, "moment", "POST", f"{self._path}/moments/{number}", body)
            if said is None:
                return None
            made = Moment.from_bytes(orjson.dumps(said))
            return self._fetch(number, made, {held.digest for held in known.values()}, copies, before)
        finally:
            patient.ask("DELETE", f"{self._path}/moments/{number}")
            patient.close()

    def _fetch(self, number: str, made: Moment, known: Collection[str], copies: Copies, before: State) -> Taken:
        def get(digest: str) -> bytes:
            data = self._client.get(f"{self._path}/moments/{number}/{digest}")
            if data is None:
                raise StorageError(f"{self.url} has lost {layout.moment_object(digest)} before it was fetched")
            if seal.sha256(data) != digest:
                raise FormatError(f"{layout.moment_object(digest)} is not what {self.url} took: its checksum differs")
            return data

        sums = get(made.sums)
        held = moment.listed_in(sums)
        share(lambda digest: copies.put(get(digest)), sorted({h.digest for h in held.values()} - {*known}), WORKERS)
        copies.put(sums)
        return Taken(self._state_at(before, made.entries), made, held, copies.nbytes)

    def _state_at(self, before: State, entries: int) -> State:
        """What the log said once it had so many entries."""
        keys = (layout.log_entry(number) for number in range(before.next, entries))
        return replay(before, (entry_of(key, parsed(key, self.objects.get(key) or b"")) for key in keys))

    def _ways_to_write(self, rows: Sequence[Row]) -> Mapping[str, Way] | None:
        asked = orjson.dumps([row[:3] for row in rows])
        return exchange.ways_from_json(self._client.json("POST", f"{self._path}/urls", asked))
