"""Key stores to test on: one of each backend."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import database
from vzarr import plugins
from vzarr.overlay.kv import OrderedKV, open_kv
from vzarr.overlay.kv.memory import forget


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that brings a key store of its own, as pip leaves it."""
    about = tmp_path / "site" / "shelf-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vzarr.kv]\nshelf = tests.overlay.kv.outsider:open_shelf\n")
    monkeypatch.syspath_prepend(about.parent)
    plugins.forget()
    yield
    plugins.forget()


@pytest.fixture(params=["memory", "sqlite", "lmdb", "shelf", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kv_url(request: pytest.FixtureRequest, tmp_path) -> Iterator[str]:
    """URL of a store that does not exist yet."""
    if request.param == "postgresql":
        with database(request.getfixturevalue("postgres_server")) as url:
            yield url
        return
    if request.param == "shelf":
        request.getfixturevalue("installed")
    if request.param != "memory":
        yield f"{request.param}:///{tmp_path}/keys.db"
        return
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    forget(name)


@pytest.fixture
def kv(kv_url: str) -> Iterator[OrderedKV]:
    """An empty store."""
    store = open_kv(kv_url)
    yield store
    store.close()
