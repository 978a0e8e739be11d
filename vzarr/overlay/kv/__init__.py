"""The ordered key/value store beside the arrays, and versions over it.

`open_kv` gives a store by URL; `versioned` lays the version graph over one; `sidecar` writes a sealed
version's changes as plain Zarr.
"""

from __future__ import annotations

from vzarr.errors import InvalidInputError
from vzarr.overlay.kv.base import OrderedKV
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.kv.sqlite import SqliteKV

__all__ = ["OrderedKV", "open_kv"]


def open_kv(url: str, *, create: bool = True, durability: str = "process") -> OrderedKV:
    """Open the key/value store at `url`.

    Parameters
    ----------
    url
        ``memory://NAME``, which is one store within a process, or ``sqlite:///PATH`` (so an absolute path has
        four slashes before it).
    create
        Whether to make a SQLite store that does not exist.
    durability
        ``"process"``: a commit survives the end of any process; ``"fsync"``: it survives power loss too.

    Raises
    ------
    InvalidInputError
        Unknown scheme or durability.
    AuthorityUnavailableError
        The store cannot be opened, or does not exist and `create` is false.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory" and rest:
        return MemoryKV(rest)
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return SqliteKV(rest[1:], create=create, durability=durability)
    raise InvalidInputError(f"a key store is memory://NAME or sqlite:///PATH, not {url!r}")
