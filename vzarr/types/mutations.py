"""The mutation log of an instance: one JSON record per change, kept in its keys, version by version.

Rows: ``m`` + version id + a zero byte + mutation id (8 bytes, big-endian).  No two versions write the same
row, so that a merge simply joins the logs.  Records have the keys of DVID's mutation log; the time is RFC 3339.
Bytes that a record refers to are the row ``r`` + mutation id + 8 bytes of their hash, and these 16 bytes in URL-safe
base64 are the reference.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
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

_LOG, _ATTACHED = b"m", b"r"
_DIGEST = 8
_QUIET = ("kafkalog", "off")
"""Part of a record that is kept but not announced, named after the query string by which DVID's clients ask for it."""
_COMMON = {"Action", "MutationID", "UUID", "Timestamp", "User", "App", _QUIET[0]}


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

    def record(self, tx: InstanceTxn, fields: Mapping[str, Any], *, announced: bool = True) -> int:
        """Add a record within a transaction on the instance's keys.

        Parameters
        ----------
        fields
            ``Action`` and what belongs to it.
        announced
            Whether it is published where records are (`vzarr.kafka`).

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
            "Timestamp": datetime.now(UTC).isoformat(timespec="microseconds"),
            **said,
            **({} if announced else dict([_QUIET])),
        }
        tx.put(_rows(uuid) + number.to_bytes(8, "big"), orjson.dumps(record))
        return number

    @staticmethod
    def attach(tx: InstanceTxn, content: bytes) -> str:
        """Keep bytes that the next record will refer to, within its transaction; gives the reference."""
        name = tx.peek_mutation_id().to_bytes(8, "big") + blake2b(content, digest_size=_DIGEST).digest()
        tx.put(_ATTACHED + name, content)
        return base64.urlsafe_b64encode(name).decode()


def attached(instance: Instance, reference: str) -> bytes | None:
    """Bytes to which a record refers that this version sees; None for what is no reference of this instance."""
    try:
        name = base64.b64decode(reference, b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return instance.keys.get(_ATTACHED + name) if len(name) == 8 + _DIGEST else None


def _rows(uuid: str) -> bytes:
    return _LOG + uuid.encode() + b"\0"


def rows_of(uuid: str, first: int, end: int) -> tuple[bytes, bytes]:
    """First row and end of a version's records with ids from `first` to below `end`."""
    return _rows(uuid) + first.to_bytes(8, "big"), _rows(uuid) + end.to_bytes(8, "big")


def id_of(row: bytes) -> int:
    """Mutation id of the record in a row."""
    return int.from_bytes(row[-8:], "big")


def read(instance: Instance, version: str | None = None) -> Iterator[bytes]:
    """Records of one version, oldest first, as JSON.

    Parameters
    ----------
    instance
        The instance at the version or at a descendant of it.
    version
        Id of the version; the instance's own by default.
    """
    uuid = version or instance.version.uuid
    for _, record in instance.keys.scan(*rows_of(uuid, 0, 1 << 63)):
        yield record


def read_range(instance: Instance, first: Version, last: Version) -> Iterator[bytes]:
    """Records of the versions from `last` back to `first` along first parents, the newest version first.

    Where `first` is no such ancestor the line ends at the root, as with DVID.

    Raises
    ------
    InvalidInputError
        If one of them is of another repo.
    """
    for version in (first, last):
        check_repo(instance, version)
    line = [last]
    while line[-1].uuid != first.uuid and line[-1].parents:
        line.append(line[-1].parents[0])
    seen_from = instance.at(last)
    return (record for version in line for record in read(seen_from, version.uuid))


def check_repo(instance: Instance, version: Version) -> None:
    """Refuse a version of another repo, where the instance is not, though one of its name may be.

    Raises
    ------
    InvalidInputError
        If it is one.
    """
    if version.repo.uuid != instance.version.repo.uuid:
        raise InvalidInputError(f'version {version.uuid} is of another repo than "{instance.name}"')


def shown(records: Iterator[bytes], wanted: Callable[[str], bool] = lambda action: True) -> Iterator[bytes]:
    """Records as DVID gives them: those of the actions that are wanted, with times as its own."""
    for record in records:
        fields = orjson.loads(record)
        if wanted(fields["Action"]):
            yield orjson.dumps(as_dvid(fields))


def as_dvid(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A record with its time as Go prints one, without what only vzarr puts in."""
    kept = {key: value for key, value in fields.items() if key != _QUIET[0]}
    return {**kept, "Timestamp": go_time(fields["Timestamp"])}


def is_announced(fields: Mapping[str, Any]) -> bool:
    """Whether a record is for others to hear of."""
    return fields.get(_QUIET[0]) != _QUIET[1]


def go_time(text: str) -> str:
    """An RFC 3339 time as Go prints it, ``2026-11-22 16:11:14.438889 +0000 UTC``.

    Always with six digits after the point: clients cut it after the third.
    """
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")


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
