"""Push, pull, fetch and mirror as jobs, in DVID's words where it has some (DVID: ``dvid repo UUID push ...``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vzarr.errors import ConflictError, InvalidInputError, SealedError
from vzarr.jobs.arguments import Arguments, check_remote, check_shown
from vzarr.jobs.runner import Order, Telling
from vzarr.overlay.extract.across import delivered
from vzarr.overlay.extract.content import load_region
from vzarr.overlay.extract.flat import flatten
from vzarr.overlay.history.refs import check_branch
from vzarr.overlay.history.state import State
from vzarr.overlay.repo import Repo
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import mirror as mirroring
from vzarr.overlay.transfer import verbs
from vzarr.overlay.transfer.partial import settled
from vzarr.overlay.transfer.place import Place
from vzarr.overlay.transfer.places import existing, open_place
from vzarr.overlay.transfer.plans import heads, missing
from vzarr.overlay.version import Version

ALL, BRANCH, FLATTEN, VERSION = "all", "branch", "flatten", "version"


def push(version: Version, given: Mapping[str, Any], allowed: Collection[str] = ()) -> Order:
    """Give sealed versions to another repo, or make it one.

    Parameters
    ----------
    version
        At which the request is made.
    given
        ``target``, the other repo's path or URL; ``transmit``: ``all`` versions (by default), those that this one
        comes from (``branch``), this ``version`` alone, or what it holds as the root of a new repo (``flatten``);
        ``data`` and ``filter``, the instances and the region that a new repo is to have; ``unversioned``, whether
        unversioned data replace the other's; ``keys`` of a new repo; ``token`` of a server.
    allowed
        See `check_remote`.

    Raises
    ------
    InvalidInputError, NotFoundError, SealedError, UnsupportedError, ForbiddenError
        If that cannot be done.
    """
    arguments = Arguments(given, ("target", "transmit", "data", "filter", "unversioned", "keys", "token"))
    target = check_remote(arguments.text("target"), allowed)
    transmit = arguments.one_of("transmit", (ALL, BRANCH, FLATTEN, VERSION), ALL)
    names, roi, keys = arguments.names("data"), arguments.roi(), check_shown(arguments.text("keys", "")) or None
    unversioned, token = arguments.flag("unversioned"), arguments.text("token", "")
    for name in names or ():
        version.instance_info(name)
    if transmit != ALL and not version.sealed:
        raise SealedError(f"version {version.uuid} is open: commit it first, or push {version.uuid}@sealed")
    if transmit == FLATTEN:
        return Order("push", arguments.shown(), lambda told: _flatten(version, target, token, names, roi, keys, told))
    limits = Limits(instances=names, roi=roi)
    state = version.repo.state
    versions = _all_sealed(state) if transmit == ALL else [version.uuid]
    if limits:
        limits = settled(version.repo.objects, state, versions, limits)

    def work(told: Telling) -> dict[str, Any]:
        with open_place(version.repo.url) as here, open_place(target, token) as there:
            there.choose(version.repo.uuid)
            if transmit == VERSION:
                _check_alone(here, there, version.uuid)
            if there.state().nodes:
                _check_limits(there, limits)
                done = verbs.push(here, there, versions=versions, unversioned=unversioned, progress=told)
            else:
                done = verbs.clone(here, there, versions=versions, keys=keys, limits=limits, progress=told)
        return _result(done)

    return Order("push", arguments.shown(), work)


def _all_sealed(state: State) -> list[str]:
    """The newest sealed versions of all branches."""
    found = heads(state, None)
    if not found:
        raise SealedError(f"nothing in repo {state.root} is sealed yet: commit first")
    return found


def pull(repo: Repo, given: Mapping[str, Any], allowed: Collection[str] = ()) -> Order:
    """Get the sealed versions that another repo has.

    Parameters
    ----------
    given
        ``source``, the other repo's path or URL; ``branches``, names of those that are wanted, all by default; ``as``,
        beside what name what grew on both sides arrives, instead of being refused; ``unversioned`` and ``token`` as
        for `push`.
    """
    arguments = Arguments(given, ("source", "branches", "as", "unversioned", "token"))
    source = check_remote(arguments.text("source"), allowed)
    branches, unversioned = arguments.names("branches"), arguments.flag("unversioned")
    aside, token = arguments.text("as", ""), arguments.text("token", "")
    if aside:
        check_branch(aside)

    def work(told: Telling) -> dict[str, Any]:
        how: dict[str, Any] = {"branches": branches, "unversioned": unversioned, "progress": told}
        with open_place(source, token) as there, open_place(repo.url) as here:
            return _result(
                verbs.fetch(there, here, aside, **how) if aside else verbs.push(there, here, pulling=True, **how)
            )

    return Order("pull", arguments.shown(), work)


def mirror(repo: Repo, given: Mapping[str, Any], allowed: Collection[str] = ()) -> Order:
    """Make a backup, or bring one up to date (see `vzarr.overlay.transfer.mirror`).

    Parameters
    ----------
    given
        ``target``, path or URL of the mirror; ``open``, whether it holds open versions too; ``token`` of a server.
    allowed
        See `check_remote`.
    """
    arguments = Arguments(given, ("target", "open", "token"))
    target = check_remote(arguments.text("target"), allowed)
    opened, token = arguments.flag("open"), arguments.text("token", "")

    def work(told: Telling) -> dict[str, Any]:
        with open_place(repo.url) as here, open_place(target, token) as there:
            return _result(mirroring.mirror(here, there, opened=opened, progress=told))

    return Order("mirror", arguments.shown(), work)


def _result(done: verbs.Transferred) -> dict[str, Any]:
    return {"versions": list(done.versions), "bytes": done.nbytes, "kept": list(done.kept)}


def _check_alone(here: Place, there: Place, node: str) -> None:
    """Refuse to send a version whose parents are not there."""
    lacking = [n for n in missing(existing(here), there.state(), [node]) if n != node]
    if lacking:
        count = f"{len(lacking)} versions that {node} comes from"
        raise ConflictError(f"{there.url} lacks {count}: send them too (transmit=branch)", lacking)


def _check_limits(there: Place, limits: Limits) -> None:
    """Refuse to send a part of versions to a repo that is not limited to just that."""
    if limits and limits != (its := there.limits()):
        has = f"with the limits {its}" if its else "which takes whole versions"
        raise InvalidInputError(f"{there.url} is a repo already, {has}: data and filter are for a new one")


def _flatten(
    version: Version, target: str, token: str, names: Collection[str] | None, roi: tuple[str, str] | None,
    keys: str | None, told: Telling,
) -> dict[str, Any]:  # fmt: skip
    within = load_region(version, roi)

    def make(url: str, its: str | None) -> str:
        return flatten(version, url, keys=its, instances=names, within=within, progress=told)

    return {"root": delivered(target, token, keys, make, told)}
