"""Keys in conflict: called by the names that people know, or absent for who wants to know nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vzarr.errors import ConflictError
from vzarr.overlay.threeway.disputes import KeyConflict
from vzarr.types.base import Instance

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys


@dataclass(frozen=True, repr=False)
class LenientInstance(Instance):
    """An instance whose keys in conflict may be taken for absent.

    Parameters
    ----------
    lenient
        Whether keys that merged versions changed differently are absent, as DVID has it, instead of an error.
    """

    lenient: bool = False

    @property
    def keys(self) -> InstanceKeys:
        """The instance's sidecar keys at this version."""
        return super().keys.without_conflicts() if self.lenient else super().keys


@contextmanager
def named(instance: str, name_of: Callable[[bytes], str | None]) -> Iterator[None]:
    """Context in which a key in conflict is called by its name.

    Parameters
    ----------
    instance
        Name of the instance.
    name_of
        What its datatype calls a key (`vzarr.types.base.Datatype.key_name`).

    Raises
    ------
    ConflictError
        Where one is raised within; its ``conflicts`` are a `KeyConflict` for each key.
    """
    try:
        yield
    except ConflictError as error:
        found = [KeyConflict(instance, name_of(row) or "") for row in error.conflicts]
        raise ConflictError(f"{found[0]} was changed differently in merged versions; write it anew", found) from error
