"""What belongs to no version of a repo, as one look finds it: keys of instances, and objects of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vzarr.overlay.hierarchy.naming import shared_folder
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.keys import sharedarrays
from vzarr.overlay.keys.unversioned import Snapshot

Stamped = tuple[int, str]
"""Size of an object, and its stamp (see `Objects.stamped`)."""


@dataclass(frozen=True)
class Shared:
    """What belongs to no version.

    Parameters
    ----------
    snapshots
        Newest snapshots of keys, by data id.
    objects
        Objects of arrays, by key below ``nodes/unversioned/zarr/``.
    rows
        Entries (see `Entry.to_json`) of arrays that are not plain, by path.
    """

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    objects: Mapping[str, Stamped] = field(default_factory=dict)
    rows: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _folders(self) -> Mapping[str, Mapping[str, Stamped]]:
        found: dict[str, dict[str, Stamped]] = {}
        for key, each in self.objects.items():
            found.setdefault(key.partition("/")[0], {})[key] = each
        return found

    def below(self, info: InstanceInfo) -> Mapping[str, Stamped]:
        """Objects of an instance."""
        return self._folders.get(shared_folder(info), {})

    def rows_of(self, info: InstanceInfo) -> Mapping[str, Any]:
        """Rows of an instance."""
        return {path: row for path, row in self.rows.items() if path.partition("/")[0] == shared_folder(info)}

    def has(self, info: InstanceInfo) -> bool:
        """Whether an instance has data: keys or chunks, not just arrays that nobody has written to."""
        snapshot = self.snapshots.get(info.data_uuid)
        return any(map(sharedarrays.is_data, self.below(info))) or (snapshot is not None and snapshot.keys > 0)

    def sizes(self, info: InstanceInfo) -> dict[str, int]:
        """Sizes of an instance's objects."""
        return {key: size for key, (size, _stamp) in self.below(info).items()}
