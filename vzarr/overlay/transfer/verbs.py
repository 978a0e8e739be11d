"""Clone, push, pull and fetch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from vzarr.errors import ConflictError, InvalidInputError, NotFoundError, StorageError
from vzarr.overlay.history.refs import check_branch
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import outside
from vzarr.overlay.transfer.advice import commands
from vzarr.overlay.transfer.copying import Progress, adding_up, copy_nodes
from vzarr.overlay.transfer.exchange import check_ops
from vzarr.overlay.transfer.partial import copy_partly, settled
from vzarr.overlay.transfer.place import WHOLE, Place
from vzarr.overlay.transfer.places import existing
from vzarr.overlay.transfer.plans import Arrival, heads, history, missing

ATTEMPTS = 8
"""How often data of no version are brought again that others brought, too, and that were removed for them."""


@dataclass(frozen=True)
class Transferred:
    """What a transfer did.

    Parameters
    ----------
    versions
        Ids of the versions that arrived, parents first.
    nbytes
        Bytes that were copied.
    kept
        Names of unversioned instances of which the receiver kept data of its own, which differ from the sender's.
    """

    versions: Sequence[str]
    nbytes: int
    kept: Sequence[str] = ()


def clone(
    source: Place, target: Place, *, branches: Collection[str] | None = None,
    versions: Collection[str] | None = None, keys: str | None = None, limits: Limits = WHOLE,
    durability: str | None = None, progress: Progress | None = None,
) -> Transferred:  # fmt: skip
    """Make a repo with all sealed versions of another, or those behind some branches.

    Parameters
    ----------
    source, target
        From where to where.
    branches, versions
        Names of branches, or ids of versions, with all that they come from; all branches by default.
    keys
        Key authority of the new repo, as for `vzarr.create`; a clone on an object store without one is read-only.
    limits
        What the clone shall have of the chunks of arrays; everything by default.
    durability
        What it outlasts (see `Repo.create`); a server says that itself.
    progress
        Told of each object; what it raises ends the transfer, which goes on there when it is asked for again.

    Raises
    ------
    NotFoundError
        If the source is no repo, or nothing that was asked for is sealed or there.
    AlreadyExistsError
        If the target is a repo already.
    """
    state = _history(source)
    tips = heads(state, branches, versions)
    if not tips:
        raise NotFoundError(f"nothing in {source.url} is sealed yet: commit first")
    target.choose(state.root)
    target.begin(state.root, keys, source.stripes(), settled(source, state, tips, limits), durability)
    source.learn(target.stripes())  # before another clone of it draws the same number
    return _transfer(source, state, target, tips, progress)


def push(
    source: Place, target: Place, *, branches: Collection[str] | None = None,
    versions: Collection[str] | None = None, unversioned: bool = False, progress: Progress | None = None,
    pulling: bool = False,
) -> Transferred:  # fmt: skip
    """Give another repo the sealed versions that it misses; pulling is the same the other way round.

    Parameters
    ----------
    source, target, branches, versions, progress
        As in `clone`.
    unversioned
        Let the sender's data of unversioned instances take the place of the receiver's; by default the receiver keeps
        what it has, and gets the sender's only of instances of which it has none.
    pulling
        Whether it is the receiver's user who asks: then what grew on both sides is to be merged there.

    Raises
    ------
    NotFoundError
        If either is no repo, or there is no such branch.
    InvalidInputError
        If they have no common history.
    ConflictError
        If a branch grew on both sides: nothing is changed then.
    """
    state = _history(source)
    target.choose(state.root)
    there, tips = existing(target), heads(state, branches, versions)
    try:
        return _transfer(source, state, target, tips, progress, replace=unversioned)
    except ConflictError as e:
        if not set(e.conflicts) <= set(state.branches()):
            raise  # not of branches
        mine, theirs = (
            ((target.url, there), (source.url, state)) if pulling else ((source.url, state), (target.url, there))
        )
        how = commands(*mine, *theirs, list(e.conflicts))
        raise ConflictError(f"{str(e).partition(';')[0]}; bring it together here: {how}", e.conflicts) from e


def fetch(
    source: Place, target: Place, aside: str, *, branches: Collection[str] | None = None, unversioned: bool = False,
    progress: Progress | None = None,
) -> Transferred:  # fmt: skip
    """As `push`, but what grew on both sides arrives on branches of its own, named ``ASIDE-BRANCH``, to be merged."""
    if not aside:
        raise InvalidInputError("name what is fetched, such as by the lab that it comes from (--as NAME)")
    check_branch(f"{aside}-master")
    state = _history(source)
    target.choose(state.root)
    existing(target)
    return _transfer(source, state, target, heads(state, branches), progress, aside, replace=unversioned)


def _history(source: Place) -> State:
    """What the log of a repo says that may be a stranger's."""
    state = existing(source)
    check_ops(history(state))
    return state


def _introduce(source: Place, target: Place) -> None:
    """Let both know who gives which labels; no two do that with one number from now on."""
    before = source.stripes()
    after = source.learn(target.learn(before))
    if after.own != before.own:
        target.learn(after)


def _transfer(
    source: Place, state: State, target: Place, tips: Sequence[str], progress: Progress | None,
    aside: str | None = None, *, replace: bool = False,
) -> Transferred:  # fmt: skip
    there = target.state()
    nodes = missing(state, there, tips)
    plan = Arrival(state, nodes, aside, tips)
    if nodes:
        target.check_takes()
    ops = plan(there)  # what is refused is refused before anything is copied
    _introduce(source, target)
    told = adding_up(progress)
    limits = target.limits()
    moved = copy_partly(source, target, plan, told) if limits else copy_nodes(source, target, state, nodes, told)
    infos = {info.data_uuid: info.name for info in state.every_instance()}
    # What the receiver has deleted does not come back.
    known = {i.data_uuid for i in there.instances.values()} | {op["data_uuid"] for op in ops if op["op"] == "instance"}
    seen = source.shared()
    choice = outside.choose(source, target, state, known, seen, replace=replace)
    kept, more = _bring_and_publish(
        plan, target, lambda: outside.bring(source, target, seen, choice, replace=replace, progress=told)
    )
    names = {*choice.kept, *(infos[i] for i in kept if i in infos)}
    return Transferred(nodes, moved + more, sorted(names))


def _bring_and_publish(
    plan: Arrival, target: Place, bring: Callable[[], tuple[Brought, int]]
) -> tuple[Sequence[str], int]:
    """What the receiver kept of its own, and the number of bytes that were brought.

    Somebody else may bring the same data of no version, which wait no more once they are taken in; then they are
    brought again.
    """
    brought, moved = bring()
    for _ in range(ATTEMPTS):
        try:
            return target.publish(plan, brought), moved
        except StorageError:
            brought, more = bring()
            if not more:
                raise  # nothing was missing
            moved += more
    return target.publish(plan, brought), moved
