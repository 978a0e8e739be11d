"""The mutation log of an instance: one JSON record per change, kept in its keys, version by version.

Rows: ``m`` + version id + a zero byte + mutation id (8 bytes, big-endian).  No two versions write the same
row, so that a merge simply joins the logs.  Records have the keys of DVID's mutation log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from vzarr.errors import InvalidInputError
from vzarr.overlay.history import dag
from vzarr.types.base import Instance

if TYPE_CHECKING:
    import pandas as pd

    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.overlay.version import Version

_LOG = b"m"
_COMMON = {"Action", "MutationID", "UUID", "Timestamp", "User", "App"}


@dataclass(frozen=True)
class Writer:
    """Writes the records of one change.

    Parameters
    ----------
    instance
        What is changed, at the version where it is changed.
    user, app
        Who, through which program; left out of the records when empty.
    """

    instance: Instance
    user: str = ""
    app: str = ""

    def record(self, tx: InstanceTxn, fields: Mapping[str, Any]) -> int:
        """Add a record within a transaction on the instance's keys.

        Returns
        -------
        int
            The mutation id that it took.
        """
        number = tx.next_mutation_id()
        uuid = self.instance.version.uuid
        said = {k: v for k, v in (("User", self.user), ("App", self.app)) if v}
        record = {
            **fields,
            "MutationID": number,
            "UUID": uuid,
            "Timestamp": datetime.now(UTC).isoformat(),
            **said,
        }
        tx.put(_rows(uuid) + number.to_bytes(8, "big"), orjson.dumps(record))
        return number


def _rows(uuid: str) -> bytes:
    return _LOG + uuid.encode() + b"\0"


def read(instance: Instance, version: str | None = None) -> Iterator[bytes]:
    """Records of one version, oldest first, as JSON.

    Parameters
    ----------
    instance
        The instance at the version or at a descendant of it.
    version
        Id of the version; the instance's own by default.
    """
    prefix = _rows(version or instance.version.uuid)
    for _, record in instance.keys.scan(prefix, prefix[:-1] + b"\1"):
        yield record


def read_range(instance: Instance, first: Version, last: Version) -> Iterator[bytes]:
    """Records of the versions from `last` back to `first` along first parents, the newest version first.

    Raises
    ------
    InvalidInputError
        If `first` is no such ancestor; raised before the first record is given.
    """
    line = [last]
    while line[-1].uuid != first.uuid:
        if not line[-1].parents:
            raise InvalidInputError(f"version {first.uuid} is no ancestor of version {last.uuid}")
        line.append(line[-1].parents[0])
    seen_from = instance.at(last)
    return (record for version in line for record in read(seen_from, version.uuid))


def json_list(records: Iterator[bytes]) -> Iterator[bytes]:
    """JSON list of records, in pieces."""
    separator = b"["
    for record in records:
        yield separator + record
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def changes(instance: Instance, since: str | None = None) -> list[dict[str, Any]]:
    """Records of the changes that a version saw and an earlier one did not, oldest first.

    Parameters
    ----------
    instance
        The instance at the later version.
    since
        Ref of the earlier version, whose own changes are left out; None for all changes.
    """
    repo, state = instance.version.repo, instance.version.repo.state
    known = set() if since is None else set(dag.ancestry(repo.resolve(since), state.parents))
    new = [node for node in dag.ancestry(instance.version.uuid, state.parents) if node not in known]
    found = [orjson.loads(record) for node in new for record in read(instance, node)]
    return sorted(found, key=lambda record: int(record["MutationID"]))


def frame(instance: Instance, since: str | None = None) -> pd.DataFrame:
    """`changes` as a table: ``action``, ``time``, ``user``, ``app``, ``version`` and the rest as ``details``.

    The rest stays a dictionary: as columns with gaps, 64-bit integers would become floats.
    """
    import pandas as pd  # it costs a third of a second, and comes with xarray

    records = changes(instance, since)
    columns: dict[str, Any] = {
        "action": [r["Action"].removesuffix("-complete") for r in records],
        "time": pd.to_datetime([r["Timestamp"] for r in records], utc=True, format="ISO8601"),
        "user": [r.get("User", "") for r in records],
        "app": [r.get("App", "") for r in records],
        "version": [r["UUID"] for r in records],
        "details": [{k: v for k, v in r.items() if k not in _COMMON} for r in records],
    }
    numbers = np.array([r["MutationID"] for r in records], np.uint64)
    return pd.DataFrame(columns, index=pd.Index(numbers, name="mutation_id"))
