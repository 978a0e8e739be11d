"""The verbs that look after a repo: is it whole, what may be thrown away, where do the bytes go."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

import vzarr
from vzarr.cli.output import AsJson, RepoUrl, columns, emit, examples
from vzarr.overlay.gc import GRACE_SECONDS
from vzarr.overlay.opening import open_objects
from vzarr.overlay.verify import verify as look


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (verify, ("vzarr verify /data/fly", "vzarr verify /data/fly --version v1.0", "vzarr verify /data/fly --json")),
        (gc, ("vzarr gc /data/fly", "vzarr gc /data/fly --delete", "vzarr gc /data/fly --grace 0 --delete")),
    ):
        app.command(epilog=examples(*lines))(verb)


def gc(
    url: RepoUrl,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only listed.")] = False,
    grace: Annotated[float, typer.Option(metavar="HOURS", help="Leave alone what is younger.")] = GRACE_SECONDS / 3600,
    as_json: AsJson = False,
) -> None:
    """List what interrupted writes left behind, or remove it; versions are never touched."""
    with closing(vzarr.open(url)) as repo:
        found = repo.garbage(grace * 3600, delete=delete)
        table = columns("kind", "objects", "bytes", "where")
        for each in found:
            table.add_row(each.kind, str(each.objects), str(each.nbytes), escape(each.place))
        value = {"deleted": delete, "garbage": [asdict(each) for each in found]}
        emit(value, table if found else "nothing to remove", as_json=as_json)


def verify(
    url: RepoUrl,
    version: Annotated[
        str | None, typer.Option(metavar="REF", help="Only this version, and all that it needs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check log, seals, pages and every stored object; the exit status is 1 if anything is damaged."""
    found = list(look(open_objects(url), version))
    damaged = sum(f.damage for f in found)
    table = columns("finding", "where", "what")
    for finding in sorted(found, key=lambda f: not f.damage):
        table.add_row(finding.name, escape(finding.key), escape(finding.message))
    value = {"damaged": damaged, "findings": [asdict(f) for f in found]}
    emit(value, table if found else "all is well", as_json=as_json)
    if damaged:
        raise typer.Exit(1)
