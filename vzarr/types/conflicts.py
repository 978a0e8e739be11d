"""Conflicts of keys, called by the names that people know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vzarr.errors import ConflictError
from vzarr.overlay.threeway.disputes import KeyConflict


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
