"""The ordered key/value store beside the arrays, and versions over it.

`open_kv` gives a store by URL; `versioned` lays the version graph over one; `sidecar` writes a sealed
version's changes as plain Zarr.  A package may bring a backend of its own: an entry point of the group ``vzarr.kv``
whose name is the URL's scheme, and whose object is called as ``opener(url, create=..., durability=...)``.  `base` says
what one must offer, and makes the rest of the read verbs from one (`base.Paging`).
"""

from __future__ import annotations

from vzarr.errors import InvalidInputError
from vzarr.overlay.kv.base import OrderedKV
from vzarr.overlay.kv.lmdb import LmdbKV
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.kv.postgres import PostgresKV
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.plugins import offered

__all__ = ["FORMS", "OrderedKV", "is_at_hand", "knows", "open_kv"]

FORMS = "sqlite:///PATH, lmdb:///PATH or postgresql://HOST/DATABASE"


def open_kv(url: str, *, create: bool = True, durability: str = "process") -> OrderedKV:
    """Open the key/value store at `url`.

    Parameters
    ----------
    url
        ``memory://NAME``, which is one store within a process; ``sqlite:///PATH`` or ``lmdb:///PATH`` (so an absolute
        path has four slashes before it); ``postgresql://HOST/DATABASE``; or what an entry point knows.
    create
        Whether to make a store that does not exist.
    durability
        ``"process"``: a commit survives the end of any process; ``"fsync"``: it survives power loss too.  A database
        server is set up for one or the other by whoever runs it.

    Raises
    ------
    InvalidInputError
        Unknown scheme or durability.
    UnsupportedError
        The backend's extra is not installed.
    AuthorityUnavailableError
        The store cannot be opened, or does not exist and `create` is false.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory" and rest:
        return MemoryKV(rest)
    if scheme in _FILES and len(rest) > 1 and rest.startswith("/"):
        return _FILES[scheme](rest[1:], create=create, durability=durability)
    if scheme == "postgresql" and rest:
        return PostgresKV(url, create=create)
    if found := offered("vzarr.kv").get(scheme):
        opened: OrderedKV = found.load()(url, create=create, durability=durability)
        return opened
    raise InvalidInputError(f"a key store is memory://NAME, {FORMS}, not {url!r}")


def knows(url: str) -> bool:
    """Whether `url` names a store that may be opened, whether or not it is there."""
    scheme, _, rest = url.partition("://")
    if scheme in _FILES:
        return len(rest) > 1 and rest.startswith("/")
    return bool(rest) and (scheme in ("memory", "postgresql") or scheme in offered("vzarr.kv"))


def is_at_hand(kv: OrderedKV) -> bool:
    """Whether a store is on this machine: asking it takes no longer than handing the question to a thread."""
    return isinstance(kv, SqliteKV | MemoryKV)


_FILES: dict[str, type[SqliteKV | LmdbKV]] = {"sqlite": SqliteKV, "lmdb": LmdbKV}
