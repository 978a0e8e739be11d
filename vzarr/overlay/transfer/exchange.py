"""How history travels between programs: as JSON of the operations that make it, checked by whoever receives it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from vzarr.errors import FormatError, InvalidInputError
from vzarr.overlay import layout
from vzarr.overlay.history.refs import check_branch
from vzarr.overlay.history.state import MASTER, Entry, State, replay
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.keys.sharedarrays import PLACE
from vzarr.overlay.keys.unversioned import Snapshot
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer.copying import Row
from vzarr.overlay.transfer.direct import Way
from vzarr.overlay.transfer.plans import Arrival, history
from vzarr.overlay.transfer.shared import Shared
from vzarr.overlay.views.paths import is_key

Check = Callable[[Any], bool]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WAITING = layout.arrived("")


def state_to_json(state: State) -> dict[str, Any]:
    """Versions, branches and instances of a repo as plain data."""
    return {"format": layout.FORMAT, "ops": history(state)}


def state_from_json(data: Any) -> State:
    """Inverse of `state_to_json`.

    Raises
    ------
    FormatError
        If the data come from a newer release, or are no history.
    """
    if not isinstance(data, dict) or not isinstance(data.get("format"), int) or not isinstance(data.get("ops"), list):
        raise FormatError("the history of a repo is a JSON object with 'format' and 'ops'")
    if data["format"] > layout.FORMAT:
        raise FormatError(f"the repo has format {data['format']}; this release reads up to {layout.FORMAT}: upgrade")
    check_ops(data["ops"])
    return replay(State(), [Entry(0, "", "", "", "", "", tuple(data["ops"]))]) if data["ops"] else State()


def check_ops(ops: Sequence[Any]) -> None:
    """Refuse a history that is none, or in which a name could lead out of the folder that it names.

    Raises
    ------
    FormatError
        Naming what is wrong.
    """
    known: set[str] = set()
    for number, op in enumerate(ops):
        _check(op, known, first=number == 0)


def arrival_to_json(arrival: Arrival) -> dict[str, Any]:
    """What is to be published, as plain data."""
    nodes, tips = list(arrival.nodes), list(arrival.tips)
    return {**state_to_json(arrival.source), "nodes": nodes, "tips": tips, "aside": arrival.aside}


def arrival_from_json(data: Any) -> Arrival:
    """Inverse of `arrival_to_json`.

    Raises
    ------
    FormatError
        If the data are none, or name a version that is not there or not sealed.
    """
    state = state_from_json(data)
    nodes, tips, aside = data.get("nodes"), data.get("tips", []), data.get("aside")
    for name, listed in (("nodes", nodes), ("tips", tips)):
        if not isinstance(listed, list) or not all(isinstance(n, str) and n in state.nodes for n in listed):
            raise FormatError(f"{name!r} should list versions of the history")
    if any(not state.nodes[n].sealed for n in (*nodes, *tips)):
        raise FormatError("only sealed versions can be published")
    if aside is not None and not _is_branch(aside):
        raise FormatError("'aside' should be null or the name of a branch")
    return Arrival(state, nodes, aside, tips)


def limits_to_json(limits: Limits) -> dict[str, Any]:
    """What a partial clone has, as plain data; null for a whole repo."""
    return {"partial": limits.to_json() if limits else None}


def limits_from_json(data: Any) -> Limits:
    """Inverse of `limits_to_json`.

    Raises
    ------
    FormatError
        If the data are none.
    """
    plain = data.get("partial", 0) if isinstance(data, dict) else 0
    if plain is None:
        return Limits()
    if not isinstance(plain, dict) or not {*plain} <= _LIMITS.keys():
        raise FormatError("'partial' should be null or an object with 'depth', 'instances' and 'roi'")
    for name, check in _LIMITS.items():
        if plain.get(name) is not None and not check(plain[name]):
            raise FormatError(f"{name!r} of a partial clone cannot be {str(plain[name])[:80]!r}")
    return Limits.of(data)


def wanted_from_json(data: Any) -> list[str]:
    """Keys of chunks that a partial clone wants.

    Raises
    ------
    FormatError
        If the data are none.
    """
    found = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(map(is_object, found)):
        raise FormatError("the answer should be an object with 'keys' of objects of versions")
    return found


def shared_to_json(shared: Shared) -> dict[str, Any]:
    """What belongs to no version as plain data, but for rows that are each repo's own."""
    snapshots = {instance: s.to_json() for instance, s in shared.snapshots.items() if s.rows is None}
    objects = [[key, size, stamp] for key, (size, stamp) in shared.objects.items()]
    return {"format": layout.FORMAT, "snapshots": snapshots, "objects": objects, "rows": shared.rows}


