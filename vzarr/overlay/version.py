"""One version of a repo: its place in history, its Zarr hierarchy, its arrays by voxel, its instances' keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import zarr

from vzarr.overlay import datatypes, layout
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.hierarchy.tree import V3_DOC
from vzarr.overlay.history.plans import find_instance
from vzarr.overlay.history.state import InstanceInfo, NodeInfo
from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
from vzarr.overlay.mountedstore import outside_store, with_outside
from vzarr.overlay.store import VersionStore
from vzarr.overlay.versionarrays import VersionArrays
from vzarr.overlay.views.base import View

if TYPE_CHECKING:
    from vzarr.overlay.repo import Repo

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Version(VersionArrays):
    """One version; a light handle, equal to others of the same repo and id.

    Parameters
    ----------
    repo
        The repo.
    uuid
        Id of the version.
    """

    repo: Repo
    uuid: str

    # -- its place in history

    @property
    def url(self) -> str:
        """URL of the repo."""
        return self.repo.url

    @property
    def info(self) -> NodeInfo:
        """What the log says of the version now."""
        return self.repo.state.nodes[self.uuid]

    @property
    def sealed(self) -> bool:
        """Whether the version can never change again."""
        return self.info.sealed

    @property
    def parents(self) -> list[Version]:
        """Versions that this one came from."""
        return [Version(self.repo, p) for p in self.info.parents]

    @property
    def children(self) -> list[Version]:
        """Versions made from this one, oldest first."""
        return [Version(self.repo, c) for c in self.repo.state.children(self.uuid)]

    @property
    def branch_name(self) -> str:
        """Name of the version's branch."""
        return self.info.branch or "master"

    @property
    def note(self) -> str:
        """The version's note."""
        return self.info.note

    def commit(self, note: str | None = None, *, user: str = "", app: str = "", log: Sequence[str] = ()) -> Version:
        """Seal the version: it can never change again, and may have children.

        Parameters
        ----------
        note
            Replaces the version's note, unless None.
        user, app
            Who commits, through which application.
        log
            Lines to append to the version's log.

        Raises
        ------
        SealedError
            If it is sealed already.
        """
        self.repo.commit(self.uuid, note, user=user, app=app, log=log)
        return self

    def newversion(self, note: str = "", *, uuid: str | None = None, user: str = "", app: str = "") -> Version:
        """Make the next version on the same branch; this one must be sealed, and be the branch's newest."""
        return self.repo.add_node([self.uuid], None, note, uuid=uuid, user=user, app=app)

    def branch(self, name: str, note: str = "", *, uuid: str | None = None, user: str = "", app: str = "") -> Version:
        """Make the first version of a new branch; this one must be sealed."""
        return self.repo.add_node([self.uuid], name, note, uuid=uuid, user=user, app=app)

    def tag(self, name: str, *, user: str = "", app: str = "") -> Version:
        """Make a sealed, empty child that has the tag as its id, on branch ``tag-NAME``."""
        return self.repo.add_tag(self.uuid, name, user=user, app=app)

    def set_note(self, note: str, *, user: str = "", app: str = "") -> None:
        """Replace the note of an open version."""
        self.repo.annotate(self.uuid, {"op": "note", "id": self.uuid, "note": note}, user=user, app=app)

    def add_log(self, lines: Sequence[str], *, user: str = "", app: str = "") -> None:
        """Append lines to the log of an open version."""
        self.repo.annotate(self.uuid, {"op": "node_log", "id": self.uuid, "lines": list(lines)}, user=user, app=app)

    # -- as Zarr

    @property
    def view(self) -> View:
        """What the version looks like now (for the overlay's own use)."""
        return self.repo.view(self.uuid)

    @property
    def store(self) -> VersionStore:
        """The version as a zarr store; read-only when it is sealed."""
        return with_outside(self, self.repo.outside, self.repo.known, read_only=self.sealed)

    @property
    def zarr(self) -> zarr.Group:
        """The version's root group: any Zarr hierarchy may be read and, while the version is open, written here.

        Beside a root of Zarr 3 there may be documents of Zarr 2 from a writer of that format; what is below them opens
        by its own path.
        """
        root = self.view.entries.get("")
        mode: Literal["r", "r+"] = "r" if self.sealed else "r+"
        zarr_format: Literal[3] | None = 3 if root is not None and V3_DOC in root.docs else None
        return zarr.open_group(self.store, mode=mode, zarr_format=zarr_format)

    # -- its instances

    def instance_info(self, name: str) -> InstanceInfo:
        """What the log says of an instance.

        Raises
        ------
        NotFoundError
            If the repo has none of that name.
        """
        return find_instance(self.repo.state, name)

    def __getitem__(self, name: str) -> Any:
        """Handle of an instance at this version."""
        return datatypes.known().open_instance(self, name)

    def create_instance(
        self,
        name: str,
        typename: str,
        *,
        versioned: bool = True,
        config: Mapping[str, Any] | None = None,
        user: str = "",
        app: str = "",
    ) -> Any:
        """Make an instance and give its handle; it belongs to the repo, and so is seen from every version.

        Parameters
        ----------
        name
            Its name, unique in the repo.
        typename
            Its datatype, such as ``labelmap``; ``vzarr types`` lists them.
        versioned
            False for data that all versions of the repo share.
        config
            Settings of the datatype as strings under DVID's names, such as ``{"BlockSize": "64,64,64"}`` (xyz).
        user, app
            Who makes it, through which application.

        Raises
        ------
        InvalidInputError
            If the name or a setting is wrong.
        NotFoundError
            If there is no such datatype.
        AlreadyExistsError
            If the name is taken.
        SealedError
            If the version is not open.
        """
        return datatypes.known().create(self, name, typename, versioned=versioned, config=config, user=user, app=app)

    def keys(self, instance: str | InstanceInfo) -> InstanceKeys:
        """Sidecar keys of an instance as this version sees them."""
        return self.repo.keys.at(self.uuid, self._info(instance))

    def transact(self, instance: str | InstanceInfo, change: Callable[[InstanceTxn], T]) -> T:
        """Change an instance's sidecar keys in one transaction.

        Parameters
        ----------
        change
            Given the transaction; may be run again, so it must have no other effect.

        Raises
        ------
        SealedError
            If the version is not open; never for an unversioned instance.
        """
        return self.repo.keys.transact(self.uuid, self._info(instance), change)

    def _info(self, instance: str | InstanceInfo) -> InstanceInfo:
        return instance if isinstance(instance, InstanceInfo) else self.instance_info(instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.repo.reopen_version, (self.repo.url, self.uuid)

    def __repr__(self) -> str:
        info, state = self.info, "sealed" if self.sealed else "open"
        return f"<vzarr.Version {self.uuid} {self.branch_name} {state}{f': {info.note}' if info.note else ''}>"

    def _repr_html_(self) -> str:
        return arrays.version_html(self.repo.state, self.info, self.view.entries)


class Outside(Version):
    """What belongs to no version: where unversioned instances are, which all versions share.

    It stands where the root stands in history, and is never sealed.
    """

    @property
    def sealed(self) -> bool:
        """It never is."""
        return False

    @property
    def view(self) -> View:
        """What it looks like now (for the overlay's own use)."""
        return self.repo.view(layout.UNVERSIONED)

    @property
    def store(self) -> VersionStore:
        """The groups of unversioned instances as a zarr store."""
        return outside_store(self, self.repo.known, read_only=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.repo.reopen_outside, (self.repo.url,)

    def __repr__(self) -> str:
        return f"<vzarr: what belongs to no version of {self.url}>"
