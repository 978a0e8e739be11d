"""Runs jobs in threads of this process, a few at a time, and writes down how far they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from vzarr import errors
from vzarr.errors import InvalidInputError, VzarrError
from vzarr.jobs.records import CANCELLED, DONE, FAILED, INTERRUPTED, RUNNING, Job, Records, now
from vzarr.overlay.repo import Repo

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Jobs that run at the same time; others wait."""
LOOK_SECONDS = 0.5
"""How often progress is written down, and requests to stop are looked for."""


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Let go of what is held open."""


C = TypeVar("C", bound=Closable)


class Stopped(Exception):
    """A job was asked to stop; it is no error of anybody's."""


class Telling:
    """What a running job says of its progress, and by which it hears that it shall stop.

    Parameters
    ----------
    records, job
        The job, and where it is written down.
    """

    def __init__(self, records: Records, job: Job) -> None:
        self.records, self._job = records, job
        self._lock = threading.Lock()
        self._done, self._total = 0, None if job.total is None else job.total
        self._looked = time.monotonic()
        self._asked = threading.Event()
        self.kept = ExitStack()

    @property
    def number(self) -> str:
        """Id of the job."""
        return self._job.id

    def keep(self, handle: C) -> C:
        """Something that is to stay open until it is written down how the job ended."""
        self.kept.callback(handle.close)
        return handle

    def stop(self) -> None:
        """Let the job end at the next word about its progress."""
        self._asked.set()

    def end(self) -> None:
        """Let nobody say anything more about its progress."""
        with self._lock:
            self._asked.set()

    def __call__(self, total: int | None, size: int = 0) -> None:
        """One more part is done, of so many if that is known (see `vzarr.overlay.transfer.copying.Progress`).

        Raises
        ------
        Stopped
            If the job shall end.
        """
        with self._lock:
            self.check()  # a helper that is late must not change what was written down at the end
            self._done, self._total = self._done + 1, total
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._looked = time.monotonic()
                if self.records.update(self._job.id, **self.progress()).cancelling:
                    self._asked.set()
        self.check()

    def check(self) -> None:
        """Say that nothing more is done yet.

        Raises
        ------
        Stopped
            If the job shall end.
        """
        if self._asked.is_set():
            raise Stopped

    def progress(self) -> dict[str, Any]:
        """How far it is, as fields of the job."""
        return {"done": self._done, "total": self._total}


Work = Callable[[Telling], Any]
"""Does what a job is for, says how far it is, and gives the result, plain data."""


@dataclass(frozen=True)
class Order:
    """A job that may be started.

    Parameters
    ----------
    verb, arguments
        What is written down of it.
    work
        What it does.
    unit
        What its progress counts.
    """

    verb: str
    arguments: Mapping[str, Any]
    work: Work
    unit: str = "objects"


class Runner:
    """The jobs that this process runs."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="vzarr-job")
        self._lock = threading.Lock()
        self._running: dict[str, Telling] = {}
        self._closed = False

    def start(self, repo: Repo, order: Order, *, user: str = "", app: str = "") -> Job:
        """Begin a job, or let it wait for its turn.

        Raises
        ------
        InvalidInputError
            If the server is about to end.
        """
        records = Records.of(repo)
        with self._lock:
            if self._closed:
                raise InvalidInputError("the server is about to stop: no job can be started")
            job = records.add(repo.uuid, order.verb, order.arguments, unit=order.unit, user=user, app=app)
            telling = self._running[job.id] = Telling(records, job)
            self._pool.submit(self._run, telling, job, order.work)
        return job

    def cancel(self, repo: Repo, number: str) -> Job:
        """Ask a job to stop, whichever process runs it.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        job = Records.of(repo).ask_to_stop(number)
        with self._lock:
            telling = self._running.get(number)
        if telling is not None:
            telling.stop()
        return job

    def close(self) -> None:
        """Stop all jobs, and wait until they have ended."""
        with self._lock:
            self._closed = True
            for telling in self._running.values():
                telling.stop()
        self._pool.shutdown()

    def _run(self, telling: Telling, job: Job, work: Work) -> None:
        ended: dict[str, Any]
        try:
            telling.check()
            telling.records.update(job.id, state=RUNNING, started=now())
            ended = {"state": DONE, "result": work(telling)}
        except Stopped:
            ended = {"state": INTERRUPTED if self._closed else CANCELLED}
        except Exception as error:
            if not isinstance(error, VzarrError):
                log.exception("job %s (%s)", job.id, job.verb)
            ended = {"state": FAILED, "error": {"kind": _kind(error), "message": str(error)}}
        telling.end()
        try:
            with telling.kept:
                _write_down(telling, job, ended)
        except Exception:
            log.exception("the end of job %s (%s)", job.id, job.verb)
        finally:
            with self._lock:
                del self._running[job.id]


def _write_down(telling: Telling, job: Job, ended: dict[str, Any]) -> None:
    """Write down how a job ended; also if that cannot be written as it is, or it would seem to run on."""
    try:
        telling.records.update(job.id, ended=now(), **telling.progress(), **ended)
    except Exception as error:
        log.exception("how job %s (%s) ended could not be written down: %s", job.id, job.verb, ended)
        if not isinstance(error, VzarrError):  # else its row is out of reach
            message = f"it ended, and how could not be written down: {error}"
            telling.records.update(job.id, ended=now(), state=FAILED, error={"kind": "", "message": message})


def _kind(error: Exception) -> str:
    """The nearest class of an error that callers know."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__), "")
