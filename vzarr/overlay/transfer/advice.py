"""What to do about branches that grew on both sides, as the commands to run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import count

from vzarr.overlay.history.nodeinfo import MASTER
from vzarr.overlay.history.state import State


def commands(mine: str, here: State, theirs: str, there: State, branches: Sequence[str]) -> str:
    """The commands that bring branches together which grew in two repos.

    Parameters
    ----------
    mine, here
        Address and state of the repo in which they are merged.
    theirs, there
        The same of the other one.
    branches
        Their names.
    """
    aside = _aside(here, there, branches)
    first, lines, merges = list[str](), list[str](), list[str]()
    for branch in branches:
        if (leaf := here.leaf(branch)) is not None and not here.nodes[leaf].sealed:
            first.append(_line("commit", mine, branch))
        tip = next((node for node in there.back_from(branch) if there.nodes[node].sealed), "")
        if tip in here.nodes:
            other = here.nodes[tip].branch or "master"
            if other == branch:  # only an open version is in the way
                first.append(_line("commit", theirs, branch))
                lines = [_line("fetch", mine, theirs, "--as", aside)]
                other = f"{aside}-{branch}"
        else:
            lines = [_line("fetch", mine, theirs, "--as", aside)]
            other = f"{aside}-{branch}"
        merges.append(_line("merge", mine, branch, other))
    return ", then ".join([*first, *lines, *merges])


def _aside(here: State, there: State, branches: Sequence[str]) -> str:
    """A name for what is fetched: the one that an earlier part of it has, or one that is free."""
    for branch in branches:
        for node in there.back_from(branch):
            known = here.nodes[node].branch if node in here.nodes else ""
            if known.endswith(f"-{branch}"):
                return known.removesuffix(f"-{branch}")
            if known == (MASTER if branch == "master" else branch) and node in here.nodes:
                break
    names = (f"theirs{n or ''}" for n in count())
    taken = set(here.branches())
    return next(name for name in names if not any(f"{name}-{branch}" in taken for branch in branches))


def _line(*words: str) -> str:
    return f"`{shlex.join(('vzarr', *words))}`"
