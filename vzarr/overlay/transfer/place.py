"""A repo, or the place for one, as a transfer sees it: its history, its objects, and the one way to add to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from vzarr.errors import ConflictError, InvalidInputError, StorageError
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer.copying import Row, lacks
from vzarr.overlay.transfer.plans import Arrival
from vzarr.overlay.transfer.shared import Shared
from vzarr.overlay.transfer.stripes import Stripes

NOTHING, NOBODY, WHOLE = Brought(), Stripes(), Limits()


class Place(ABC):
    """One end of a transfer."""

    url: str
    at_once = 1
    """About how many objects `lacking` is best asked together."""

    def choose(self, root: str) -> None:  # noqa: B027 - most places are one repo's
        """Be the repo with that root from now on, where the place holds many and none was named."""

    @abstractmethod
    def state(self) -> State:
        """What its log says now; without versions where there is no repo yet."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Bytes of an object, or None when it is absent."""

    def limits(self) -> Limits:
        """What it has; no limits for a whole repo."""
        return WHOLE

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Size of an object, or None when it is absent."""

    def missing(self, key: str) -> StorageError:
        """The error for an object that should be there, and is not."""
        return StorageError(f"{key} is missing in {self.url}")

    def lacking(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of some objects that are not in place, whole and right."""
        return [row for row in rows if lacks(self, row)]

    def will_read(self, rows: Sequence[Row]) -> None:  # noqa: B027 - most places need no notice
        """Say which objects are about to be read, in about which order."""

    def will_write(self, rows: Sequence[Row]) -> None:  # noqa: B027 - most places need no notice
        """Say which objects are about to be written, in about which order."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object of a version that the log does not know yet."""

    @abstractmethod
    def begin(
        self, root: str, keys: str | None = None, avoid: Stripes = NOBODY, limits: Limits = WHOLE,
        durability: str | None = None,
    ) -> None:  # fmt: skip
        """Make the place for a clone of the repo with that root, none of those to `avoid`; may be done again.

        Parameters
        ----------
        limits
            What it will have, settled (see `partial.settled`).
        durability
            What it outlasts (see `Repo.create`); None for what it was begun with, at first the end of processes.

        Raises
        ------
        AlreadyExistsError
            If there is another repo, or one that has versions.
        InvalidInputError
            If it was begun with other limits, or another durability.
        """

    @property
    def is_mirror(self) -> bool:
        """Whether it follows another repo (see `opening.is_mirror`), as far as `state` has told."""
        return False

    def check_takes(self) -> None:
        """Refuse what takes no versions but those of its original.

        Raises
        ------
        InvalidInputError
            If it is a mirror.
        """
        if self.is_mirror:
            raise InvalidInputError(
                f"{self.url} is a mirror, which takes nothing but what its original has: push to that one; if it is"
                " lost, `vzarr rebuild-keys` makes the mirror a repo"
            )

    @abstractmethod
    def wanted(self, arrival: Arrival) -> Collection[str]:
        """Keys of the chunks that a partial clone wants for versions that arrive, and does not have (see `partial`).

        Whatever else these versions stored is in place already.
        """

    def leave_out(self, arrival: Arrival, wanted: Collection[str]) -> None:  # noqa: B027 - a server does it itself
        """Note which chunks a partial clone does not have, now that those that it wanted are in place."""

    @abstractmethod
    def stripes(self) -> Stripes:
        """Which clones it knows, and which one it is."""

    @abstractmethod
    def learn(self, theirs: Stripes) -> Stripes:
        """Write down which clones another repo knows, and do not go on with a number that another one has.

        Nothing happens where that cannot be written.  Gives what it knows then.
        """

    @abstractmethod
    def shared(self) -> Shared:
        """What belongs to no version, as it is now; nothing where there is no repo yet."""

    def quiet(self) -> AbstractContextManager[None]:
        """Context in which what belongs to no version does not change.

        Raises
        ------
        ConflictError
            If nobody can be asked to pause.
        """
        raise ConflictError(
            f"arrays of unversioned instances in {self.url} change all the time: try again, or copy them where they lie"
        )

    @abstractmethod
    def publish(self, arrival: Arrival, brought: Brought = NOTHING) -> Sequence[str]:
        """Add versions and keys outside of versions, whose objects are all in place.

        Returns
        -------
        sequence of str
            Data ids of which the repo kept data of its own instead.

        Raises
        ------
        ConflictError, AlreadyExistsError
            See `Arrival`.
        StorageError, FormatError
            If the seal of one is missing, or another one.
        """

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most places hold nothing open
        """Let go of what is held open."""
