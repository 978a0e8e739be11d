"""The verbs that compare versions, and say which version wrote what."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer
from rich.markup import escape

import vzarr
from vzarr.cli.arguments import AsJson, RepoUrl, examples
from vzarr.cli.output import columns, emit, moment, short, version_json
from vzarr.overlay.compare.blame import UNRESOLVED
from vzarr.overlay.compare.text import lines


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, shown in (
        (
            diff,
            (
                "vzarr diff /data/fly master~1 master",
                "vzarr diff /data/fly 3f8c side --stat",
                "vzarr diff /data/fly master~1 master --json",
            ),
        ),
        (blame, ("vzarr blame /data/fly segmentation/0", "vzarr blame /data/fly em/0 --version v1.0 --json")),
    ):
        app.command(epilog=examples(*shown))(verb)


def blame(
    url: RepoUrl,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Path of an array.", show_default=False)],
    version: Annotated[str, typer.Option(metavar="REF", help="Version to look at.")] = "master",
    as_json: AsJson = False,
) -> None:
    """Tell which versions wrote the chunks of an array, and how many each."""
    with closing(vzarr.open(url)) as repo:
        found = repo[version].blame(path)
        counts = found.counts()
        open_ones = counts.pop(UNRESOLVED, 0)
        rows = [{**version_json(repo[found.versions[n].id]), "chunks": c} for n, c in counts.items()]
        table = columns("version", "chunks", "branch", "created", "note")
        for row in rows:
            what = short(row["uuid"]), str(row["chunks"]), row["branch"], moment(row["created"]), row["note"]
            table.add_row(*map(escape, what))
        if open_ones:
            rows.append({"uuid": None, "chunks": open_ones, "note": "in conflict"})
            table.add_row("-", str(open_ones), "", "", "in conflict: merged versions changed them differently")
        emit(rows, table, as_json=as_json)


def diff(
    url: RepoUrl,
    a: Annotated[str, typer.Argument(metavar="A", help="First version.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="Second version.", show_default=False)],
    stat: Annotated[bool, typer.Option("--stat", help="Counts only, no boxes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: chunks, arrays, attributes, keys."""
    with closing(vzarr.open(url)) as repo:
        found = repo.diff(a, b)
        emit(found.to_json(boxes=not stat), "\n".join(lines(found, boxes=not stat)), as_json=as_json)
