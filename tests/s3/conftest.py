"""A real S3 server, buckets on it, and repos in them; the tests of the overlay run there as they are."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.config import conf

import vzarr
from tests.s3 import servers
from tests.s3.servers import KEY, REGION, SECRET, Server
from vzarr.overlay import opening
from vzarr.overlay.objects import remote
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.drivers import systems
from vzarr.overlay.objects.drivers.s3 import S3

ON_FILES = {"test_bad_urls_say_what_is_wrong"}
"""Tests that look at files and run in `tests/overlay` alone; so do all that ask for `file_repo`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [i for i in items if Path(__file__).parent in i.path.parents]
    for item in here:
        item.add_marker(pytest.mark.s3)
    gone = [i for i in here if i.name in ON_FILES or "file_repo" in getattr(i, "fixturenames", ())]
    config.hook.pytest_deselected(items=gone)
    items[:] = [i for i in items if i not in gone]


def options(server: Server, **changed: Any) -> dict[str, Any]:
    """What fsspec is told of a server."""
    told = {"endpoint_url": server.endpoint, "key": KEY, "secret": SECRET}
    return {**told, "client_kwargs": {"region_name": REGION}, **changed}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all tests share."""
    server = servers.versitygw(tmp_path_factory.mktemp("versitygw")) or servers.moto()
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def told(server: Server) -> Iterator[pytest.MonkeyPatch]:
    """Clients of this process and of those that it starts find the server."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setitem(conf, "s3", options(server))
        yield patch


@pytest.fixture(scope="session")
def bucket(server: Server) -> str:
    """A bucket for the session."""
    return make_bucket(server, f"vzarr-{uuid.uuid4().hex[:12]}")


def make_bucket(server: Server, name: str) -> str:
    before = conf.get("s3")
    conf["s3"] = options(server)
    try:
        system = systems.open_system("s3")
        systems.run(system._call_s3("create_bucket", Bucket=name), 30)
    finally:
        if before is None:
            del conf["s3"]
        else:
            conf["s3"] = before
    return name


@pytest.fixture(params=["s3fs", "obstore"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Through which client requests go."""
    if request.param == "obstore":
        pytest.importorskip("obstore")
    else:
        monkeypatch.setattr(remote, "_driver", lambda _protocol, bucket: S3(bucket))
    return request.param


@pytest.fixture
def url(bucket: str) -> str:
    """URL at which there is no repo yet."""
    return f"s3://{bucket}/{uuid.uuid4().hex[:12]}/repo"


@pytest.fixture
def objects(url: str, lane: str) -> Objects:
    """An empty place for objects."""
    return opening.open_objects(url)


@pytest.fixture
def keys(tmp_path: Path) -> str:
    """Where a repo's keys go."""
    return f"sqlite:///{tmp_path}/keys.sqlite"


@pytest.fixture
def repo(url: str, keys: str) -> Iterator[vzarr.Repo]:
    """A new repo, its root open."""
    with vzarr.create(url, alias="test", keys=keys) as repo:
        yield repo


@pytest.fixture(params=["root", "child"])
def version(request: pytest.FixtureRequest, repo: vzarr.Repo) -> vzarr.Version:
    """An open version without anything in it but the root group: the root, or a child of it."""
    return repo.root if request.param == "root" else repo.root.commit().newversion()