def shared_from_json(data: Any) -> Shared:
    """Inverse of `shared_to_json`.

    Raises
    ------
    FormatError
        If the data come from a newer release, or are none.
    """
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise FormatError("snapshots are a JSON object with 'format' and 'snapshots'")
    if data["format"] > layout.FORMAT:
        raise FormatError(f"the repo has format {data['format']}; this release reads up to {layout.FORMAT}: upgrade")
    objects, rows = data.get("objects"), data.get("rows")
    if not isinstance(objects, list) or not all(map(_is_stamped, objects)) or not isinstance(rows, dict):
        raise FormatError("'objects' should be a list of [key, size, stamp], and 'rows' an object")
    found = {key: (size, stamp) for key, size, stamp in objects}
    return Shared(_snapshots(data.get("snapshots")), found, rows)


def _is_stamped(value: Any) -> bool:
    good = isinstance(value, list) and len(value) == 3 and _is_name(value[0]) and type(value[1]) is int
    return good and _is_text(value[2]) and "\\" not in value[0]


def brought_from_json(data: Any) -> Brought:
    """What is brought of keys outside of versions (see `Brought.to_json`); nothing for None.

    Raises
    ------
    FormatError
        If the data are none.
    """
    if data is None:
        return Brought()
    names = {"snapshots", "replace", "added", "arrays"}
    if not isinstance(data, dict) or {*data} != names or not _is_bool(data["replace"]):
        raise FormatError("'unversioned' should be a JSON object with 'snapshots', 'replace', 'added' and 'arrays'")
    if not _is_texts(data["added"]):
        raise FormatError("'added' should list data ids")
    arrays = data["arrays"]
    if not isinstance(arrays, dict) or not all(_is_data(i) and _is_sha256(digest) for i, digest in arrays.items()):
        raise FormatError("'arrays' should hold SHA-256 by data id")
    return Brought(_snapshots(data["snapshots"]), data["replace"], frozenset(data["added"]), arrays)


def _snapshots(data: Any) -> dict[str, Snapshot]:
    if not isinstance(data, dict) or not all(_is_data(i) and _is_snapshot(row) for i, row in data.items()):
        raise FormatError("'snapshots' should hold by data id an object with the keys of a snapshot (docs/format.md)")
    return {instance: Snapshot(**row) for instance, row in data.items()}


def _is_snapshot(row: Any) -> bool:
    if not isinstance(row, dict) or {*row} != {f.name for f in fields(Snapshot)} - {"rows"}:
        return False
    named = layout.SNAPSHOT.fullmatch(str(row["name"])) and _is_text(row["before"]) and _is_time(row["time"])
    return bool(named) and type(row["keys"]) is int and (row["sums"] == "" or _is_sha256(row["sums"]))


def rows_from_json(data: Any, *, snapshots: bool = False) -> list[Row]:
    """Objects to look for, ``[[KEY, SIZE, SHA-256], ...]``; where a mirror asks, those of snapshots too.

    Raises
    ------
    FormatError
        If the data are none.
    """
    if not isinstance(data, list) or not all(_is_row(row, snapshots) for row in data):
        raise FormatError("the body should be a list of [key, size, sha256], each key that of an object of a version")
    return [Row(*row) for row in data]


def keys_from_json(data: Any) -> list[str]:
    """Keys of objects that may be read, ``[KEY, ...]``.

    Raises
    ------
    FormatError
        If the data are none.
    """
    if not isinstance(data, list) or not all(isinstance(k, str) and (is_object(k) or is_of_snapshot(k)) for k in data):
        raise FormatError("the body should be a list of keys of objects")
    return data


def ways_to_json(ways: Mapping[str, Way] | None) -> dict[str, Any]:
    """Signed URLs by key as plain data; None where nothing can be signed."""
    return {"urls": None if ways is None else {key: [way.url, dict(way.headers)] for key, way in ways.items()}}


def ways_from_json(data: Any) -> dict[str, Way] | None:
    """Inverse of `ways_to_json`; None too for what is none, since no way is ever needed."""
    found = data.get("urls") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        return None
    good = {k: v for k, v in found.items() if isinstance(v, list) and len(v) == 2 and _is_text(v[0])}
    return {key: Way(url, headers) for key, (url, headers) in good.items() if _is_mapping(headers)}


