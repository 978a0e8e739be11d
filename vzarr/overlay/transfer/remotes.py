"""Push, pull and fetch as methods of a repo: from and to the one that a URL names."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from vzarr.overlay.transfer import verbs
from vzarr.overlay.transfer.copying import Progress
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import Transferred

if TYPE_CHECKING:
    from vzarr.overlay.repo import Repo


def push(
    repo: Repo, url: str, *, branches: Collection[str] | None = None, unversioned: bool = False, token: str = "",
    progress: Progress | None = None,
) -> Transferred:  # fmt: skip
    """Give another repo the sealed versions that it misses, if no branch grew on both sides (see `verbs.push`)."""
    with open_place(repo.url) as here, open_place(url, token) as there:
        return verbs.push(here, there, branches=branches, unversioned=unversioned, progress=progress)


def pull(
    repo: Repo, url: str, *, branches: Collection[str] | None = None, unversioned: bool = False, token: str = "",
    progress: Progress | None = None,
) -> Transferred:  # fmt: skip
    """Get the sealed versions that another repo has.

    Raises
    ------
    ConflictError
        If a branch grew on both sides; `fetch` and `merge` bring it together.
    """
    with open_place(repo.url) as here, open_place(url, token) as there:
        return verbs.push(there, here, branches=branches, unversioned=unversioned, progress=progress, pulling=True)


def fetch(
    repo: Repo, url: str, aside: str, *, branches: Collection[str] | None = None, unversioned: bool = False,
    token: str = "", progress: Progress | None = None,
) -> Transferred:  # fmt: skip
    """Get what another repo has; what grew on both sides arrives on branches named ``ASIDE-BRANCH``."""
    with open_place(repo.url) as here, open_place(url, token) as there:
        return verbs.fetch(there, here, aside, branches=branches, unversioned=unversioned, progress=progress)
