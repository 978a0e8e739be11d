"""What the log knows of instances: named sets of data of one datatype, each the repo's and seen from every version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_RARE = ("folder", "deleted", "collected", "maker")


@dataclass(frozen=True)
class InstanceInfo:
    """One named set of data of one datatype, as the log knows it.

    Parameters
    ----------
    folder
        Top-level group of its arrays, where that is not called like the instance; it stays through renames.
    deleted
        When it was deleted; "" for one that is there.
    collected
        Whether what it kept outside of sealed versions is gone, too, so that it cannot come back.
    maker
        Name of the process that makes it, of one that is not finished and counts as deleted until then.
    """

    name: str
    typename: str
    data_uuid: str
    version: str
    versioned: bool = True
    config: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] | None = None
    syncs: tuple[str, ...] = ()
    created: str = ""
    folder: str = ""
    deleted: str = ""
    collected: bool = False
    maker: str = ""

    @property
    def path(self) -> str:
        """Top-level group of its arrays."""
        return self.folder or self.name

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what most instances have no need of."""
        return {k: v for k, v in vars(self).items() if v or k not in _RARE}


def by_kind(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Instances from plain data, as the fields ``instances`` and ``deleted`` of a state."""
    every = [InstanceInfo(**with_tuples(i, "syncs")) for i in rows]
    return {
        "instances": {i.name: i for i in every if not i.deleted},
        "deleted": {i.data_uuid: i for i in every if i.deleted},
    }


def with_tuples(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Some data in which the lists under `names` are tuples."""
    return {k: tuple(v) if k in names else v for k, v in data.items()}
