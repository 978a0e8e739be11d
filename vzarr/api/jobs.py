"""The jobs of a server: those that it runs itself, and what is known of others of its repos."""

from __future__ import annotations

import time

from vzarr.api.hub import Hub
from vzarr.errors import AuthorityUnavailableError, NotFoundError, StorageError, VzarrError
from vzarr.jobs.records import Job, Records
from vzarr.jobs.runner import Order, Runner
from vzarr.overlay.repo import Repo

WAIT_SECONDS = 60.0
"""How long a request may wait for the end of a job."""
_LOOK_SECONDS = 0.1


class Jobs:
    """Jobs by their ids.

    Parameters
    ----------
    hub
        All repos.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub, self._runner = hub, Runner()

    def start(self, repo: Repo, order: Order, user: str, app: str) -> Job:
        """Begin a job."""
        return self._runner.start(repo, order, user=user, app=app)

    def all(self) -> list[Job]:
        """Every job of every repo that is remembered, newest first."""
        found = [job for repo in self._hub.current() for job in Records.of(repo).all()]
        return sorted(found, key=lambda job: job.id, reverse=True)

    def find(self, number: str, wait: float = 0.0) -> Job:
        """A job; if it has not ended, as it is some seconds later, or when it ends.

        Raises
        ------
        NotFoundError
            If no repo knows one of that id.
        StorageError, AuthorityUnavailableError
            If none does whose keys can be reached, and those of some cannot.
        """
        job = self._find(number)[1]
        until = time.monotonic() + min(wait, WAIT_SECONDS)
        while job.active and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            job = self._find(number)[1]  # its row may move to other keys
        return job

    def cancel(self, number: str) -> Job:
        """Ask a job to stop, whichever server runs it; nothing happens to one that has ended."""
        repo, _job = self._find(number)
        return self._runner.cancel(repo, number)

    def close(self) -> None:
        """Stop the jobs of this server, and wait until they have ended."""
        self._runner.close()

    def _find(self, number: str) -> tuple[Repo, Job]:
        failed: VzarrError | None = None
        for repo in self._hub.current():
            try:
                return repo, Records.of(repo).get(number)
            except NotFoundError:
                continue
            except (StorageError, AuthorityUnavailableError) as error:
                failed = error  # another repo may know it
        raise failed or NotFoundError(f"no job {number!r}")
