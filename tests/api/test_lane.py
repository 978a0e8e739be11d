"""Brief changes run one at a time, and wait for nobody for long."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from vzarr.api.lane import Lane
from vzarr.api.plans import plan_of
from vzarr.api.routing import is_brief


def run_all(work, given) -> list[object]:
    async def together():
        lane = Lane()
        return await asyncio.gather(*(lane.run(work, item) for item in given), return_exceptions=True)

    return asyncio.run(together())


def test_calls_run_one_at_a_time_in_their_order():
    order, inside, most = list[int](), 0, list[int]()

    def work(n: int) -> int:
        nonlocal inside
        inside += 1
        most.append(inside)
        time.sleep(0.002)
        order.append(n)
        inside -= 1
        return n

    assert run_all(work, range(8)) == list(range(8))
    assert order == list(range(8))
    assert max(most) == 1


def test_a_call_that_takes_its_time_lets_others_pass():
    passed = threading.Event()

    def work(n: int) -> bool:
        return passed.wait(20) if n == 0 else passed.set() or True

    assert run_all(work, [0, 1]) == [True, True]


def test_an_error_is_of_one_call_only():
    def work(n: int) -> int:
        return 1 // n

    found = run_all(work, [1, 0, 1])
    assert (found[0], found[2]) == (1, 1)
    assert isinstance(found[1], ZeroDivisionError)


@pytest.mark.parametrize("verb", ["merge", "cleave", "renumber"])
def test_edits_of_bodies_are_brief(verb: str):
    found = [plan_of("labelmap", ("POST", verb, count)) for count in (1, 2)]
    assert [is_brief(plan.endpoint) for plan in found if plan is not None] == [True]


def test_merges_over_http_take_the_lane(client: TestClient, root: str, monkeypatch: pytest.MonkeyPatch):
    config = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "0"}
    assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
    labels = np.arange(1, 4097, dtype=np.uint64)
    path, seen, run = f"/api/node/{root}/seg", list[object](), Lane.run
    monkeypatch.setattr(Lane, "run", lambda self, work, given: seen.append(given) or run(self, work, given))
    assert client.post(f"{path}/raw/0_1_2/16_16_16/0_0_0", content=labels.tobytes()).status_code == 200
    assert not seen
    assert client.post(f"{path}/merge", content=b"[1, 2]").status_code == 200
    assert seen == [b"[1, 2]"]
