"""Datatypes by name, found through the entry point group ``vzarr.types``; making and opening instances.

Nothing is imported before it is asked for: a datatype's module loads with its first instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.views import paths
from vzarr.plugins import offered
from vzarr.types import settings
from vzarr.types.base import Datatype, Instance

if TYPE_CHECKING:
    from vzarr.overlay.history.state import InstanceInfo, State
    from vzarr.overlay.kv.sidecar import Change
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
    from vzarr.overlay.repo import Repo
    from vzarr.overlay.transfer.region import Region
    from vzarr.overlay.version import Version

GROUP = "vzarr.types"


def names() -> list[str]:
    """Names of all datatypes that are installed, sorted."""
    return sorted(offered(GROUP))


@cache
def get(typename: str) -> Datatype:
    """The datatype of a name.

    Raises
    ------
    NotFoundError
        If no installed package offers it.
    TypeError
        If the package's entry point names something that is no datatype of this name.
    """
    found = offered(GROUP).get(typename)
    if found is None:
        raise NotFoundError(f'no datatype "{typename}"; there are {", ".join(names())}')
    datatype = found.load()
    if not isinstance(datatype, Datatype) or datatype.name != typename:
        raise TypeError(f"entry point {found.value} of {GROUP} is no Datatype named {typename!r}")
    return datatype


def open_info(version: Version, info: InstanceInfo) -> Instance:
    """Handle on an instance whose info is at hand; on one that is not versioned it is the same at every version."""
    datatype = get(info.typename)
    return datatype.handle(version if info.versioned else version.repo.outside, info, datatype)


def open_instance(version: Version, name: str) -> Instance:
    """Handle on a named instance at a version.

    Raises
    ------
    NotFoundError
        If the repo has no such instance, or its datatype is not installed.
    """
    handle = open_info(version, version.instance_info(name))
    if not handle.version.sealed:
        handle.datatype.resume(handle)
    return handle


def settle(version: Version) -> None:
    """Let every instance finish what a writer that is gone left half done; a commit begins with it.

    Raises
    ------
    NotFoundError
        If an instance's datatype is not installed: nobody could tell whether its data are whole.
    """
    for handle in _kept(version):
        handle.datatype.settle(handle)


def _kept(version: Version) -> Iterator[Instance]:
    """Handles on all instances whose data are there; of those that were deleted, if their datatype is installed."""
    for info in version.repo.state.kept_instances():
        if not info.deleted or info.typename in offered(GROUP):
            yield open_info(version, info)


def is_derived(state: State, path: str) -> bool:
    """Whether an array of a version is made from others by an instance's datatype, as coarser scales are."""
    found = _owner_of(state, path)
    return found is not None and found[0].derived(found[1])


def is_indexed(state: State, path: str) -> bool:
    """Whether an instance's datatype counts elsewhere what an array of a version holds."""
    found = _owner_of(state, path)
    return found is not None and found[0].indexed(found[1])


def _owner_of(state: State, path: str) -> tuple[Datatype, str] | None:
    """Datatype of the instance that an array belongs to, and the array's path below it."""
    folder, _, own = path.rpartition("/")
    info = next((i for i in state.kept_instances() if i.path == folder), None)
    return (get(info.typename), own) if info is not None and info.typename in offered(GROUP) else None


def key_name(info: InstanceInfo, key: bytes) -> str | None:
    """What an instance's datatype calls a key that can be in conflict; None for one that cannot.

    Raises
    ------
    NotFoundError
        If the datatype is not installed.
    """
    return get(info.typename).key_name(key)


def is_own_key(info: InstanceInfo, key: bytes) -> bool:
    """Whether a key stays with each repo, such as the last label given; never of a datatype that is not installed."""
    return info.typename in offered(GROUP) and get(info.typename).own_key(key)


def arrived(info: InstanceInfo, outside: InstanceTxn, rows: Sequence[Change]) -> None:
    """Let an instance's datatype take note of keys that came from another repo; nothing of one that is not installed.

    Parameters
    ----------
    outside
        The instance's keys outside of versions.
    rows
        What came, a part of it at a time.
    """
    if info.typename in offered(GROUP):
        get(info.typename).arrived(outside, rows)


def region(info: InstanceInfo, keys: InstanceKeys) -> Region:
    """The blocks of space that an instance stands for, by its keys at a version.

    Raises
    ------
    UnsupportedError
        If it is no region.
    NotFoundError
        If its datatype is not installed.
    """
    return get(info.typename).region(info, keys)


