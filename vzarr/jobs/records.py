"""What is known of jobs: a row each in the key store of the repo that they are about, for every server of it to see."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from vzarr.errors import NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.keys import handover
from vzarr.overlay.keys.locks import Presence
from vzarr.overlay.kv.base import OrderedKV, Transaction
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.kv.section import Unreachable
from vzarr.overlay.repo import Repo

QUEUED, RUNNING = "queued", "running"
DONE, FAILED, CANCELLED, INTERRUPTED = "done", "failed", "cancelled", "interrupted"
KEPT = 100
"""Jobs of a repo that are remembered; older ones that have ended are forgotten."""


@dataclass(frozen=True)
class Job:
    """One job, as of some moment.

    Parameters
    ----------
    id
        Begins with the time, so that ids sort by it.
    repo
        Id of the repo's root.
    verb, arguments
        What is done; without secrets.
    user, app
        Who asked, through which application.
    state
        `QUEUED`, `RUNNING`, `DONE`, `FAILED`, `CANCELLED`, or `INTERRUPTED`: the process that ran it is gone.
    created, started, ended
        When (UTC, RFC 3339); "" for what has not come yet, or nobody could write down.
    done, total, unit
        How far it is; the total is None while nobody knows it.
    result
        What came of it, once it is done.
    error
        Why it failed: ``kind``, a class of `vzarr.errors`, and ``message``.
    cancelling
        Whether somebody asked it to stop.
    process
        Name of the process that runs it among those that use the repo's keys.
    """

    id: str
    repo: str
    verb: str
    arguments: Mapping[str, Any]
    user: str = ""
    app: str = ""
    state: str = QUEUED
    created: str = ""
    started: str = ""
    ended: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""
    result: Any = None
    error: Mapping[str, str] | None = None
    cancelling: bool = False
    process: str = ""

    @property
    def active(self) -> bool:
        """Whether it runs, or will."""
        return self.state in (QUEUED, RUNNING)

    def to_json(self) -> dict[str, Any]:
        """Plain data for people; the name of the process says nothing to them."""
        plain = asdict(self)
        del plain["process"]
        progress = {key: plain.pop(key) for key in ("done", "total", "unit")}
        return {**plain, "progress": progress}


class Records:
    """The jobs of one repo.

    Parameters
    ----------
    kv
        Where the rows are.
    presence
        Tells which processes live.
    """

    def __init__(self, kv: OrderedKV, presence: Presence) -> None:
        self._kv, self._presence = kv, presence

    @classmethod
    def of(cls, repo: Repo) -> Records:
        """The jobs of a repo; where its keys cannot be reached, those of this process."""
        kv: OrderedKV = repo.authority.kv
        if isinstance(kv, Unreachable):
            kv = _elsewhere.setdefault(repo.url, MemoryKV())
        return cls(kv, repo.authority.presence)

    def add(
        self, repo: str, verb: str, arguments: Mapping[str, Any], *, unit: str = "", user: str = "", app: str = ""
    ) -> Job:
        """Enter a new job, and forget the oldest if there are many."""
        number = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        process = self._presence.name
        job = Job(number, repo, verb, arguments, user, app, created=now(), unit=unit, process=process)

        known = list(_all(self._kv))
        # Who is gone is asked for only if something is to be forgotten: that may take seconds.
        gone = self._gone(known) if len(known) >= KEPT else set()

        def write(txn: Transaction) -> None:
            handover.check(txn, self._presence)
            for old in [j for j in _all(txn) if not _seen(j, gone).active][: -KEPT + 1]:
                txn.delete(layout.row_job(old.id))
            txn.put(layout.row_job(job.id), orjson.dumps(job))

        self._kv.transact(write)
        return job

    def all(self) -> list[Job]:
        """Every job that is remembered, newest first."""
        jobs = list(_all(self._kv))
        gone = self._gone(jobs)
        return [_seen(job, gone) for job in jobs][::-1]

    def get(self, number: str) -> Job:
        """One job.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        job = _job(self._kv.get(layout.row_job(number)), number)
        return _seen(job, self._gone([job]))

    def update(self, number: str, **changes: Any) -> Job:
        """Write down what became of a job; gives it with what others wrote."""

        def write(txn: Transaction) -> Job:
            job = replace(_job(txn.get(layout.row_job(number)), number), **changes)
            txn.put(layout.row_job(number), orjson.dumps(job))
            return job

        return self._kv.transact(write)

    def ask_to_stop(self, number: str) -> Job:
        """Let whoever runs a job know that it is not wanted any more; nothing happens to one that has ended."""
        job = self.get(number)
        if not job.active or job.cancelling:
            return job
        asked = self.update(number, cancelling=True)
        return _seen(asked, self._gone([asked]))

    def _gone(self, jobs: Iterable[Job]) -> set[str]:
        """Processes of jobs that have not ended, and never will."""
        return self._presence.gone(job.process for job in jobs if job.active)


_elsewhere: dict[str, OrderedKV] = {}
"""Rows of repos without reachable keys, by URL."""


def now() -> str:
    """Current time in UTC, RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seen(job: Job, gone: Set[str]) -> Job:
    """A job as it is: nobody writes down that a process was killed."""
    if not job.active or job.process not in gone:
        return job
    message = "the process that ran it is gone; the same request goes on where it stopped"
    return replace(job, state=INTERRUPTED, error={"kind": "", "message": message})


def _all(view: Any) -> Iterator[Job]:
    start = layout.row_job("")
    for row, data in view.scan(start, layout.after(start)):
        yield _job(data, row[len(start) :].decode())


def _job(data: bytes | None, number: str) -> Job:
    if data is None:
        raise NotFoundError(f"no job {number!r}")
    return Job(**orjson.loads(data))
