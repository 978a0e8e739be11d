"""Doctor: can this machine work with a repo, and is anything about it that somebody should see to.

Unlike `verify` it follows no checksums; it tries the few things that everything rests on: reading, exclusive creates,
the key authority, clocks, room to write.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from vzarr.errors import AuthorityUnavailableError, StorageError
from vzarr.overlay import opening
from vzarr.overlay.care.gc import find
from vzarr.overlay.care.rebuildkeys import check_store
from vzarr.overlay.history.logcheck import read_log
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.authority import CLOSING, LOST, Authority
from vzarr.overlay.objects.base import Objects

CLOCK_SECONDS = 5.0
"""Leases are compared by wall clocks; so much difference between two of them is no harm."""
ROOM_BYTES = 1 << 30


class Level(StrEnum):
    """How much a remark matters."""

    ok = "ok"
    hint = "hint"
    problem = "problem"


@dataclass(frozen=True)
class Remark:
    """One thing that was looked at.

    Parameters
    ----------
    topic
        What was looked at, for programs, such as ``clock``.
    level
        ``problem``: something will not work; ``hint``: somebody should know.
    message
        What was found and, where something is to be done, what.
    """

    topic: str
    level: Level
    message: str


def examine(objects: Objects) -> Iterator[Remark]:
    """Look at a repo from where this process stands; leaves nothing behind.

    Raises
    ------
    NotFoundError
        If there is no repo.
    FormatError
        If it is no repo of a format that this release reads.
    """
    meta = opening.read_meta(objects)
    yield Remark("format", Level.ok, f"format {meta['format']}, root {meta['root']}")
    state, findings = read_log(objects)
    damaged = [f for f in findings if f.damage]
    yield from (Remark("log", Level.problem, f"{f.key}: {f.message}") for f in damaged)
    if not damaged:
        yield Remark("log", Level.ok, f"{state.next} entries, {len(state.nodes)} versions")
    yield from _writing(objects)
    yield from _clock(state)
    yield from _room(objects)
    try:
        authority = opening.open_authority(objects, meta)
    except (AuthorityUnavailableError, StorageError) as e:
        yield Remark("keys", Level.problem, f"{e}; sealed versions can be read, open ones cannot")
        return
    try:
        check_store(authority.kv)
        yield from _open_versions(authority, state)
        yield from _garbage(objects, authority, state)
    except (AuthorityUnavailableError, StorageError) as e:
        yield Remark("keys", Level.problem, f"{e}; sealed versions can be read, open ones cannot")
    finally:
        authority.close()


def _writing(objects: Objects) -> Iterator[Remark]:
    """Two exclusive creates of one name: the first must win and the second must lose."""
    key = f"tmp/doctor-{secrets.token_hex(8)}"
    try:
        won = objects.create(key, b"first"), objects.create(key, b"second")
        kept = objects.get(key)
        objects.delete(key)
    except StorageError as e:
        yield Remark("writing", Level.problem, f"{e}; the repo can only be read from here")
        return
    if won == (True, False) and kept == b"first":
        yield Remark("writing", Level.ok, "exclusive creates have one winner")
    else:
        yield Remark(
            "writing", Level.problem, "exclusive creates are not exclusive here: two writers may overwrite each other's"
            " history; keep the repo on a local file system or an object store with conditional writes",
        )  # fmt: skip


def _clock(state: State) -> Iterator[Remark]:
    ahead = datetime.fromisoformat(state.updated).timestamp() - time.time() if state.updated else 0.0
    if ahead > CLOCK_SECONDS:
        yield Remark(
            "clock", Level.problem, f"the newest entry of the log is {ahead:.0f} s in the future: set the clock"
        )
    else:
        yield Remark("clock", Level.ok, "no entry of the log lies in the future")


def _room(objects: Objects) -> Iterator[Remark]:
    folder = objects.path("")
    if folder is None:
        return
    free = shutil.disk_usage(Path(folder)).free
    level = Level.ok if free >= ROOM_BYTES else Level.hint
    yield Remark("room", level, f"{free / 1e9:.1f} GB free")


def _open_versions(authority: Authority, state: State) -> Iterator[Remark]:
    count = 0
    for info in state.nodes.values():
        if info.sealed:
            continue
        count += 1
        if authority.node_state(info.id)[0] == LOST:
            yield Remark("lost", Level.problem, str(authority.loss(info.id)))
            continue
        writers = authority.leases(info.id)
        if authority.node_state(info.id)[0] == CLOSING and not writers:
            yield Remark(
                "commit", Level.hint, f"the commit of {info.id} was interrupted or is under way: commit it again"
            )
        elif writers:
            yield Remark("writers", Level.ok, f"{len(writers)} writing to {info.id}")
    yield Remark("keys", Level.ok, f"the key authority answers; {count} open versions")


def _garbage(objects: Objects, authority: Authority, state: State) -> Iterator[Remark]:
    found = find(objects, authority, state)
    nbytes = sum(each.nbytes for each in found)
    if found:
        yield Remark(
            "garbage", Level.hint, f"interrupted writes left {len(found)} things, {nbytes} bytes: see `vzarr gc`"
        )
    else:
        yield Remark("garbage", Level.ok, "interrupted writes left nothing")