def merge_conflicts(versions: Sequence[Version]) -> list[Any]:
    """What versions that are about to be merged disagree about beyond chunks, instance by instance.

    Raises
    ------
    NotFoundError
        If an instance's datatype is not installed.
    """
    found: list[Any] = []
    for handle in _kept(versions[0]):
        if handle.info.versioned:
            found += handle.datatype.conflicts([handle.at(version) for version in versions])
    return found


def join(version: Version) -> None:
    """Let every instance join what a merge brought together in a version."""
    for handle in _kept(version):
        handle.datatype.resume(handle)


def verify(version: Version, name: str | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with the data of instances at a version: each contradiction as instance and message.

    Says nothing about stored bytes, which the overlay checks, but about what a datatype keeps twice, such as the
    voxels of a segmentation and its index.

    Parameters
    ----------
    name
        Only this instance.

    Raises
    ------
    NotFoundError
        If there is no such instance, or an instance's datatype is not installed.
    """
    every = version.repo.state.instances.values()
    for info in every if name is None else [version.instance_info(name)]:
        handle = open_info(version, info)
        yield from ((info.name, message) for message in handle.datatype.verify(handle))


def rename(repo: Repo, name: str, to: str, **who: str) -> InstanceInfo:
    """Give an instance another name (see `Repo.rename_instance`).

    Raises
    ------
    InvalidInputError
        If no instance may be called so.
    """
    return repo.rename_instance(name, settings.check_name(to), **who)


def undelete(repo: Repo, name: str, to: str = "", **who: str) -> InstanceInfo:
    """Show a deleted instance again (see `Repo.undelete_instance`).

    Raises
    ------
    InvalidInputError
        If no instance may be called so.
    """
    return repo.undelete_instance(name, settings.check_name(to) if to else "", **who)


def create(
    version: Version,
    name: str,
    typename: str,
    *,
    versioned: bool = True,
    config: Mapping[str, Any] | None = None,
    user: str = "",
    app: str = "",
) -> Instance:
    """Make an instance: check its settings, enter it in the log, make its arrays.

    Parameters
    ----------
    versioned
        False for data that all versions of the repo share.
    config
        Settings as strings, keys in any case (`vzarr.types.settings`).

    Raises
    ------
    InvalidInputError
        If the name or a setting is wrong, or no group of arrays can be made here.
    NotFoundError
        If there is no such datatype.
    AlreadyExistsError
        If the name is taken.
    SealedError
        If the version is not open.
    """
    datatype = get(typename)
    given = settings.lower_keys(config or {})
    tags = settings.pairs(given.pop("tags", ""))
    checked = datatype.check(given)
    if datatype.has_arrays:
        paths.check_new(version.view, settings.check_name(name), is_array=False)
    info = version.repo.record_instance(
        version, settings.check_name(name), typename, versioned=versioned, config=checked,
        tags=tags or None, user=user, app=app,
    )  # fmt: skip
    handle = open_info(version, info)
    datatype.prepare(handle)
    return handle


def adopt(version: Version, name: str, url: str, **options: Any) -> Instance | None:
    """Make an existing volume an instance in place (see `vzarr.types.adoption.adopt`, loaded when it is needed)."""
    found: Instance | None = import_module("vzarr.types.adoption").adopt(version, name, url, **options)
    return found


def create_from_settings(
    version: Version, all_settings: Mapping[str, Any], *, user: str = "", app: str = ""
) -> Instance:
    """Make an instance from one object of settings that names it too (DVID HTTP API, ``POST R/instance``).

    Parameters
    ----------
    all_settings
        ``typename``, ``dataname``, optionally ``versioned``, and the datatype's settings; keys in any case.

    Raises
    ------
    InvalidInputError, NotFoundError, AlreadyExistsError, SealedError
        As `create`; also if the type or the name is missing.
    """
    config = settings.lower_keys(all_settings)
    versioned = settings.boolean(config, "versioned", True)
    config.pop("versioned", None)
    typename, name = config.pop("typename", ""), config.pop("dataname", "")
    if not typename or not name:
        raise InvalidInputError("POST on repo endpoint requires specification of 'typename' and 'dataname'")
    return create(version, name, typename, versioned=versioned, config=config, user=user, app=app)
