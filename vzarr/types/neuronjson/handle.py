"""``neuronjson`` as a datatype: records by body, questions to them, stored documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from vzarr.errors import ConflictError, InvalidInputError, NotFoundError, SealedError
from vzarr.types import conflicts, mutations
from vzarr.types.base import Datatype
from vzarr.types.conflicts import LenientInstance
from vzarr.types.neuronjson import frames, records, rows, schema, search
from vzarr.types.neuronjson.queries import Query
from vzarr.types.neuronjson.records import Post, Record, Shown
from vzarr.types.neuronjson.search import Found

if TYPE_CHECKING:
    import pandas as pd

    from vzarr.overlay.kv.versioned import InstanceTxn

LAST_BODY = (1 << 64) - 1


@dataclass(frozen=True, repr=False)
class NeuronJson(LenientInstance):
    """Annotations of bodies at a version."""

    # ---------------------------------------------------------------- reading

    def get(self, body: int) -> Record:
        """Record of a body, with all its fields.

        Raises
        ------
        NotFoundError
            If it has none at this version.
        ConflictError
            If merged versions changed it differently; replacing or deleting it resolves that.
        """
        found: Record = orjson.loads(self.content(body))
        return found

    def content(self, body: int) -> bytes:
        """`get` as JSON."""
        with self._named():
            found = self.keys.get(rows.record_row(records.check_body(body)))
        if found is None:
            raise NotFoundError(f'Key "{body}" not found')
        return found

    def bodies(self, first: int = 0, last: int = LAST_BODY) -> list[int]:
        """Bodies from `first` to `last`, both included, that have records; ascending."""
        with self._named():
            return [rows.body_of(row) for row in self.keys.scan_keys(*_range(first, last))]

    def items(self, first: int = 0, last: int = LAST_BODY) -> Iterator[Found]:
        """Bodies from `first` to `last`, both included, and their records as JSON; ascending."""
        with self._named():
            for row, content in self.keys.scan(*_range(first, last)):
                yield rows.body_of(row), content

    def select(self, bodies: Iterable[int]) -> Iterator[Found]:
        """Records of bodies as JSON, in their order; those without one are left out."""
        with self._named():
            yield from search.fetch(self.keys, map(records.integer, bodies))

    def query(self, query: Any) -> Iterator[Record]:
        """Records that a query asks for (`vzarr.types.neuronjson.queries`), with all their fields.

        Ascending by body, or in the order of a query that names nothing but bodies.

        Raises
        ------
        InvalidInputError
            If it is no query; raised at once.
        """
        return self._find(query if isinstance(query, Query) else Query.parse(query))

    def _find(self, query: Query) -> Iterator[Record]:
        with self._named():
            for _, record in search.find(self.keys, query):
                yield record

    def field_counts(self) -> dict[str, int]:
        """In how many records each field is; looks at all records."""
        counts = Counter(field for _, content in self.items() for field in orjson.loads(content))
        return dict(sorted(counts.items()))

    def field_times(self) -> dict[str, str]:
        """When each field was last changed in any record that there is, as RFC 3339; looks at all records."""
        latest: dict[str, tuple[datetime, str]] = {}
        for _, content in self.items():
            for field, text in orjson.loads(content).items():
                if field.endswith("_time") and (when := _time(text)) is not None:
                    name = field.removesuffix("_time")
                    latest[name] = max(latest.get(name, (when, text)), (when, text))
        return {field: text for field, (_, text) in sorted(latest.items())}

    def to_frame(
        self, what: str = "records", *, fields: Sequence[str] = (), show: str = "", since: str | None = None
    ) -> pd.DataFrame:
        """Records or changes as a table.

        Parameters
        ----------
        what
            ``records``: one row for each body and a column for each field that some record has; ``mutations``: one
            row for each change, oldest first.
        fields, show
            Which fields, as in `Shown`.
        since
            Ref of a version whose own changes are left out.

        Raises
        ------
        InvalidInputError
            If `what` is neither.
        """
        if what == "mutations":
            return mutations.frame(self, since)
        if what != "records":
            raise InvalidInputError(f"there are frames of records and of mutations, not of {what!r}")
        return frames.records_frame(self.items(), Shown(tuple(fields), show))

    # ---------------------------------------------------------------- writing

    def put(
        self,
        body: int,
        record: Mapping[str, Any],
        *,
        user: str,
        app: str = "",
        conditional: Sequence[str] = (),
        replace: bool = False,
    ) -> None:
        """Set fields of a body's record; see `put_many`."""
        self._put("postneuronjson", [(body, record)], user, app, conditional, replace)

    def put_many(
        self,
        posts: Iterable[tuple[int, Mapping[str, Any]]],
        *,
        user: str,
        app: str = "",
        conditional: Sequence[str] = (),
        replace: bool = False,
    ) -> None:
        """Set fields of many bodies' records as one change, with one record in the mutation log for each.

        Parameters
        ----------
        posts
            Bodies and fields; each names its body as ``bodyid``.  A field of None goes.
        user
            Who; kept as ``FIELD_user`` beside each field that is set or changed, with the time as ``FIELD_time``.
        conditional
            Fields that keep the value that they have.
        replace
            Whether fields that are not posted go.

        Raises
        ------
        InvalidInputError
            If nobody says so, or a record or its body is wrong, or the version's ``json_schema`` refuses it; nothing
            is changed then.
        ConflictError
            If merged versions changed a record differently, and it is not replaced.
        SealedError
            If the version is not open.
        """
        self._put("ingestneuronjson", posts, user, app, conditional, replace)

    def _put(
        self,
        action: str,
        posts: Iterable[tuple[int, Mapping[str, Any]]],
        user: str,
        app: str,
        conditional: Sequence[str],
        replace: bool,
    ) -> None:
        if not user:
            raise InvalidInputError("cannot alter neuronjson data without a valid user (?u=)")
        checked = [records.checked(posted, body) for body, posted in posts]
        post = Post(user, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), tuple(conditional), replace)
        log = mutations.Writer(self, user, app)

        def change(tx: InstanceTxn) -> None:
            content = tx.get(rows.document_row(schema.JSON_SCHEMA))
            for posted in checked:
                wanted = posted if content is None else schema.conform(content, posted)
                size = _write(tx, post, wanted)
                log.record(tx, {"Action": action, "Key": str(wanted["bodyid"]), "Bytes": size})

        with self._named():
            self.transact(change)

    def delete(self, body: int, *, user: str = "", app: str = "") -> None:
        """Remove a body's record; nothing happens where there is none.

        Raises
        ------
        SealedError
            If the version is not open.
        """
        row, log = rows.record_row(records.check_body(body)), mutations.Writer(self, user, app)

        def change(tx: InstanceTxn) -> None:
            for index_row in _indexed(tx, row):
                tx.delete(index_row)
            tx.delete(row)
            log.record(tx, {"Action": "delete", "Key": str(body)})

        self.transact(change)

    # ---------------------------------------------------------------- documents

    def document(self, name: str) -> bytes:
        """A stored document: ``json_schema``, ``schema`` or ``schema_batch``.

        Raises
        ------
        NotFoundError
            If there is none at this version.
        ConflictError
            If merged versions changed it differently.
        """
        with self._named():
            found = self.keys.get(rows.document_row(schema.check_name(name)))
        if found is None:
            raise NotFoundError(f"there is no {name} at this version")
        return found

    def put_document(self, name: str, content: bytes, *, user: str = "", app: str = "") -> None:
        """Store a document; records that are posted from now on must conform to a ``json_schema``.

        Raises
        ------
        InvalidInputError
            If it is no JSON, or a ``json_schema`` is no JSON Schema.
        """
        schema.check(schema.check_name(name), content)
        log = mutations.Writer(self, user, app)

        def change(tx: InstanceTxn) -> None:
            tx.put(rows.document_row(name), content)
            log.record(tx, {"Action": "postneuronjson", "Key": name, "Bytes": len(content)})

        self.transact(change)

    def delete_document(self, name: str, *, user: str = "", app: str = "") -> None:
        """Remove a document; nothing happens where there is none."""
        log = mutations.Writer(self, user, app)
        row = rows.document_row(schema.check_name(name))

        def change(tx: InstanceTxn) -> None:
            tx.delete(row)
            log.record(tx, {"Action": "delete", "Key": name})

        self.transact(change)

    def _named(self) -> AbstractContextManager[None]:
        return conflicts.named(self.name, _name)


