"""Jobs that run in threads: their progress, their ends, and how they are stopped."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import pytest

import vzarr
from vzarr.errors import ConflictError, InvalidInputError
from vzarr.jobs import runner as module
from vzarr.jobs.records import Job, Records
from vzarr.jobs.runner import Order, Runner, Telling


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)


@pytest.fixture
def repo() -> Iterator[vzarr.Repo]:
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        yield repo


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


def ended(repo: vzarr.Repo, number: str) -> Job:
    until = time.monotonic() + 20
    while (job := Records.of(repo).get(number)).active:
        assert time.monotonic() < until
        time.sleep(0.01)
    return job


def test_a_job_says_how_far_it_is_and_how_it_ended(repo: vzarr.Repo, runner: Runner):
    go, reached = threading.Event(), threading.Event()

    def work(told: Telling) -> dict[str, int]:
        told(3)
        told(3)
        reached.set()
        go.wait(20)
        told(3)
        return {"answer": 42}

    started = runner.start(repo, Order("think", {"about": "it"}, work), user="ann", app="test")
    assert (started.state, started.verb, started.arguments, started.user) == ("queued", "think", {"about": "it"}, "ann")
    reached.wait(20)
    job = Records.of(repo).get(started.id)
    assert (job.state, job.done, job.total, job.unit, bool(job.started), job.ended) == (
        "running",
        2,
        3,
        "objects",
        True,
        "",
    )
    go.set()
    job = ended(repo, started.id)
    assert (job.state, job.done, job.result, job.error, bool(job.ended)) == ("done", 3, {"answer": 42}, None, True)


@pytest.mark.parametrize(
    ("error", "kind"), [(ConflictError("both", ["x"]), "ConflictError"), (ZeroDivisionError("0"), "")]
)
def test_a_job_that_fails_says_why(
    repo: vzarr.Repo, runner: Runner, error: Exception, kind: str, caplog: pytest.LogCaptureFixture
):
    def work(told: Telling) -> None:
        raise error

    job = ended(repo, runner.start(repo, Order("fail", {}, work)).id)
    assert (job.state, job.error, job.result) == ("failed", {"kind": kind, "message": str(error)}, None)
    assert bool(caplog.records) == (kind == "")  # what nobody expected is in the server's log


@pytest.mark.parametrize("here", [True, False])
def test_a_job_is_cancelled_by_any_server(repo: vzarr.Repo, runner: Runner, here: bool):
    reached = threading.Event()

    def work(told: Telling) -> None:
        while True:
            told(None)
            reached.set()
            time.sleep(0.01)

    number = runner.start(repo, Order("dig", {}, work)).id
    reached.wait(20)
    if here:
        runner.cancel(repo, number)
    else:
        Records.of(repo).ask_to_stop(number)
    job = ended(repo, number)
    assert (job.state, job.cancelling, job.error) == ("cancelled", True, None)
    assert job.done > 0
    assert runner.cancel(repo, number) == job


def test_some_run_and_others_wait(repo: vzarr.Repo, runner: Runner):
    go = threading.Event()
    numbers = [runner.start(repo, Order("wait", {}, lambda told: go.wait(20))).id for _ in range(module.AT_ONCE + 1)]
    until = time.monotonic() + 20
    while sorted(j.state for j in Records.of(repo).all()) != ["queued", *["running"] * module.AT_ONCE]:
        assert time.monotonic() < until
    runner.cancel(repo, numbers[-1])
    go.set()
    assert [ended(repo, n).state for n in numbers] == [*["done"] * module.AT_ONCE, "cancelled"]


def test_whoever_ends_interrupts_its_jobs(repo: vzarr.Repo):
    runner, reached = Runner(), threading.Event()

    def work(told: Telling) -> None:
        while True:
            told(None)
            reached.set()

    number = runner.start(repo, Order("dig", {}, work)).id
    reached.wait(20)
    runner.close()
    assert Records.of(repo).get(number).state == "interrupted"
    with pytest.raises(InvalidInputError, match="stop"):
        runner.start(repo, Order("dig", {}, work))


def test_a_result_that_cannot_be_written_down_is_a_failure(repo: vzarr.Repo, runner: Runner):
    """It does not seem to run on for as long as the server does."""
    job = ended(repo, runner.start(repo, Order("think", {}, lambda _told: object())).id)
    assert (job.state, bool(job.ended)) == ("failed", True)
    assert job.error is not None
    assert "not JSON serializable" in job.error["message"]


def test_what_fails_at_the_very_end_is_logged(repo: vzarr.Repo, runner: Runner, caplog: pytest.LogCaptureFixture):
    class Stuck:
        def close(self) -> None:
            raise RuntimeError("it is stuck")

    started = runner.start(repo, Order("think", {}, lambda told: told.keep(Stuck()) and None))
    assert ended(repo, started.id).state == "done"
    runner.close()
    assert "it is stuck" in caplog.text
    assert not runner._running
