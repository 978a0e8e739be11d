"""A git-like version DAG over plain Zarr.

>>> import vzarr
>>> repo = vzarr.create("memory://readme")
>>> version = repo["master"]
>>> image = version.zarr.create_array("image", shape=(64, 64, 64), chunks=(32, 32, 32), dtype="uint8")
>>> image[:] = 7
>>> first = version.commit("first light")
>>> second = first.newversion()
>>> second.zarr["image"][:32] = 9
>>> int(first.zarr["image"][0, 0, 0]), int(second.zarr["image"][0, 0, 0])
(7, 9)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vzarr import errors
from vzarr.overlay import datatypes
from vzarr.overlay.repo import Repo
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.store import VersionStore
from vzarr.overlay.transfer import region as regions
from vzarr.overlay.transfer import verbs as transfer
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.version import Version
from vzarr.types import registry

__version__ = "0.1.0"
__all__ = ["Repo", "Version", "VersionStore", "clone", "create", "errors", "open"]

datatypes.use(registry)


def create(
    url: str, *, alias: str = "", description: str = "", root: str | None = None, keys: str | None = None,
    passcode: str = "", durability: str = "process",
) -> Repo:  # fmt: skip
    """Make a repo with an open, empty root version.

    Parameters
    ----------
    url
        A local path, or a ``file://``, ``memory://`` or object store's URL, such as ``s3://bucket/folder``.
    alias, description
        For people.
    root
        Id of the root version, which names the repo; random by default.
    keys
        Where the keys of open versions lie, ``sqlite:///PATH``; by default in the repo, which an object store cannot
        do.
    passcode
        What must be known to rename or delete its instances; "" for nothing.
    durability
        What is acknowledged outlasts ``"process"`` the end of any process, ``"fsync"`` power loss too, at the price of
        waiting for the disk with each change.

    Raises
    ------
    AlreadyExistsError
        If there is a repo already.
    InvalidInputError, AuthorityUnavailableError
        If `keys` is missing or unfit, or cannot be reached.
    """
    return Repo.create(
        url, alias=alias, description=description, root=root, keys=keys, passcode=passcode, durability=durability
    )


def open(url: str) -> Repo:
    """Open a repo.

    Raises
    ------
    NotFoundError
        If there is none.
    FormatError
        If it is damaged, or made by a newer release.
    """
    return Repo.open(url)


def clone(
    source: str, url: str, *, branches: Collection[str] | None = None, keys: str | None = None, token: str = "",
    depth: int | None = None, instances: Sequence[str] | None = None, roi: str | None = None,
    durability: str | None = None,
) -> Repo:  # fmt: skip
    """Make a repo with all sealed versions of another, and open it.

    Parameters
    ----------
    source
        URL of the other repo, perhaps one that a server serves: ``http://HOST:PORT/ROOT``.
    url
        Where the new one is to be.
    branches
        Only what these branches build on.
    keys
        As for `create`; a clone on an object store without keys is read-only.
    token
        Admin token of the server, where one asks for it.
    depth, instances, roi
        Bring only chunks that the newest `depth` versions of each branch need, of these instances, and of volumes only
        those that touch a region, ``NAME`` or ``NAME,REF``: the instance of type ``roi`` as it is at that version.
    durability
        As for `create`.

    Raises
    ------
    NotFoundError
        If there is no repo at `source`, nothing of it is sealed, or it lacks what the limits name.
    AlreadyExistsError
        If there is one at `url`.
    FormatError
        If an object of the source is not what was sealed; it is named.
    """
    named = None if instances is None else tuple(instances)
    limits = Limits(depth, named, None if roi is None else regions.parse(roi))
    with open_place(source, token) as origin, open_place(url) as target:
        transfer.clone(origin, target, branches=branches, keys=keys, limits=limits, durability=durability)
    return open(url)
