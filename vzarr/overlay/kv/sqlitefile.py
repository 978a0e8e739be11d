"""The file of a key store in SQLite: made at one stroke, kept off network file systems, its damage named."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import get_ident

from vzarr.errors import AuthorityUnavailableError, StorageError

DAMAGED = "if it is lost, `vzarr rebuild-keys REPO` makes it again from the sealed versions"
_PAGE_BYTES = 4096
"""Files of SQLite are made of whole pages; those that it makes nowadays are of this size."""
MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where (Linux: proc_pid_mountinfo(5)); other systems have no such file, and are not asked."""
NETWORKED = frozenset(
    ("nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs",
     "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.juicefs", "ocfs2", "gfs2")
)  # fmt: skip
"""File systems that several machines see: SQLite's log needs memory that all its users share (sqlite.org/wal.html)."""


def check_place(path: str, device: int) -> None:
    """Refuse a place where SQLite would lose what is written.

    Parameters
    ----------
    device
        Number of the file system on which the store lies.

    Raises
    ------
    AuthorityUnavailableError
        If it is a network file system.
    """
    kind = _file_system(device, MOUNTS)
    if kind in NETWORKED:
        raise AuthorityUnavailableError(
            f"key store {path} lies on a network file system ({kind}), where SQLite loses data: keep keys on a disk of"
            " this machine (--keys sqlite:///PATH) or in PostgreSQL (--keys postgresql://HOST/DATABASE)"
        )


@lru_cache
def _file_system(device: int, mounts: Path) -> str:
    """Type of the mounted file system with that device number; "" where nothing tells."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        rows = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for row in rows:
        words = row.split(" ")
        if words[2:3] == [number] and "-" in words:
            return words[words.index("-") + 1]
    return ""


def create_file(path: str) -> None:
    """Make an empty store at `path` at one stroke, so that nobody sees half of one; leave one that exists."""
    draft = Path(f"{path}.{os.getpid()}.{get_ident()}.new")
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID")
        finally:
            connection.close()
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    except (sqlite3.Error, OSError) as error:
        raise AuthorityUnavailableError(f"cannot create key store {path}: {error}") from error


def is_promising(path: str, size: int) -> bool:
    """Whether a file of `size` bytes looks like a store that can be used, so that nobody need try yet.

    It must not be opened for that: closing any file of the store takes all of SQLite's own locks away from this
    process (POSIX locks), and then commits of several processes destroy each other.
    """
    whole = size > 0 and size % _PAGE_BYTES == 0
    return whole and os.access(path, os.R_OK | os.W_OK) and os.access(os.path.dirname(path), os.W_OK)  # noqa: PTH120


def failed(path: str, error: sqlite3.Error) -> StorageError:
    """The error for a statement that failed; a full disk has the number that it has everywhere."""
    code = getattr(error, "sqlite_errorcode", 0)
    harmed = code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    text = f"key store {path}: {error}{f'; {DAMAGED}' if harmed else ''}"
    return StorageError(errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO, text)
