"""The mutation log of an instance: one JSON record per change, kept in its keys, version by version.

Rows: ``m`` + version id + a zero byte + mutation id (8 bytes, big-endian).  No two versions write the same
row, so that a merge simply joins the logs.  Records have the keys of DVID's mutation log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from vzarr.errors import InvalidInputError
from vzarr.types.base import Instance

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.overlay.version import Version

_LOG = b"m"


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
