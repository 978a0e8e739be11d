"""The error tree, grouped by what a caller would do about it; no HTTP and no imports from vzarr.

::

    VzarrError
    ├── InvalidInputError          mend the request (also a ValueError)
    │   └── UnsupportedError       mend it, or use a build or datatype that can
    ├── NotFoundError              ask for something that exists (also a LookupError)
    ├── AlreadyExistsError         choose another name
    ├── SealedError                write to an open child instead
    ├── ConflictError              look at `.conflicts`, resolve, try again
    ├── ForbiddenError             come with the right token
    ├── AuthorityUnavailableError  start the key authority, or read a sealed version
    ├── StorageError               mend the storage; never means absent (also an OSError)
    └── FormatError                a repo that is newer, damaged, or no repo at all
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class VzarrError(Exception):
    """Base of every error that vzarr raises on purpose."""


class InvalidInputError(VzarrError, ValueError):
    """The request is malformed; the message says what would be right."""


class UnsupportedError(InvalidInputError):
    """The request is well formed, but asks for what this datatype or installation cannot do."""


class NotFoundError(VzarrError, LookupError):
    """No such repo, version, instance, array, key or label."""


class AlreadyExistsError(VzarrError):
    """The name is taken."""


class SealedError(VzarrError):
    """A write to a version that is sealed or being sealed."""


class ConflictError(VzarrError):
    """Two changes cannot both hold.

    Parameters
    ----------
    message
        One line for a person.
    conflicts
        What collides: paths, ``(path, lo, hi)`` chunk boxes, or keys.
    """

    def __init__(self, message: str, conflicts: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.conflicts = list(conflicts)


class ForbiddenError(VzarrError):
    """The operation needs rights that the caller has not shown."""


class AuthorityUnavailableError(VzarrError):
    """Open versions cannot be reached; sealed ones still can."""


class StorageError(VzarrError, OSError):
    """Reading or writing failed; says nothing about whether the thing exists."""


class FormatError(VzarrError):
    """The bytes on disk are not a repo of a format that this release reads."""
