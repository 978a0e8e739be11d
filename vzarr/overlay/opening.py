"""What makes a folder a repo: ``vzarr.json``, the first log entry, and the key authority it names."""

from __future__ import annotations

import errno
import os
import secrets
import uuid as uuids
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from vzarr.errors import (
    AlreadyExistsError,
    AuthorityUnavailableError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from vzarr.overlay import layout, passcodes
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.history import plans, refs
from vzarr.overlay.history.dag import first_parents
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import handover
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.locks import FileLocks, Locks, ProcessLocks
from vzarr.overlay.keys.postgreslocks import PostgresLocks
from vzarr.overlay.kv import FORMS, OrderedKV, knows, open_kv
from vzarr.overlay.kv.postgres import PostgresKV
from vzarr.overlay.kv.section import Section, Unreachable
from vzarr.overlay.objects.base import Objects, ReadOnly
from vzarr.overlay.objects.durable import DurableFiles
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.objects.localpaths import local_path
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.objects.remote import RemoteObjects

PROCESS, FSYNC = "process", "fsync"
"""What an acknowledged change outlasts: the end of any process, or power loss too."""
EMBEDDED = "embedded"
"""In place of a URL of keys: they lie in the repo itself."""
REBUILD = "if they are lost, `vzarr rebuild-keys REPO` makes them again from the sealed versions"
OWNER = b"@"
"""Row of a repo's section of a key store that says whose it is."""


def open_objects(url: str | os.PathLike[str]) -> Objects:
    """Open the object store that a URL names.

    Parameters
    ----------
    url
        A local path, ``file://`` path, ``memory://name``, or a URL of an object store (``s3://bucket/folder``).

    Raises
    ------
    InvalidInputError
        If it is empty, or a URL that has lost a slash.
    UnsupportedError
        If the URL names a protocol that nothing is known of.
    """
    text = os.fspath(url)
    if not text:
        raise InvalidInputError(f"a repo is named by a path or a URL, not by {url!r}")
    path = local_path(text)
    if path is not None:
        return FileObjects(path)
    parts = urlsplit(text)
    if parts.scheme == "memory":
        return MemoryObjects((parts.netloc + parts.path).strip("/"))
    return RemoteObjects.of(text)


def create(
    objects: Objects, alias: str, description: str, root: str | None, user: str, app: str, keys: str | None = None,
    passcode: str = "", durability: str = PROCESS,
) -> None:  # fmt: skip
    """Make a repo with an open, empty root version.

    Parameters
    ----------
    keys
        URL of the key authority; by default the keys are kept beside the objects.
    passcode
        See `passcodes`; "" for none.
    durability
        See `Repo.create`.

    Raises
    ------
    AlreadyExistsError
        If there is one already; of several racing callers one succeeds.
    InvalidInputError
        If the objects lie where no keys can be kept, and `keys` is not given, or there is no such durability.
    AuthorityUnavailableError
        If the key authority cannot be reached.
    """
    asked = root
    wanted = refs.check_node_id(root) if root is not None else uuids.uuid4().hex
    said = lasting(durability)
    objects = as_durable(objects, said)
    root = claim(objects, wanted, check_keys(objects, keys), **said, **passcodes.field(passcode))
    if root != wanted:
        # A creation that was cut off left no log; whoever makes the first entry finishes it.
        if objects.get(layout.log_entry(0)) is not None:
            raise AlreadyExistsError(f"{objects.url} is a repo already")
        if asked:
            raise AlreadyExistsError(f"{objects.url} was begun with root {root}; create it with that root, or without")
    objects.create(f"{layout.zarr(root)}/{arrays.doc_key('')}", arrays.group_doc(None))
    RepoLog(objects).publish(plans.create(root, alias, description, objects.url), user=user, app=app)


def lasting(durability: str) -> dict[str, Any]:
    """What ``vzarr.json`` says of a durability.

    Raises
    ------
    InvalidInputError
        If there is no such durability.
    """
    if durability not in (PROCESS, FSYNC):
        raise InvalidInputError(f"durability is one of {PROCESS}, {FSYNC}, not {durability!r}")
    return {} if durability == PROCESS else {"durability": durability}


def as_durable(objects: Objects, meta: Mapping[str, Any]) -> Objects:
    """The same objects, written so that they last as ``vzarr.json`` says: other stores always are when they answer."""
    if meta.get("durability") == FSYNC and isinstance(objects, FileObjects):
        return DurableFiles(Path(objects.root))
    return objects


def claim(objects: Objects, root: str, keys: str, *, stripe: int = 0, **more: Any) -> str:
    """Make ``vzarr.json``, unless there is one, and give the root that it names.

    Parameters
    ----------
    root
        Id of the repo's root version.
    keys
        URL of the key authority, as `check_keys` gives it.
    stripe
        Which of the repo's clones it is, 0 for the first: each gives labels of a range of its own.
    **more
        Other keys of ``vzarr.json``.

    Raises
    ------
    AlreadyExistsError
        If there is a whole repo with that root.
    """
    meta: dict[str, Any] = {"format": layout.FORMAT, "root": root, **more}
    meta["keys"] = {"id": secrets.token_hex(16), "url": keys}
    if stripe:
        meta["stripe"] = stripe
    objects.check_writable()
    if objects.size(layout.REPO) is None:  # or a refusal would leave an empty key store behind
        _claim(meta)  # first: keys that cannot be reached leave nothing behind, and keys without a claim serve nobody
        try:
            is_new = objects.create(layout.REPO, orjson.dumps(meta, option=orjson.OPT_INDENT_2))
        except StorageError as e:
            raise StorageError(e.errno or errno.EIO, f"no repo can be made at {objects.url}: {e.strerror or e}") from e
        if is_new:
            return root
        _claim(meta, drop=True)
    meta = read_meta(objects)
    begun = str(meta["root"])
    if begun == root and objects.get(layout.log_entry(0)) is not None:
        raise AlreadyExistsError(f"{objects.url} is a repo already")
    if objects.get(layout.log_entry(0)) is None and not lacks_keys(objects, meta):
        open_authority(objects, meta).close()  # or two machines would each be the authority
    return begun


def lacks_keys(objects: Objects, meta: Mapping[str, Any]) -> bool:
    """Whether a repo has no key authority, since it was cloned to an object store without one."""
    return keys_named(meta)[0] == EMBEDDED and not isinstance(objects, FileObjects | MemoryObjects)


def is_mirror(objects: Objects, meta: Mapping[str, Any]) -> bool:
    """Whether a repo is a mirror, and nobody has given it keys of its own: the log of another one goes on in it."""
    database = objects.path(layout.database())
    has_keys = keys_named(meta)[0] != EMBEDDED or (database is not None and Path(database).exists())
    return bool(meta.get("mirror")) and not has_keys


def read_meta(objects: Objects) -> dict[str, Any]:
    """What ``vzarr.json`` says.

    Raises
    ------
    NotFoundError
        If there is no repo.
    FormatError
        If it is damaged, or of a newer format.
    """
    data = objects.get(layout.REPO)
    if data is None:
        raise NotFoundError(f"no repo at {objects.url}")
    try:
        meta: dict[str, Any] = orjson.loads(data)
        known = meta["format"] <= layout.FORMAT and isinstance(meta["root"], str)
    except (orjson.JSONDecodeError, KeyError, TypeError) as e:
        raise FormatError(f"{layout.REPO} in {objects.url} is damaged: {e}") from e
    if not known:
        raise FormatError(
            f"{objects.url} has format {meta['format']}; this release reads up to {layout.FORMAT}: upgrade vzarr"
        )
    return meta


def open_authority(objects: Objects, meta: Mapping[str, Any]) -> Authority:
    """The key authority that ``vzarr.json`` names: keys, and the locks that go with them.

    Raises
    ------
    AuthorityUnavailableError
        If it cannot be reached from here: sealed versions can be read without it.
    """
    url, number = keys_named(meta)
    durability = str(meta.get("durability", PROCESS))
    objects = as_durable(objects, meta)
    if url == EMBEDDED:
        return _embedded(objects, number, bool(meta.get("mirror")), durability)
    store = open_kv(url, create=False, durability=durability)
    kv = Section(store, section(number))
    if kv.get(OWNER) is None:
        store.close()
        raise AuthorityUnavailableError(
            f"{url} holds no keys of {objects.url}: they lie on another machine, or are lost; {REBUILD}"
        )
    return Authority(kv, objects, _locks_beside(store, url, number), number)


def reach_authority(objects: Objects, meta: Mapping[str, Any]) -> tuple[Authority, Objects]:
    """A repo's authority and objects; where the authority cannot be reached, both only to read sealed versions."""
    objects = as_durable(objects, meta)
    try:
        return open_authority(objects, meta), objects
    except AuthorityUnavailableError as e:
        keys = Unreachable(f"{e}; sealed versions can be read", elsewhere=is_mirror(objects, meta))
        shown = ReadOnly(objects, keys.refuse)
        return Authority(keys, shown, ProcessLocks(objects.url)), shown


def check_reachable(authority: Authority, state: State, ref: str, node: str) -> None:
    """Refuse an open version that cannot be seen from here, naming one that can.

    Raises
    ------
    AuthorityUnavailableError
        If it is open and the authority cannot be reached.
    """
    keys = authority.kv
    if authority.number in state.moved and not state.nodes[node].sealed:
        raise handover.moved()
    if isinstance(keys, Unreachable) and not state.nodes[node].sealed:
        sealed = next((n for n in first_parents(node, state.parents) if state.nodes[n].sealed), None)
        instead = f": its newest sealed ancestor is {sealed}, {ref}@sealed" if sealed else ", and nothing is sealed yet"
        raise AuthorityUnavailableError(f"version {node} is open, and {keys.reason}{instead}")


def _embedded(objects: Objects, number: str, is_mirror: bool, durability: str) -> Authority:
    if isinstance(objects, MemoryObjects):
        return Authority(open_kv(f"memory://{number}"), objects, ProcessLocks(objects.url), number)
    if not isinstance(objects, FileObjects):
        raise AuthorityUnavailableError(
            f"{objects.url} has no keys, as a clone on an object store that was made without any, or a folder that was"
            " copied there without its own; `vzarr rebuild-keys REPO --keys URL` gives it some"
        )
    database = objects.path(layout.database())
    if not os.path.exists(database):  # noqa: PTH110 - quicker, and every opening comes here
        if is_mirror:
            raise AuthorityUnavailableError(
                f"{objects.url} is a mirror: its keys are in the original; if that is lost, `vzarr rebuild-keys` makes"
                " the mirror a repo"
            )
        # Looked at twice: whoever made the log go on has made the file before.
        if _has_history(objects) and not Path(database).exists():
            raise AuthorityUnavailableError(f"the keys of {objects.url} are lost: {database} is gone; {REBUILD}")
        try:
            objects.make_dir(layout.KEYS)
        except OSError as e:
            raise AuthorityUnavailableError(f"no keys can be kept in {objects.url}: {e.strerror or e}") from e
    kv = open_kv(f"sqlite:///{database}", durability=durability)
    return Authority(kv, objects, FileLocks(objects.root, keep=True), number)


def _has_history(objects: Objects) -> bool:
    """Whether a repo is more than an empty root, which has keys from the first."""
    state = RepoLog(objects).open()
    return state.next > 1 or len(state.nodes) > 1


def check_keys(objects: Objects, given: str | None) -> str:
    """Where a new repo's keys shall lie, as ``vzarr.json`` says it.

    Raises
    ------
    InvalidInputError
        If keys cannot lie there, or would not last; or if the URL holds a password.
    """
    if given in (None, "", EMBEDDED):
        if isinstance(objects, FileObjects | MemoryObjects):
            return EMBEDDED
        raise InvalidInputError(
            f"{objects.url} can hold no keys: name a place for them, such as keys='sqlite:///PATH' on a disk of this"
            " machine (vzarr init URL --keys sqlite:///PATH)"
        )
    assert given is not None
    scheme, _, rest = given.partition("://")
    if scheme == "memory":
        raise InvalidInputError("keys in memory would end with this process: use sqlite:///PATH")
    if scheme in ("sqlite", "lmdb") and len(rest) > 1 and rest.startswith("/"):
        return f"{scheme}:///{Path(rest[1:]).expanduser().absolute()}"
    try:
        password = urlsplit(given).password
    except ValueError as e:
        raise InvalidInputError(f"the URL of the keys cannot be read: {e}") from e
    if not knows(given):
        raise InvalidInputError(f"a key store is {FORMS}, not {given!r}")
    if scheme != "postgresql" and not rest.startswith("/"):
        raise InvalidInputError(
            f"a key store of another package is named SCHEME:///PATH, not {given!r}: locks lie there"
        )
    if password is not None:
        raise InvalidInputError(
            "the URL of the keys is recorded in the repo for all to read: leave the password out of it, and give it to"
            " the database's client, such as in ~/.pgpass"
        )
    return given


def keys_named(meta: Mapping[str, Any]) -> tuple[str, str]:
    """URL and id of the keys that ``vzarr.json`` names."""
    named = meta.get("keys")
    found = named if isinstance(named, dict) else {}
    return str(found.get("url", EMBEDDED)), str(found.get("id", ""))


def section(number: str) -> bytes:
    """What the rows of a repo's keys begin with in a store that serves many."""
    return b"R" + number.encode() + b"\0"


def _claim(meta: Mapping[str, Any], *, drop: bool = False) -> None:
    """Mark the repo's part of its key store: a store without the mark is another machine's, or a new one."""
    url, number = keys_named(meta)
    if url == EMBEDDED:
        return
    kv = Section(open_kv(url, durability=str(meta.get("durability", PROCESS))), section(number))
    try:
        mark = orjson.dumps({"root": meta["root"]})
        kv.transact(lambda txn: txn.delete(OWNER) if drop else txn.put(OWNER, mark))
    finally:
        kv.close()


def _locks_beside(store: OrderedKV, url: str, number: str) -> Locks:
    if isinstance(store, PostgresKV):
        return PostgresLocks(store, number)
    path = url.partition(":///")[2]
    return FileLocks(f"{path}.locks/{number}", keep=False)
