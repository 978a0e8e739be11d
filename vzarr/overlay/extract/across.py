"""New repos of some versions, from and to vzarr servers: by a draft beside, for as long as that takes.

What is made of versions is read from folders and written into folders; a server gives and takes clones.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vzarr.overlay.history import refs
from vzarr.overlay.repo import Repo
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import verbs
from vzarr.overlay.transfer.copying import Progress
from vzarr.overlay.transfer.places import existing, open_place
from vzarr.overlay.transfer.served import is_served

T = TypeVar("T")


@contextmanager
def at_hand(url: str, wanted: Sequence[str], limits: Limits, progress: Progress | None = None) -> Iterator[Repo]:
    """A repo that has some versions: the one that a URL names, or a clone for the time being of a server's.

    Parameters
    ----------
    url
        As for `open_place`.
    wanted
        Refs of the versions.
    limits
        What of the chunks is needed.
    progress
        Told of each object that comes from a server.

    Raises
    ------
    NotFoundError, SealedError
        If there is no such repo or version, or it is open.
    """
    if not is_served(url):
        with Repo.open(url) as repo:
            yield repo
        return
    with _draft() as draft:
        # Without a token, so that the server does not note a clone that nobody goes on with.
        with open_place(url) as there, open_place(draft) as here:
            state = existing(there)
            nodes = [refs.resolve(state, ref) for ref in wanted]
            verbs.clone(there, here, versions=nodes, limits=limits, progress=progress)
        with Repo.open(draft) as repo:
            yield repo


def delivered(
    url: str, token: str, keys: str | None, make: Callable[[str, str | None], T], progress: Progress | None = None
) -> T:
    """Make a new repo at a URL by ``make(url, keys)``; a server gets a clone of one that is made beside.

    Parameters
    ----------
    url, token
        As for `open_place`.
    keys
        Where its keys are to be; a server says that itself.
    make
        Makes it in a folder or on a store.
    progress
        Told of each object that goes to a server.
    """
    if not is_served(url):
        return make(url, keys)
    with _draft() as draft:
        made = make(draft, None)
        with open_place(draft) as here, open_place(url, token) as there:
            verbs.clone(here, there, keys=keys, progress=progress)
        return made


@contextmanager
def _draft() -> Iterator[str]:
    """A folder for a repo that goes when it has served."""
    folder = tempfile.mkdtemp(prefix="vzarr-draft-")
    try:
        yield str(Path(folder) / "repo")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
