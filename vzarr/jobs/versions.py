"""A new repo of some versions as a job (DVID: ``dvid repo UUID limit-versions``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vzarr.errors import InvalidInputError
from vzarr.jobs.arguments import Arguments, check_remote, check_shown
from vzarr.jobs.runner import Order
from vzarr.overlay.extract.limited import limit, listed
from vzarr.overlay.repo import Repo
from vzarr.overlay.transfer.served import is_served


def limit_versions(repo: Repo, given: Mapping[str, Any], allowed: Collection[str] = ()) -> Order:
    """Make a new repo of some versions under their own ids; DVID takes the others out of the repo itself.

    Parameters
    ----------
    given
        ``versions``, those that the new repo is to have; ``target``, its path or URL; ``keys``, where its keys lie.
    allowed
        See `check_remote`.

    Raises
    ------
    InvalidInputError, NotFoundError, SealedError, ForbiddenError
        If that cannot be done.
    """
    arguments = Arguments(given, ("versions", "target", "keys"))
    names = arguments.names("versions")
    if names is None:
        raise InvalidInputError('the body should list versions: {"versions": ["...", ...], "target": "..."}')
    target, keys = check_remote(arguments.text("target"), allowed), check_shown(arguments.text("keys", "")) or None
    if is_served(target):
        raise InvalidInputError("a repo of some versions is made in a folder or on a store; push it to a server then")
    nodes = listed(repo, repo.state, names)

    def work(told: Any) -> dict[str, Any]:
        return {"versions": limit(repo, nodes, target, keys=keys, progress=told)}

    return Order("limit-versions", arguments.shown(), work)
