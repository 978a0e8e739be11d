"""A writer whose database began anew, with objects on a store that takes whatever comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import psycopg
import pytest

import vzarr
from tests.postgres import database
from vzarr.errors import SealedError, StorageError
from vzarr.overlay.keys.postgreslocks import CHECK_SECONDS
from vzarr.overlay.reading import regions

pytestmark = pytest.mark.postgres


@pytest.fixture
def keys(postgres_server: str) -> Iterator[str]:
    with database(postgres_server) as url:
        yield url


def end_sessions(keys: str) -> None:
    """What a restart of the database does to all who use it."""
    with psycopg.connect(keys, autocommit=True) as admin:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


def test_who_was_taken_for_dead_does_not_write_into_what_was_sealed_meanwhile(url: str, keys: str):
    """Its session has ended, as that of a killed process has; it must notice before others rely on that."""
    one = np.ones(4, "u1")
    with vzarr.create(url, keys=keys) as repo, vzarr.open(url) as other:
        version = repo.root
        version.create_array("a", dtype="u1", chunks=(4,), shape=(8,))
        view = version.view
        entry = view.array("a")

        def write_while_another_commits() -> None:
            with version.writing():
                version.write_chunks("a", {(0,): one})
                end_sessions(keys)
                began = time.monotonic()
                while not other.root.sealed:
                    with suppress(StorageError):  # connections that were open fail once
                        other.root.commit()
                assert time.monotonic() - began >= CHECK_SECONDS
                with pytest.raises(SealedError):
                    regions.write_chunks(view, entry, {(0,): one * 3})

        with pytest.raises(SealedError):
            write_while_another_commits()
        assert other.root.read("a", (0,), (4,)).tolist() == [1, 1, 1, 1]
        later = other.root.newversion()
        repo[later.uuid].write("a", (0,), one * 2)  # under its new name
        assert other[later.uuid].read("a", (0,), (4,)).tolist() == [2, 2, 2, 2]