def is_object(key: Any) -> bool:
    """Whether a text is the key of an object that a version may have stored."""
    if not isinstance(key, str) or not is_key(key) or "\\" in key:
        return False
    first, node, part, *_ = (*key.split("/"), "", "")
    return first == "nodes" and _is_node(node) and part not in {"", "journal", "left-out"}


def is_waiting(key: Any) -> bool:
    """Whether a text is the key of an object that waits to be taken in (see `layout.arrived`)."""
    return isinstance(key, str) and key.startswith(_WAITING) and _is_sha256(key[len(_WAITING) :])


def is_shared(key: str) -> bool:
    """Whether a text is the key of an object of an array that belongs to no version."""
    return key.startswith(f"{PLACE}/") and is_key(key) and "\\" not in key


def is_of_snapshot(key: str) -> bool:
    """Whether a text is the key of an object of a snapshot of keys outside of versions, or of their checksums."""
    for folder in (f"{layout.node(layout.UNVERSIONED)}/keys/", layout.snapshot_sums("")):
        if key.startswith(folder) and is_key(key) and "\\" not in key:
            return bool(layout.SNAPSHOT.fullmatch(key[len(folder) :].partition("/")[0]))
    return False


def _is_row(value: Any, snapshots: bool) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    key, size, digest = value
    known = is_object(key) or is_waiting(key) or (snapshots and isinstance(key, str) and is_of_snapshot(key))
    return known and type(size) is int and _is_sha256(digest)


def _check(op: Any, known: set[str], *, first: bool) -> None:
    kind = op.get("op") if isinstance(op, dict) else None
    if kind not in _FIELDS or (kind == "repo") != first:
        raise FormatError("a history is one operation 'repo', then 'node' and 'instance'")
    fields, rare = _FIELDS[kind], _RARE.get(kind, {})
    if not {"op", *fields} <= {*op} <= {"op", *fields, *rare}:
        raise FormatError(f"an operation {kind!r} has the keys {', '.join(fields)}")
    for name, check in {**fields, **rare}.items():
        if name in op and not check(op[name]):
            raise FormatError(f"{name!r} of an operation {kind!r} cannot be {str(op[name])[:80]!r}")
    if kind == "node":
        _check_known(op["parents"], known)
        if op["id"] in known:
            raise FormatError(f"the history makes version {op['id']} twice")
        known.add(op["id"])
    elif kind == "instance":
        _check_known([op["version"]], known)


def _check_known(nodes: Sequence[str], known: Collection[str]) -> None:
    for node in nodes:
        if node not in known:
            raise FormatError(f"the history names a version {node} before it makes it")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


def _is_node(value: Any) -> bool:
    return isinstance(value, str) and bool(layout.NODE_ID.fullmatch(value)) and value != layout.UNVERSIONED


def _is_data(value: Any) -> bool:
    return isinstance(value, str) and bool(layout.HEX_ID.fullmatch(value))


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and is_key(value)


def _is_branch(value: Any) -> bool:
    try:
        return isinstance(value, str) and (value == MASTER or bool(check_branch(value)))
    except InvalidInputError:
        return False


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_FIELDS: dict[str, dict[str, Check]] = {
    "repo": {"root": _is_node, "alias": _is_text, "description": _is_text},
    "node": {
        "id": _is_node, "parents": _is_texts, "branch": _is_branch, "log": _is_texts, "note": _is_text,
        "created": _is_time, "updated": _is_time, "seal": lambda value: value is None or _is_sha256(value),
    },
    "instance": {
        "name": _is_name, "typename": _is_text, "data_uuid": _is_data, "version": _is_node, "versioned": _is_bool,
        "config": _is_mapping, "tags": lambda value: value is None or _is_mapping(value), "syncs": _is_texts,
        "created": _is_text,
    },
}  # fmt: skip
"""Keys of each operation, and what each value must be."""
_LIMITS: dict[str, Check] = {
    "depth": lambda value: type(value) is int and value > 0,
    "instances": lambda value: isinstance(value, list) and all(map(_is_name, value)),
    "roi": lambda value: isinstance(value, list) and len(value) == 2 and _is_name(value[0]) and _is_node(value[1]),
}
"""Keys of what a partial clone has, and what each value must be where it is not null."""
_RARE: dict[str, dict[str, Check]] = {"instance": {"folder": _is_name, "deleted": _is_time, "collected": _is_bool}}
"""Keys that may be left out."""
