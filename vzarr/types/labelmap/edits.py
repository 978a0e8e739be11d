"""One edit of a labelmap, which is one transaction: what it moves, whose it is, what it leaves for caches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from vzarr.errors import InvalidInputError
from vzarr.types import mutations
from vzarr.types.labelmap import caches, deeds, index, mapping, pages, rows
from vzarr.types.labelmap.deeds import Deed
from vzarr.types.labelmap.rows import Header, Labels

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.types.base import Instance

T = TypeVar("T")


@dataclass(frozen=True)
class Author:
    """Who edits, through which program; empty when not said."""

    user: str = ""
    app: str = ""


NOBODY = Author()


@dataclass
class Edit:
    """An edit within its transaction.

    Parameters
    ----------
    instance
        What is edited, at the version where it is.
    tx
        The transaction.
    author
        Who.
    """

    instance: Instance
    tx: InstanceTxn
    author: Author
    moved: dict[int, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    deed: Deed | None = field(default_factory=Deed)
    forget: bool = False
    _logged: bool = False
    _moves_only: bool = False

    def __post_init__(self) -> None:
        self.before = index.read_change(self.tx)
        self.number = self.tx.peek_mutation_id()
        self.time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def header(self, body: int) -> Header:
        """Header of a body.

        Raises
        ------
        InvalidInputError
            If there is no such body: an edit of what is not there is a mistake in the request.
        """
        found = index.read_header(self.tx, body)
        if found is None:
            raise InvalidInputError(f'label {body} does not exist in data "{self.instance.name}"')
        return found

    def sizes(self, bodies: Sequence[int]) -> list[int]:
        """Voxels of bodies; raises as `header`."""
        found = index.read_sizes(self.tx, bodies)
        for body, size in zip(bodies, found, strict=True):
            if not size:
                self.header(body)
        return found

    def put_header(self, body: int, voxels: int) -> None:
        """Write a body's header with this edit as its last change."""
        header = Header(voxels, self.number, self.time, self.author.user, self.author.app)
        index.put_header(self.tx, body, header)

    def map_to(self, body: int, supervoxels: Collection[int]) -> None:
        """Map supervoxels to a body."""
        mapping.put(self.tx, supervoxels, body)
        self.moved.update(dict.fromkeys(supervoxels, body))

    def map_many(self, supervoxels: Labels, bodies: Labels) -> None:
        """Map supervoxels, each named once; many of them into pages, and caches then forget what they know."""
        if len(supervoxels) < pages.BULK:
            for supervoxel, body in zip(supervoxels.tolist(), bodies.tolist(), strict=True):
                self.map_to(body, (supervoxel,))
        else:
            mapping.put_many(self.tx, supervoxels, bodies)
            self.forget = True

    def retire(self, label: int) -> None:
        """Note that an id is no supervoxel: it is in use for a body, or was cut up."""
        self.tx.put(rows.mapping_key(label), rows.number(0))
        self.moved[label] = 0

    def move(self, parts: Mapping[int, Mapping[int, bytes]], target: int) -> None:
        """Move supervoxels from some bodies to another one, in mapping and index; headers are the caller's.

        Parameters
        ----------
        parts
            Body -> those of its supervoxels that move, and their encoded `Counts`.
        """
        index.move_rows(self.tx, parts, target)
        for counts in parts.values():
            self.map_to(target, counts)
        known = self.deed or Deed()
        moves = ((source, target, tuple(counts)) for source, counts in parts.items())
        self.deed = replace(known, moves=(*known.moves, *moves))

    def bodies(self) -> set[int] | None:
        """Bodies whose rows changed in the transaction; None for too many of them."""
        written = self.tx.written
        changed = None if written is None else (key for key in written if key[:1] in (rows.HEADER, rows.INDEX))
        return None if changed is None else {int.from_bytes(key[1:9], "big") for key in changed}

    def log(self, fields: Mapping[str, Any], *, moves_only: bool = True) -> None:
        """Write the record of an edit of bodies into the mutation log.

        Parameters
        ----------
        moves_only
            Whether it only moves supervoxels from body to body, each of which says so in its header.
        """
        self._record(fields, announced=True)
        self._moves_only = moves_only
        self.deed = replace(self.deed or Deed(), action=fields["Action"].removesuffix("-complete"))

    def note(self, fields: Mapping[str, Any]) -> None:
        """Write the record of another change, which cannot be undone and which DVID does not announce."""
        self._record(fields, announced=False)

    def _record(self, fields: Mapping[str, Any], announced: bool) -> None:
        writer = mutations.Writer(self.instance, self.author.user, self.author.app)
        writer.record(self.tx, fields, announced=announced)
        self._logged = True

    def finish(self) -> None:
        """Leave the marks and the deed; the edit's number is taken here when it has no record."""
        if not self._logged:
            self.tx.next_mutation_id()
        self.after = rows.number(self.number)
        self.tx.put(rows.CHANGE, self.after)
        if not self._moves_only:
            self.tx.put(rows.VOXELS, self.after)
        if self.deed is not None:
            self.tx.put(deeds.key(self.instance.version.uuid, self.number), self.deed.encode())


def run(instance: Instance, author: Author, change: Callable[[Edit], T]) -> T:
    """Run `change` as one edit; nothing has happened if it raises, not even a number was taken.

    Parameters
    ----------
    change
        Has no effect beside the edit's transaction, as it may be run again.
    """
    return run_all(instance, author, [change])[0]


def run_all(instance: Instance, author: Author, changes: Sequence[Callable[[Edit], T]]) -> list[T]:
    """Run several edits, one after the other, in one transaction: all of them or none."""

    def within(tx: InstanceTxn) -> list[tuple[T, Edit]]:
        return [_run(Edit(instance, tx, author), change) for change in changes]

    done = instance.transact(within)
    for _, edit in done:
        bodies = edit.bodies()
        if bodies is not None and not edit.forget:  # caches then meet a mark that they do not know
            caches.advance(instance, edit.before, edit.after, edit.moved, edit.touched, bodies)
    return [result for result, _ in done]


def _run(edit: Edit, change: Callable[[Edit], T]) -> tuple[T, Edit]:
    result = change(edit)
    edit.finish()
    return result, edit
