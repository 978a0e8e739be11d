"""What the overlay asks of who knows the datatypes, which it does not: functions, named once at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vzarr.errors import UnsupportedError

if TYPE_CHECKING:
    from vzarr.overlay.history.state import InstanceInfo, State
    from vzarr.overlay.kv.instancekeys import InstanceKeys
    from vzarr.overlay.kv.sidecar import Change
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.overlay.transfer.region import Region
    from vzarr.overlay.version import Version


class DataConflict(Protocol):
    """What a datatype finds in conflict beyond chunks and keys."""

    @property
    def instance(self) -> str:
        """Name of the instance."""

    @property
    def name(self) -> str:
        """What tells it from the instance's other conflicts."""

    @property
    def held(self) -> Sequence[Any]:
        """What each side holds."""

    @property
    def changed(self) -> tuple[int, ...]:
        """Places of the sides that disagree."""


class Datatypes(Protocol):
    """Who knows the datatypes: the module `vzarr.types.registry`."""

    def create(
        self, version: Version, name: str, typename: str, *, versioned: bool = True,
        config: Mapping[str, Any] | None = None, user: str = "", app: str = "",
    ) -> Any:  # fmt: skip
        """Make an instance and give its handle."""

    def adopt(self, version: Version, name: str, url: str, **options: Any) -> Any:
        """Make an existing volume an instance in place and give its handle."""

    def open_instance(self, version: Version, name: str) -> Any:
        """Handle of an instance at a version."""

    def settle(self, version: Version) -> None:
        """Let the instances of a version finish interrupted writes before it is sealed."""

    def join(self, version: Version) -> None:
        """Let the instances of a new version join what a merge brought together; whoever opens one may do it too."""

    def is_derived(self, state: State, path: str) -> bool:
        """Whether the array at a path is made from others."""

    def is_indexed(self, state: State, path: str) -> bool:
        """Whether what the array at a path holds is counted elsewhere."""

    def key_name(self, info: InstanceInfo, key: bytes) -> str | None:
        """What an instance's key that can be in conflict is called; None for one that follows from others."""

    def is_own_key(self, info: InstanceInfo, key: bytes) -> bool:
        """Whether a key of an unversioned instance stays with each repo, whatever data it is brought."""

    def arrived(self, info: InstanceInfo, outside: InstanceTxn, rows: Sequence[Change]) -> None:
        """Take note of an instance's keys that came from another repo, within the transaction that takes them in."""

    def merge_conflicts(self, versions: Sequence[Version]) -> Sequence[DataConflict]:
        """What versions, about to be merged, disagree about beyond chunks and keys."""

    def region(self, info: InstanceInfo, keys: InstanceKeys) -> Region:
        """The blocks of space that an instance stands for, by its keys at a version."""


_known: list[Datatypes] = []


def use(datatypes: Datatypes) -> None:
    """Name who knows the datatypes; `vzarr/__init__.py` does."""
    _known[:] = [datatypes]


def known() -> Datatypes:
    """Who knows the datatypes.

    Raises
    ------
    UnsupportedError
        If nobody was named.
    """
    if not _known:
        raise UnsupportedError("no datatypes are loaded; import vzarr")
    return _known[0]
