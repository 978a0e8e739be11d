"""How people name a version, resolved against a state: pure.

============================  ==========================================================================
``3f8c…`` (32 hex), a tag     that version
``master``, a branch name     the newest version of the branch
``3f8``                       the version whose id starts so, if there is only one
``3f8:side``, ``:side``       the newest version of the branch in the repo that holds ``3f8``
``3f8:side~2``, ``side~2``    its third entry in `State.branch_versions`
``ANY@sealed``                the version itself or its nearest sealed ancestor by first parents
``side@2026-11-01T12:00``     the newest version of the branch sealed at or before that moment (UTC unless
                              it names an offset; a date alone means the end of that day)
============================  ==========================================================================

A time without a name before it means the default branch: ``@2026-11-01`` is ``master@2026-11-01``.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.history.dag import first_parents
from vzarr.overlay.history.state import State

LONGEST_BRANCH = 255
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}")
_DIGITS = 18
_BACK = re.compile(r"(.*?)(?:~(\d+))?")


def resolve(state: State, ref: str) -> str:
    """Id of the version that `ref` names.

    Raises
    ------
    NotFoundError
        If nothing has that name.
    InvalidInputError
        If several versions do.
    """
    if not ref:
        raise InvalidInputError(f"a version is named by a branch, tag or id, not by {ref!r}")
    if ref in state.nodes:
        return ref
    if ref.endswith("@sealed"):
        return _sealed(state, resolve(state, ref.removesuffix("@sealed")))
    name, _, moment = ref.rpartition("@")
    if _DATED.match(moment):
        return _at(state, name, moment)
    prefix, colon, branch = ref.partition(":")
    if not colon:
        return _branch_or_prefix(state, ref)
    if not branch:
        return by_prefix(state, prefix)
    if prefix:
        by_prefix(state, prefix)
    return _on_branch(state, branch)


def by_prefix(state: State, prefix: str) -> str:
    """Id that starts with `prefix`; an exact id is preferred to longer ones."""
    if prefix in state.nodes:
        return prefix
    found = state.with_prefix(prefix)
    if not found:
        raise NotFoundError(f"could not find UUID with partial match to {prefix}")
    if len(found) > 1:
        raise InvalidInputError(f"more than one UUID matches {prefix}")
    return found[0]


def check_node_id(text: str) -> str:
    """A client's own root or tag as it was given.

    Raises
    ------
    InvalidInputError
        If the text cannot name a version.
    """
    if text == layout.UNVERSIONED:
        raise InvalidInputError(f"{text!r} is what belongs to no version; choose another name")
    if text == "master":
        raise InvalidInputError(f"{text!r} is the default branch, and can name no version or tag; choose another name")
    if not layout.NODE_ID.fullmatch(text):
        raise InvalidInputError(
            f"{text!r} cannot name a version: 1 to 128 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    return text


def check_uuid(text: str) -> str:
    """A client's own version id as it was given: 32 lower-case hex digits."""
    if not layout.HEX_ID.fullmatch(text):
        raise InvalidInputError("UUID must be 32 character hexadecimal string")
    return text


def check_branch(name: str) -> str:
    """A new branch's name as it was given.

    Raises
    ------
    InvalidInputError
        If it is empty, the default branch's, or could not be told from other refs.
    """
    if name in ("", "master"):
        raise InvalidInputError("Cannot create a master branch: give the new branch another name")
    if any(c in name for c in ":~@/") or name != name.strip():
        raise InvalidInputError(f"a branch name has no ':', '~', '@', '/' and no space around it, unlike {name!r}")
    if name in (".", "..") or len(name) > LONGEST_BRANCH or not name.isprintable():
        raise InvalidInputError(f"a branch name is 1 to {LONGEST_BRANCH} printable characters, unlike {name[:40]!r}")
    return name


def _branch_or_prefix(state: State, ref: str) -> str:
    name, back = _split(ref)
    if state.leaf(name) is not None:
        return _on_branch(state, ref)
    if back is not None:
        raise NotFoundError(f"no branch {name!r}; '~' counts back from a branch")
    return by_prefix(state, ref)


def _on_branch(state: State, branch: str) -> str:
    name, back = _split(branch)
    if state.leaf(name) is None:
        raise NotFoundError(f"no branch {name!r}")
    found = next(islice(state.back_from(name), back or 0, None), None)
    if found is None:
        raise NotFoundError(f'parent {branch.rpartition("~")[2]} is out of range for branch "{name}"')
    return found


def _split(text: str) -> tuple[str, int | None]:
    match = _BACK.fullmatch(text)
    name, back = match.groups() if match else (text, None)
    # What has more digits than any number of versions is as good as the largest that can be counted to.
    return name, None if back is None else int(back) if len(back) <= _DIGITS else sys.maxsize


def _at(state: State, name: str, moment: str) -> str:
    """Newest version of a branch that was sealed at or before a moment; `name` may begin with an id and a colon."""
    prefix, colon, branch = name.rpartition(":")
    if colon and prefix:
        by_prefix(state, prefix)
    if state.leaf(branch) is None:
        raise NotFoundError(f"no branch {branch!r}; '@' and a time look for a version on a branch")
    try:
        time = datetime.fromisoformat(moment)
    except ValueError as e:
        raise InvalidInputError(f"{moment!r} is no time such as 2026-11-01 or 2026-11-01T12:00: {e}") from e
    if len(moment) == len("2026-11-01"):
        time += timedelta(days=1) - timedelta.resolution
    last = time.replace(tzinfo=time.tzinfo or UTC)
    line = "" if branch == "master" else branch
    # A version's last change is its seal.
    sealed = (n for n in state.nodes.values() if n.branch == line and n.sealed)
    found = [n.id for n in sealed if datetime.fromisoformat(n.updated) <= last]
    if not found:
        raise NotFoundError(f"branch {branch or 'master'!r} had no sealed version yet at {moment}")
    return found[-1]


def _sealed(state: State, node: str) -> str:
    for candidate in first_parents(node, state.parents):
        if state.nodes[candidate].sealed:
            return candidate
    raise NotFoundError(f"{node} has no sealed ancestor")