def _time(text: object) -> datetime | None:
    """A time from RFC 3339, in UTC where it does not say; None for what is none."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def _write(tx: InstanceTxn, post: Post, posted: Record) -> int:
    """Change a record and its index; gives the size of what is written."""
    row = rows.record_row(posted["bodyid"])
    try:
        content = tx.get(row)
    except ConflictError:
        if not post.replace:
            raise
        content = None
    old: Record = {} if content is None else orjson.loads(content)
    new = post.apply(old, posted)
    wanted, encoded = rows.index_rows(new), records.encode(new)
    for gone in (rows.index_rows(old) if old else set()) - wanted:
        tx.delete(gone)
    tx.put(row, encoded)
    for index_row in sorted(wanted):
        tx.put(index_row, b"")
    return len(encoded)


def _indexed(tx: InstanceTxn, row: bytes) -> set[bytes]:
    """Index rows of a record as it is seen; none of one in conflict, whose rows lead to nothing once it is gone."""
    try:
        content = tx.get(row)
    except ConflictError:
        return set()
    return set() if content is None else rows.index_rows(orjson.loads(content))


def settle(instance: NeuronJson) -> None:
    """Index what a merge decided about records, unless that was done: it writes records alone."""
    version = instance.version
    if len(version.info.parents) < 2 or not instance.info.versioned:
        return
    mark = rows.joined_row(version.uuid)
    if instance.keys.get(mark) is not None:
        return
    written = [key for key in version.repo.keys.changed(version.uuid, instance.info) if key[:1] == rows.RECORD]

    def change(tx: InstanceTxn) -> None:
        for row in written:
            for index_row in _indexed(tx, row):
                tx.put(index_row, b"")
        tx.put(mark, b"")

    if written:
        instance.transact(change)


def resume(instance: NeuronJson) -> None:
    """`settle` for who opens the instance: at a version that is being sealed it is the committer's business."""
    with suppress(SealedError):
        settle(instance)


def _name(row: bytes) -> str | None:
    """Body or document of a row; None for one that follows from others, or that no two versions write."""
    if row[:1] == rows.RECORD:
        return str(rows.body_of(row))
    return row[1:].decode() if row[:1] == rows.DOCUMENT else None


NEURONJSON = Datatype(
    name="neuronjson",
    handle=NeuronJson,
    summary="JSON annotations by body, with who set each field and when, found by what they say.",
    url="github.com/janelia-flyem/dvid/datatype/neuronjson",
    type_version="0.1",
    settle=settle,
    resume=resume,
    key_name=_name,
    tags=True,
)


def _range(first: int, last: int) -> tuple[bytes, bytes]:
    """Rows of the records of bodies `first` to `last`."""
    return rows.record_range(records.integer(first), records.integer(last))
