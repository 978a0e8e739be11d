"""How the verbs answer: the ways to print, and the values that are printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from vzarr.overlay.version import Version

_LEAST = 20
"""Width that a table's last column has at least, where it needs so much."""


def emit(value: Any, text: str | Table, *, as_json: bool) -> None:
    """Print a result: as JSON for programs, else as text or a table for people."""
    if as_json:
        typer.echo(json.dumps(value, indent=2))
    elif isinstance(text, Table):
        print_table(text, Console())
    else:
        typer.echo(text)


def print_table(table: Table, console: Console) -> None:
    """Print a table of which nothing is cut: in files and pipes no line is broken, on a terminal only the last column.

    Where a terminal is too narrow for the columns before the last, lines are longer than it, and it wraps them.
    """
    wide = [max(Text.from_markup(str(c)).cell_len for c in (col.header, *col.cells)) + 2 for col in table.columns]
    least = sum(wide[:-1]) + min(wide[-1], _LEAST)
    console.width = max(console.width, least) if console.is_terminal else sum(wide)
    with console.capture() as drawn:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in drawn.get().splitlines()))


@contextmanager
def bar(unit: str = "objects") -> Iterator[Callable[[int | None, int], None]]:
    """A bar on a terminal's stderr; the context gives who is told of each part (see `copying.Progress`)."""
    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*shown, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(unit, total=None)
        yield lambda count, _size: progress.update(task, total=count, advance=1)


def columns(*names: str) -> Table:
    """Empty table of which only the last column may wrap."""
    table = Table(box=None)
    for name in names:
        table.add_column(name, no_wrap=name != names[-1])
    return table


def version_json(version: Version) -> dict[str, Any]:
    """One version as plain data."""
    info = version.info
    return {
        "uuid": info.id,
        "branch": info.branch or "master",
        "parents": list(info.parents),
        "sealed": info.sealed,
        "note": info.note,
        "created": info.created,
        "updated": info.updated,
    }


def conflict_json(conflict: Any) -> dict[str, Any]:
    """What stands against a merge, as plain data: a place with its voxels, a key, or what a datatype names."""
    plain = {**conflict._asdict(), "text": str(conflict)}
    return {k: v for k, v in plain.items() if v is not None}


def short(uuid: str) -> str:
    """Start of a uuid that is long enough for people; tags stay whole."""
    return uuid[:9] if len(uuid) == 32 else uuid


def moment(time: str) -> str:
    """RFC 3339 time as people read it, to the second."""
    return time[:19].replace("T", " ")


def state_word(sealed: bool) -> str:
    """How people are told whether a version can change."""
    return "sealed" if sealed else "open"
