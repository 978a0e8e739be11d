"""Messages from records of the mutation log and entries of the repo log, in DVID's words.

Source: DVID HTTP API, section 2.10.  Beyond it, each message of an instance has a ``MutationID``, by which a consumer
knows again what comes twice, each message of a repo a ``Timestamp``, and a merge of versions is announced as
``merge-versions``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from vzarr.overlay.history.state import Entry, Op, State
from vzarr.types import mutations

LARGEST = 980_000
"""Bytes of a message; of a larger one the broker gets a reference to a blob that holds it."""

Message = dict[str, Any]
Keep = Callable[[bytes], str]
"""Keeps a blob and gives its reference."""

_COMPLETE = "-complete"
_AFTERWARDS = ("CleavedSize", "SplitSize", "RemainSize")
"""What is known once an edit is complete."""


def of_mutation(record: Mapping[str, Any], keep: Keep) -> list[bytes]:
    """What is published of a record: of an edit of bodies its beginning and its end, of all else one message.

    An edit is in the log once it is done, and a refused one never: both messages have the time of the end.
    """
    if not mutations.is_announced(record):
        return []
    whole = mutations.as_dvid(record)
    if not whole["Action"].endswith(_COMPLETE):
        return [fitting(whole, keep)]
    start = {key: value for key, value in whole.items() if key not in _AFTERWARDS}
    begun = orjson.loads(fitting({**start, "Action": whole["Action"].removesuffix(_COMPLETE)}, keep))
    after = {key: whole[key] for key in _AFTERWARDS if key in whole}
    return [orjson.dumps(begun), orjson.dumps({**begun, **after, "Action": whole["Action"]})]


def fitting(message: Message, keep: Keep) -> bytes:
    """A message as JSON; a larger one than `LARGEST` without its largest parts, and with ``DataRef``.

    That names a blob with the whole message.
    """
    encoded = orjson.dumps(message)
    if len(encoded) <= LARGEST:
        return encoded
    kept: Message = {**message, "DataRef": keep(encoded)}
    while len(encoded) > LARGEST:
        del kept[max(kept, key=lambda name: len(orjson.dumps(kept[name])))]
        encoded = orjson.dumps(kept)
    return encoded


def of_entry(entry: Entry, state: State) -> Iterator[Message]:
    """What is published of an entry of the repo log.

    What arrived from another repo, by clone, push or pull, is not: who made it has published it.

    Parameters
    ----------
    state
        The repo after the entry, or later.
    """
    who = {key: value for key, value in (("User", entry.user), ("App", entry.app)) if value}
    for message in _of_ops(entry.ops, state):
        yield {**message, "Timestamp": mutations.go_time(entry.time), **who}


def _of_ops(ops: tuple[Op, ...], state: State) -> Iterator[Message]:
    sealed = {op["id"] for op in ops if op["op"] == "seal"}
    made = {op["id"] for op in ops if op["op"] == "node"}
    for op in ops:
        match op["op"]:
            case "instance" if "created" not in op:
                yield {
                    "Action": "newinstance",
                    "UUID": op["version"],
                    "Typename": op["typename"],
                    "Dataname": op["name"],
                }
            case "node" if op["parents"] and "seal" not in op:
                yield _of_version(op, state, tag=op["id"] in sealed)
            case "seal" if op["id"] not in made:
                yield {"Action": "commit", "UUID": op["id"], **_said_with_seal(ops)}
            case "note" if op["id"] not in sealed:
                yield {"Action": "nodenote", "UUID": op["id"], "Note": op["note"]}
            case "node_log" if op["id"] not in sealed:
                yield {"Action": "nodelog", "UUID": op["id"], "Log": op["lines"]}


def _said_with_seal(ops: tuple[Op, ...]) -> Message:
    notes = [op["note"] for op in ops if op["op"] == "note"]
    lines = [line for op in ops if op["op"] == "node_log" for line in op["lines"]]
    return {"Note": notes[-1] if notes else "", "Log": lines}


def _of_version(op: Op, state: State, tag: bool) -> Message:
    parents, child, branch, note = op["parents"], op["id"], op["branch"], op["note"]
    if len(parents) > 1:
        return {"Action": "merge-versions", "Parents": parents, "Child": child, "Note": note}
    family = {"Parent": parents[0], "Child": child}
    if tag:
        return {"Action": "tag", **family, "Branch": branch, "Tag": child, "Note": note}
    if branch == state.nodes[parents[0]].branch:
        return {"Action": "newversion", **family, "Note": note}
    return {"Action": "branch", **family, "Branch": branch, "Note": note}
