"""What commits leave to do is done behind their answers, and waited for by who needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from starlette.testclient import TestClient

from vzarr.api.behind import Behind
from vzarr.api.hub import Hub
from vzarr.errors import StorageError
from vzarr.overlay import layout

SIZE = {"voxels": 16**3}


def test_work_is_done_in_order_and_waited_for():
    behind, done, go = Behind(), [], threading.Event()
    assert not behind.is_busy
    behind(go.wait)
    behind(lambda: done.append(1))
    assert behind.is_busy
    assert not done
    go.set()
    behind.wait()
    assert done == [1]


def test_nobody_waits_for_pauses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vzarr.api.behind.PAUSE_SECONDS", 60)
    behind, done = Behind(), list[int]()
    for n in range(100):
        behind(partial(done.append, n))
    behind.wait()
    assert done == [*range(100)]


def test_what_failed_is_logged_and_keeps_nobody(caplog: pytest.LogCaptureFixture):
    behind, done = Behind(), []

    def fail() -> None:
        raise StorageError("the disk is gone")

    behind(fail)
    behind(lambda: done.append(1))
    behind.wait()
    assert done == [1]
    assert "the disk is gone" in caplog.text


@pytest.fixture
def held_up(hub: Hub) -> Iterator[threading.Event]:
    """Nothing is done behind answers until this is set."""
    go = threading.Event()
    hub.behind(go.wait)
    yield go
    go.set()


@pytest.fixture
def child(client: TestClient, root: str, held_up: threading.Event) -> str:
    """A new version of a repo whose root was sealed with a body."""
    config = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16"}
    assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
    path, labels = f"/api/node/{root}/seg/raw/0_1_2/16_16_16/0_0_0", np.ones((16, 16, 16), np.uint64)
    assert client.post(path, content=labels.tobytes()).status_code == 200
    assert client.post(f"/api/node/{root}/commit", json={}).status_code == 200
    return client.post(f"/api/node/{root}/newversion", json={}).json()["child"]


def test_a_commit_is_answered_before_its_keys_are_folded(
    client: TestClient, hub: Hub, root: str, child: str, held_up: threading.Event
):
    kv, row = hub.repos()[0].authority.kv, layout.row_pending(root)
    assert client.get(f"/api/node/{root}/seg/size/1").json() == SIZE
    assert kv.get(row) == layout.UNFOLDED
    held_up.set()
    hub.behind.wait()
    assert not hub.behind.is_busy
    assert kv.get(row) is None
    assert client.get(f"/api/node/{child}/seg/size/1").json() == SIZE


def test_who_looks_first_folds(client: TestClient, hub: Hub, root: str, child: str):
    assert client.get(f"/api/node/{child}/seg/size/1").json() == SIZE
    assert hub.repos()[0].authority.kv.get(layout.row_pending(root)) is None


def test_the_event_loop_waits_for_no_fold(client: TestClient, hub: Hub, root: str, child: str):
    """A request that has to wait for a fold keeps no other one from being answered."""
    got: list[str] = []

    def ask(node: str) -> threading.Thread:
        def run() -> None:
            assert client.get(f"/api/node/{node}/seg/size/1").json() == SIZE
            got.append(node)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(0.5)
        return thread

    with hub.repos()[0].authority.locks.alone(layout.node(root)):
        waiting = ask(child)
        assert waiting.is_alive()
        ask(root).join(10)
        assert got == [root]
    waiting.join(10)
    assert got == [root, child]
