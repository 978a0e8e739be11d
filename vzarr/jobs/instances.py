"""A copy of an instance as a job (DVID: ``dvid repo UUID copy SOURCE TARGET``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vzarr.errors import AlreadyExistsError, InvalidInputError, SealedError, UnsupportedError
from vzarr.jobs.arguments import Arguments
from vzarr.jobs.runner import Order, Telling
from vzarr.overlay.extract.content import load_region
from vzarr.overlay.extract.duplicate import check_divisible, duplicate, is_unchanged
from vzarr.overlay.version import Version
from vzarr.types import settings

FLATTEN, ALL = "flatten", "all"


def copy(version: Version, given: Mapping[str, Any], *, user: str = "", app: str = "") -> Order:
    """Copy what an instance holds at a version into an open version, as a new instance.

    Parameters
    ----------
    version
        At which the request is made: sealed, the one that is copied from; open, the one that is copied into, from its
        parent.
    given
        ``source`` and ``target``, names of the instance and of the copy; ``filter``, a region that is copied of
        volumes; ``into``, the open version, by default the one at the end of the branch; ``transmit``, always
        ``flatten``.
    user, app
        Who asks, through which application.

    Raises
    ------
    InvalidInputError, NotFoundError, AlreadyExistsError, SealedError, UnsupportedError
        If that cannot be done.
    """
    arguments = Arguments(given, ("source", "target", "transmit", "filter", "into"))
    name, to = arguments.text("source"), settings.check_name(arguments.text("target"))
    if arguments.one_of("transmit", (FLATTEN, ALL), FLATTEN) == ALL:
        raise UnsupportedError(
            "sealed versions never change, so no copy of an instance can be put into them: copy what one version holds"
            " (transmit=flatten), or all versions to another repo (push)"
        )
    source, target = _between(version, arguments.text("into", ""), name)
    source.instance_info(name)
    if to in version.repo.state.instances:
        raise AlreadyExistsError(f"an instance named {to!r} exists already")
    within = load_region(source, arguments.roi())
    if within is not None:
        check_divisible(source, name)

    def work(told: Telling) -> dict[str, Any]:
        made = duplicate(source, name, target, to, within=within, progress=told, user=user, app=app)
        return {"name": made.name, "data_uuid": made.data_uuid, "from": source.uuid, "into": target.uuid}

    return Order("copy", arguments.shown(), work)


def _between(version: Version, into: str, name: str) -> tuple[Version, Version]:
    """The sealed version that is copied from, and the open one that is copied into."""
    if not version.sealed:
        if into:
            raise InvalidInputError(f'version {version.uuid} is open: it is what is copied into, so leave out "into"')
        if len(version.parents) != 1:
            raise SealedError(f"version {version.uuid} is open and comes from no single version: commit it first")
        if not is_unchanged(version, name):
            raise SealedError(f"instance {name!r} was changed in the open version {version.uuid}: commit it first")
        return version.parents[0], version
    target = version.repo[into or version.branch_name]
    if target.sealed:
        raise SealedError(f"version {target.uuid} is sealed: make a new version for the copy first")
    return version, target
