"""What every datatype shares: `Datatype`, its description, and `Instance`, the handle on data at a version.

A datatype is composed, not derived: a `Datatype` names the functions that check its settings, prepare its
arrays and open its handle, and a handle is a frozen dataclass over functions on arrays and keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Self, TypeVar

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.overlay.hierarchy import naming
from vzarr.types import settings

if TYPE_CHECKING:
    from vzarr.overlay.history.state import InstanceInfo
    from vzarr.overlay.kv.sidecar import Change
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
    from vzarr.overlay.transfer.region import Region
    from vzarr.overlay.version import Version

T = TypeVar("T")


def _no_settings(config: Mapping[str, str]) -> dict[str, str]:
    return dict(config)


def _nothing_to_prepare(instance: Any) -> None:
    """Leave a new instance as it is: it has no arrays."""


def _nothing_adopted(instance: Any) -> None:
    """Leave an instance over adopted arrays as it is: it keeps nothing beside them."""


def _nothing_to_settle(instance: Any) -> None:
    """Leave an instance as it is: its writes are whole by themselves."""


def _no_conflicts(heads: Any) -> Sequence[Any]:
    """Find no conflicts but those that the overlay finds by itself."""
    return ()


def _name_of_key(key: bytes) -> str | None:
    """Call a key by its text: any of them may be in conflict."""
    return key.decode(errors="backslashreplace")


def no_key_names(key: bytes) -> str | None:
    """Take every key for one that follows from others."""
    return None


def _not_derived(path: str) -> bool:
    """Take every array for one by itself."""
    return False


def _no_own_key(key: bytes) -> bool:
    """Take every key for data."""
    return False


def _nothing_to_note(outside: InstanceTxn, rows: Sequence[Change]) -> None:
    """Take no note of keys that came."""


def _no_region(info: InstanceInfo, keys: InstanceKeys) -> Region:
    """Refuse to be taken for a region."""
    raise UnsupportedError(f"{info.name!r} is of type {info.typename}, which is no region of space")


def _nothing_to_verify(instance: Any) -> list[str]:
    """Find nothing: it has no parts that could contradict each other."""
    return []


@dataclass(frozen=True)
class Datatype:
    """A kind of data: what the entry point of a datatype names.

    Parameters
    ----------
    name
        DVID's name of the type, for example ``uint8blk``.
    handle
        Opens an instance: called with the version, the instance's info and this object.
    summary
        One paragraph for the help page.
    url, type_version
        What DVID shows as ``TypeURL`` and ``TypeVersion``.
    configure
        Checks the settings of a new instance (strings under lower-case keys) and returns the complete ones,
        defaults filled in; raises `InvalidInputError`.
    prepare
        Makes the arrays of a new instance, given its handle.
    adopted
        Called with the handle of an instance whose arrays were adopted: makes what the datatype keeps beside them.
    settle
        Called with a handle before its version is sealed: finishes what a writer that is gone left half done.
    resume
        The same, called whenever an instance is opened at an open version; must cost next to nothing when there is
        nothing to finish, and wait for nobody.
    conflicts
        Called with handles at the versions that are about to be merged, in order: what they disagree about beyond
        chunks, each with a message as its ``str``.  What it finds nothing in, `resume` joins.
    derived
        Whether an array, by its path below the instance, is made from others: where its chunks are in conflict
        after a merge, `resume` makes them anew.
    indexed
        Whether what an array holds, by its path below the instance, is counted elsewhere, so that a merge may take a
        chunk in conflict from one side only, and not make one.
    key_name
        What people call a sidecar key about which merged versions may disagree; None for one that follows from
        others, or that `conflicts` and `resume` look after.
    own_key
        Whether a sidecar key is no data but each repo's own, and stays where it is when data come from another repo.
    arrived
        Called with the instance's keys outside of versions, within a transaction, and sidecar keys that came from
        another repo, before anybody sees these.
    region
        Called with the info of an instance and its keys at a version: the blocks of space that it stands for, for who
        copies only what touches them.
    verify
        Called with a handle: one line for everything in which its parts contradict each other at this version.
    compression
        Default of the setting ``Compression``.
    tags
        Whether instances carry tags of their own over HTTP (``GET``/``POST D/tags``).
    syncs
        Names of the types that an instance may sync with; empty when it cannot.
    """

    name: str
    handle: Callable[[Version, InstanceInfo, Datatype], Instance]
    summary: str = ""
    url: str = ""
    type_version: str = "0.1"
    configure: Callable[[Mapping[str, str]], dict[str, str]] = _no_settings
    prepare: Callable[[Any], None] = _nothing_to_prepare
    adopted: Callable[[Any], None] = _nothing_adopted
    settle: Callable[[Any], object] = _nothing_to_settle
    resume: Callable[[Any], object] = _nothing_to_settle
    conflicts: Callable[[Any], Sequence[Any]] = _no_conflicts
    derived: Callable[[str], bool] = _not_derived
    indexed: Callable[[str], bool] = _not_derived
    key_name: Callable[[bytes], str | None] = _name_of_key
    own_key: Callable[[bytes], bool] = _no_own_key
    arrived: Callable[[InstanceTxn, Sequence[Change]], None] = _nothing_to_note
    region: Callable[[InstanceInfo, InstanceKeys], Region] = _no_region
    verify: Callable[[Any], list[str]] = _nothing_to_verify
    compression: str = "lz4"
    tags: bool = False
    syncs: frozenset[str] = frozenset()

    @property
    def has_arrays(self) -> bool:
        """Whether instances have a group of arrays."""
        return self.prepare is not _nothing_to_prepare

    def check(self, config: Mapping[str, str]) -> dict[str, str]:
        """All settings of a new instance, the common ones included, checked and with their defaults.

        Raises
        ------
        InvalidInputError
            If a setting is wrong.
        """
        common = {
            "compression": settings.compression(config, self.compression),
            "checksum": settings.checksum(config),
        }
        return self.configure({**config, **common})


@dataclass(frozen=True, repr=False)
class Instance:
    """An instance seen from one version; the base of every datatype's handle.

    Parameters
    ----------
    version
        Where it is looked at.
    info
        What the log says about it.
    datatype
        Its kind.
    """

    version: Version
    info: InstanceInfo
    datatype: Datatype

    @property
    def name(self) -> str:
        """Name of the instance."""
        return self.info.name

    @property
    def folder(self) -> str:
        """Group of the instance's arrays: called as the instance was when it was made."""
        repo = self.version.repo
        return naming.folder_in(self.info, repo.known, lambda: self.version.view.entries)

    @property
    def config(self) -> Mapping[str, str]:
        """Settings: strings under lower-case keys."""
        return self.info.config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} [{self.info.typename}] in {self.version!r}>"

    def at(self, version: Version) -> Self:
        """The same instance seen from another version of its repo; one that is not versioned looks the same."""
        return replace(self, version=version) if self.info.versioned else self

    @property
    def keys(self) -> InstanceKeys:
        """The instance's ordered keys and values as this version sees them."""
        return self.version.keys(self.info)

    def transact(self, change: Callable[[InstanceTxn], T]) -> T:
        """Run `change` as one atomic transaction on the instance's keys and return what it returns.

        Raises
        ------
        SealedError
            If the version is not open and the instance is versioned.
        """
        return self.version.transact(self.info, change)

    def updated(self, **changes: Any) -> Self:
        """Change ``config``, ``tags`` or ``syncs`` in the log and return the handle on the changed instance.

        These belong to the instance in every version, sealed ones too (DVID HTTP API, ``POST D/resolution``,
        ``D/tags``, ``D/sync``).
        """
        return replace(self, info=self.version.repo.update_instance(self.name, **changes))

    def tagged(self, tags: Mapping[str, str], *, replace_all: bool = False) -> Self:
        """Add tags, or replace all of them.

        Raises
        ------
        UnsupportedError
            If this datatype has no tags.
        InvalidInputError
            If a tag is not a string.
        """
        self.check_tags()
        if not all(isinstance(v, str) for v in tags.values()):
            raise InvalidInputError("tags must be a JSON object of strings")
        return self.updated(tags=dict(tags) if replace_all else {**(self.info.tags or {}), **tags})

    def check_tags(self) -> None:
        """Refuse the tags endpoint to a datatype without tags.

        Raises
        ------
        UnsupportedError
            If this datatype has no tags.
        """
        if not self.datatype.tags:
            raise UnsupportedError(f'data "{self.name}" of type {self.info.typename} has no tags')

    def synced(self, names: Sequence[str], *, replace_all: bool = False) -> Self:
        """Subscribe to other instances, or replace all subscriptions.

        Raises
        ------
        UnsupportedError
            If this datatype syncs with nothing, or not with one of the named instances.
        NotFoundError
            If there is no such instance.
        """
        if not self.datatype.syncs:
            raise UnsupportedError(f'Can\'t create syncs for instance "{self.name}", which is not syncable')
        found = [self.version.instance_info(n) for n in names]
        for other in found:
            if other.typename not in self.datatype.syncs:
                raise UnsupportedError(
                    f'{self.info.typename} "{self.name}" cannot sync with {other.typename} "{other.name}"'
                )
        old = () if replace_all else self.info.syncs
        return self.updated(syncs=tuple(dict.fromkeys((*old, *(o.data_uuid for o in found)))))

    def sync_names(self) -> list[str]:
        """Names of the instances that this one is synced with; ``undefined`` for one that has vanished."""
        by_uuid = {i.data_uuid: i.name for i in self.version.repo.state.instances.values()}
        return [by_uuid.get(uuid, "undefined") for uuid in self.info.syncs]

    def compression_text(self) -> str:
        """DVID's text for the instance's compression."""
        return settings.compression_text(self.config.get("compression", self.datatype.compression))

    def base_json(self) -> dict[str, Any]:
        """The part ``Base`` of DVID's instance JSON (DVID HTTP API, ``GET D/info``)."""
        crc = self.config.get("checksum") == "crc32"
        return {
            "TypeName": self.info.typename,
            "TypeURL": self.datatype.url,
            "TypeVersion": self.datatype.type_version,
            "DataUUID": self.info.data_uuid,
            "Name": self.name,
            "RepoUUID": self.info.version,
            "Compression": self.compression_text(),
            "Checksum": "CRC32 checksum" if crc else "No checksum",
            "Syncs": self.sync_names(),
            "Versioned": self.info.versioned,
            "KVStore": "vzarr",
            "LogStore": "vzarr",
            "Tags": dict(self.info.tags) if self.info.tags is not None else None,
        }

    def info_json(self) -> dict[str, Any]:
        """DVID's JSON about the instance; a datatype with properties of its own overrides this."""
        return {"Base": self.base_json(), "Extended": {}}

    def _repr_html_(self) -> str:
        """The instance as a small table, for a notebook."""
        version = self.version.info
        where = f"version {version.id[:8]} on {version.branch or 'master'}, {'sealed' if version.sealed else 'open'}"
        rows = "".join(
            f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in sorted(self.config.items())
        )
        title = f"<b>{escape(self.name)}</b> ({escape(self.info.typename)}) at {escape(where)}"
        return f"{title}<table><tr><th>setting</th><th>value</th></tr>{rows}</table>"
